"""A GPU that is not here: estimates of a step against arithmetic by hand, and the dry run that tells them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maekit.build.prepare import random_task
from maekit.config.load import load_recipe
from maekit.config.schema import Recipe
from maekit.data.loading import Batch
from maekit.errors import UserError
from maekit.profiling import gpu_step
from maekit.profiling.dry_run import dry_run
from maekit.profiling.gpu_step import GPUStep, largest_batch
from maekit.profiling.gpus import GPU, GPUS, StepBound
from maekit.profiling.memory_estimate import StepMemory, product_flops, step_memory
from maekit.profiling.trial import example_batch
from maekit.profiling.workload import Workload
from maekit.tasks.task import Task
from maekit.training.distributed import Process

ABSENT = Process(0, 1, torch.device("cuda"))


def test_activations_and_operations_of_a_transformer_equal_arithmetic(tiny: Path) -> None:
    """In bfloat16 with fused attention a token keeps 36 bytes per unit of width in each block.

    Kept are the inputs of both norms (2 x 4 bytes, float32), their outputs (2 x 2), queries, keys and values (6), the output of
    attention (2), and the hidden layer of the MLP before and after GELU (2 x 8); besides, the 12 x width^2 weights in bfloat16.
    A block costs 24 x width^2 operations a token forward and 4 x width a pair of tokens, and twice as many backward.
    """
    width, tokens, samples = 32, 6, 100

    def cost(depth: int) -> tuple[float, float]:
        overrides = [f"model.encoder={{width: {width}, depth: {depth}, heads: 2}}", "training.precision=bfloat16"]
        experiment, task = random_task(tiny, overrides=overrides)
        examples = example_batch(experiment.some_samples("train"))
        return step_memory(task, examples, samples, experiment.recipe, ABSENT).kept, product_flops(task, examples)

    (kept, flops), (more_kept, more_flops) = cost(1), cost(3)
    assert (more_kept - kept) / 2 == pytest.approx(
        36 * samples * tokens * width + 2 * 12 * width**2, rel=0.03
    )  # and statistics of the norms
    assert (more_flops - flops) / 2 == 3 * (24 * tokens * width**2 + 4 * tokens**2 * width)


@pytest.mark.parametrize(("limit", "start", "expected"), [(1000, 4, 40), (1000, 512, 40), (225, 1, 1), (224, 8, 0)])
def test_the_largest_batch_is_the_largest_that_fits(limit: int, start: int, expected: int) -> None:
    """Of a peak that is the optimizer's in small batches and the backward pass's in large ones."""
    tried: list[int] = []

    def memory(samples: int) -> float:
        tried.append(samples)
        return max(215 + 10 * samples, 20 * samples + 200)

    assert largest_batch(memory, limit, start) == expected
    assert len(tried) < 9


def test_a_step_is_bound_by_the_larger_of_computing_and_memory() -> None:
    assert (StepBound(2.0, 1.0).seconds, StepBound(2.0, 1.0).limit) == (2.0, "matrix products")
    assert (StepBound(1.0, 3.0).seconds, StepBound(1.0, 3.0).limit) == (3.0, "memory bandwidth")


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the slow parts: 1 kB a sample on top of 500 kB, half in bfloat16, and a million operations."""

    def memory(task: Task, batch: Batch, samples: int, recipe: Recipe, process: Process) -> StepMemory:
        assert process.device.type == "cuda"
        kept = samples * {"float32": 1000, "bfloat16": 500, "auto": 0}[recipe.training.precision]
        return StepMemory(100_000, 200_000, 200_000 + kept, kept)

    monkeypatch.setattr(gpu_step, "step_memory", memory)
    monkeypatch.setattr(gpu_step, "product_flops", lambda task, examples: 1e6)


@pytest.mark.usefixtures("simple")
def test_precision_processes_and_accumulation_count(tiny: Path) -> None:
    task = random_task(tiny)[1]
    gpu = GPU("small", memory=1e6, bandwidth=1e9, float32=1e9, bfloat16=1e10)

    def step(*overrides: str, processes: int = 1) -> GPUStep:
        workload = Workload(load_recipe(tiny, ["training.precision=auto", *overrides]).recipe, 20, 5, processes)
        return gpu_step.gpu_steps([gpu], task, {}, workload, Process(0, processes, torch.device("cuda")))[0]

    auto, exact = step(), step("training.precision=float32")
    assert (auto.precision, auto.fits, auto.largest, auto.flops) == ("bfloat16", True, 1000, 4e6)
    assert auto.bound == StepBound(4e6 / 1e10, auto.traffic / 1e9)
    assert (exact.precision, exact.largest, exact.bound.compute) == ("float32", 500, 4e6 / 1e9)
    assert step(processes=2).flops == 2e6
    weights = sum(p.nbytes for p in task.parameters())
    trained = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    # The weights are read; what is kept is written and read; so are gradients, weights and state in the update.
    assert auto.traffic == weights + 2 * 4 * 500 + 2 * (2 * trained + 200_000)
    assert step("training.gradient_accumulation_steps=2").traffic == auto.traffic + weights
    assert auto.traffic - step("training.parallel=fsdp2", processes=2).traffic == 2 * 2 * 500 + 2 * trained


@pytest.mark.usefixtures("simple")
def test_dry_run_for_a_gpu_that_is_not_here(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts() -> dict[str, str]:
        loaded = load_recipe(tiny, ["training.precision=auto"])
        return dict(dry_run(loaded, None, runs=tmp_path / "runs", device="h100").facts)

    told = facts()
    assert told["GPU"].startswith("H100 SXM: 80 GB, 989 TFLOP/s in bfloat16, 3.35 TB/s")
    assert told["fits"].endswith("of 80 GB with 4 at once: fits")
    assert "free" not in told["memory, estimated"]
    assert "10 steps: a lower bound" in told["time, at least"]
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert facts()["batch"] == "4 a step: 2 at once x 2 processes"
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UserError, match="does not divide into 8 processes"):
        facts()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="not a number of processes"):
        facts()


@pytest.mark.usefixtures("simple")
def test_what_does_not_fit_is_said_with_a_batch_that_does(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ["training.precision=auto", "training.batch_size=2048", "schedule.samples_per_epoch=2048"]

    def fits(memory: float, *overrides: str) -> str:
        monkeypatch.setitem(GPUS, "h100", GPU("small", memory, 1e12, 1e12, 1e12))
        return dict(dry_run(load_recipe(tiny, [*batch, *overrides]), None, runs=tmp_path, device="h100").facts)["fits"]

    told = fits(1e6)
    assert told == "1.52 MB of 1 MB with 2,048 at once: DOES NOT FIT: try `--set training.micro_batch=1000`"
    assert fits(1e6, "training.micro_batch=1000").endswith("with 512 at once: fits")
    assert "nor does one sample" in fits(1e3)
