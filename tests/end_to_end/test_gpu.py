"""What fake tensors cannot show, on a GPU: numbers in bfloat16 and compiled, transfers, waits, memory, and resumed runs.

python -m pytest -m gpu
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; read before the first one

import pytest
import torch

from maekit.build.prepare import random_task
from maekit.build.random_experiment import random_experiment
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.data.loading import Batch, loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.profiling.device_limits import peak_memory
from maekit.profiling.memory_estimate import step_memory
from maekit.profiling.trial import example_batch, repeat_samples
from maekit.runs.train import pretrain
from maekit.training.distributed import Process
from maekit.training.loop import TrainProgress
from maekit.training.run import Run
from maekit.training.step import TrainStep

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

PICTURES = [
    "adapter.size=128",
    "model.encoder={width: 384, depth: 6, heads: 6}",
    "model.decoder={width: 192, depth: 2, heads: 6}",
    "training.compile=false",
    "training.micro_batch=null",
]
"""A small masked autoencoder of pictures, whose micro-batch is the batch."""


@pytest.fixture
def process() -> Process:
    return Process(0, 1, torch.device(DEVICE))


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def picture_step(process: Process, *overrides: str, samples: int = 64) -> tuple[TrainStep, Batch]:
    """A step of `PICTURES` with its weights from the seed, and a batch on the device."""
    loaded = load_recipe("image/imagenet/pretrain_base_1600", [*PICTURES, *overrides])
    experiment = random_experiment(loaded, 256, {})
    torch.manual_seed(0)
    task = make_task(experiment).to(process.device)
    examples = example_batch(experiment.some_samples("train"))
    return TrainStep(task, loaded.recipe, process), to_device(repeat_samples(examples, samples), process.device)


def losses_and_gradient(step: TrainStep, batch: Batch, steps: int = 3) -> tuple[list[float], torch.Tensor]:
    """Losses of some steps at a small learning rate, and the gradient of the first, on the CPU."""
    for group in step.optimizer.param_groups:
        group["lr"] = 1e-4
    losses, gradient = [], torch.zeros(0)
    for number in range(steps):
        loss = step.forward_backward(batch).loss
        if number == 0:
            gradient = torch.cat([p.grad.flatten() for p in step.task.parameters() if p.grad is not None]).cpu()
        losses.append(step.optimizer_step(loss).loss)
    return losses, gradient


def similarity(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0).item()


def test_bfloat16_agrees_with_float32(process: Process) -> None:
    """A number in bfloat16 has 8 bits: losses agree to a percent, and the gradients point the same way."""
    exact, exact_gradient = losses_and_gradient(*picture_step(process, "training.precision=float32"))
    rounded, gradient = losses_and_gradient(*picture_step(process, "training.precision=bfloat16"))
    assert rounded == pytest.approx(exact, rel=1e-2)
    assert rounded != exact
    assert similarity(gradient, exact_gradient) > 0.99


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 1e-2)])
def test_compiled_agrees_with_eager(precision: str, tolerance: float, process: Process) -> None:
    eager, eager_gradient = losses_and_gradient(*picture_step(process, f"training.precision={precision}"))
    step, batch = picture_step(process, f"training.precision={precision}", "training.compile=true")
    assert step.compiled is not step.module
    compiled, gradient = losses_and_gradient(step, batch)
    assert compiled == pytest.approx(eager, rel=tolerance)
    assert similarity(gradient, eager_gradient) > 0.99


def test_pinned_and_prefetched_batches_are_those_of_the_cpu(tiny: Path, process: Process) -> None:
    """Each is copied without waiting, while workers make the next, and is compared only at the end."""
    samples = random_task(tiny)[0].some_samples("train", augment=True)

    def batches(workers: int, pin: bool) -> Iterator[Batch]:
        sampler = BatchSampler(len(samples), 4, seed=1)
        sampler.start_at(0)
        yield from loader(samples, sampler, workers=workers, pin=pin)

    expected = list(batches(0, pin=False))
    copied = []
    for batch in batches(2, pin=True):
        assert DEVICE == "cpu" or all(value.is_pinned() for value in batch.values())
        copied.append(to_device(batch, process.device))
    assert len(copied) == len(expected) == 5
    for one, other in zip(copied, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value.cpu(), other[name], rtol=0, atol=0)


def test_forward_and_backward_wait_for_nothing(process: Process) -> None:
    """The GPU gets its work while it computes; only the optimizer's step waits, for the loss that it logs."""
    step, batch = picture_step(process, "training.precision=bfloat16")
    losses_and_gradient(step, batch, steps=2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step.forward_backward(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("here", [True, False])
def test_peak_memory_is_the_estimate(
    here: bool, precision: str, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the estimate that a machine without a GPU makes. Activations of the large batch outweigh what libraries keep."""
    samples = 512
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    step, batch = picture_step(process, f"training.precision={precision}", samples=samples)
    losses_and_gradient(step, batch)
    torch.cuda.synchronize()
    peak = peak_memory(process.device)["tensors"] - before
    loaded = load_recipe("image/imagenet/pretrain_base_1600", [*PICTURES, f"training.precision={precision}"])
    experiment = random_experiment(loaded, 256, {})
    examples = example_batch(experiment.some_samples("train"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    estimate = step_memory(make_task(experiment), examples, samples, loaded.recipe, process)
    assert peak == pytest.approx(estimate.total, rel=0.15)


class StopError(Exception):
    """Stands for the end of the process."""


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_resumed_run_is_bit_equal(precision: str, tiny: Path, tmp_path: Path) -> None:
    overrides = [f"training.precision={precision}"]

    def losses(folder: Path) -> list[float]:
        return [row["loss"] for row in Run(folder).rows() if row["kind"] == "train"]

    def stop(progress: TrainProgress) -> None:
        if progress.step == 7:
            raise StopError

    whole = losses(pretrain(tiny, runs=tmp_path / "whole", device=DEVICE, overrides=overrides).folder)
    with pytest.raises(StopError):
        pretrain(tiny, runs=tmp_path, device=DEVICE, overrides=overrides, watch=stop)
    folder = pretrain(tiny, runs=tmp_path, device=DEVICE, overrides=overrides).folder
    assert losses(folder) == whole
    decided = load_recipe(folder / "recipe.yaml").recipe.training.precision
    assert decided == ("bfloat16" if precision == "auto" and DEVICE == "cuda" else "float32")
