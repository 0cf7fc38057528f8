"""Each kind of task on one of four processes whose partners are not there: the wrapping, hooks and collectives of real ones."""

# No `from __future__ import annotations`: DistributedDataParallel reads the annotations of a hook.
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fake_gpu import fake_copies, fake_streams
from recipe_stand_ins import stand_in_task
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from maekit.config.load import load_recipe
from maekit.config.schema import Recipe
from maekit.training.device import Precision
from maekit.training.distributed import Parallel, Process
from maekit.training.step import TrainStep

PROCESSES = 4
TRANSFORMER = "model.encoder={width: 16, depth: 2, heads: 2}"
DECODER = "model.decoder={width: 8, depth: 1, heads: 2}"
TASKS = {
    "pretraining": ("image/cifar10_pretrain", TRANSFORMER, DECODER),
    "a convolutional encoder": ("heart_rate/radar_phase_cnn_pretrain",),
    "two signals": ("range_azimuth/street_both_pretrain", TRANSFORMER, DECODER, "task=joint"),
    "tokenizer": (
        "image/imagenet/tokenizer",
        "adapter.size=32",
        "task={name: tokenizer, width: 16, depth: 1, heads: 2}",
    ),
    "classification, Mixup and CutMix": ("image/cifar10_finetune", TRANSFORMER),
    "a frozen encoder": ("image/cifar10_finetune", TRANSFORMER, "task={name: classification, tune: frozen}"),
    "regression": ("heart_rate/demo_finetune", TRANSFORMER),
    "a distribution": ("heart_rate/radar_simulated_finetune",),
    "detection": ("range_doppler/street_boxes_finetune", TRANSFORMER),
}


@pytest.fixture(autouse=True)
def _partners() -> Iterator[None]:
    """A process group whose collectives change nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=PROCESSES)
    yield
    dist.destroy_process_group()


def spread(recipe: Recipe, parallel: Parallel, precision: Precision, checkpointing: bool) -> Recipe:
    options = {
        "parallel": parallel,
        "precision": precision,
        "activation_checkpointing": checkpointing,
        "batch_size": 32,
        "micro_batch": 4,  # two at each of four processes
        "ema": None,
        "compile": False,
    }
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=options)})


def averaged_alone(state: object, bucket: dist.GradBucket) -> Future[torch.Tensor]:  # type: ignore[name-defined]
    """The stand-in for the group's all-reduce, which gives no result to DistributedDataParallel."""
    done: Future[torch.Tensor] = Future()
    done.set_result(bucket.buffer())
    return done


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
@pytest.mark.parametrize("kind", TASKS)
def test_two_steps_and_an_evaluation(kind: str, parallel: Parallel, tmp_path: Path) -> None:
    """Gradients are accumulated and then averaged; in the second step DDP refuses parameters that got no gradient."""
    name, *overrides = TASKS[kind]
    task, batch = stand_in_task(name, tmp_path, *overrides)
    recipe = spread(load_recipe(name, overrides).recipe, parallel, "bfloat16", checkpointing=parallel == "fsdp2")
    step = TrainStep(task, recipe, Process(0, PROCESSES, torch.device("cpu")))
    assert step.gradient_accumulation_steps == 2
    if isinstance(step.module, DistributedDataParallel):
        step.module.register_comm_hook(None, averaged_alone)
    else:
        assert all(isinstance(parameter, DTensor) for parameter in task.parameters())
    for _ in range(2):
        loss = step.forward_backward(batch, last=False).loss + step.forward_backward(batch).loss
        step.optimizer_step(loss)
        step.optimizer.step()  # also where what the absent partners sent is no number
    task.eval()
    with torch.no_grad():
        assert len(task.eval_step(batch)["index"]) == len(batch["index"])


@pytest.mark.parametrize("kind", sorted(set(TASKS) - {"a convolutional encoder", "a frozen encoder"}))
def test_sharded_on_a_gpu(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and evaluation of what FSDP2 has sharded: no devices are mixed, and none is waited for."""
    for module in ("maekit.adapter.front", "maekit.tasks.mixing"):
        monkeypatch.setattr(f"{module}.draw_seed", lambda: 3)
    name, *overrides = TASKS[kind]
    task, batch = stand_in_task(name, tmp_path, *overrides)
    recipe = spread(load_recipe(name, overrides).recipe, "fsdp2", "float32", checkpointing=True)
    mesh = DeviceMesh("cpu", list(range(PROCESSES)))  # made of numbers, which no fake tensor has
    mesh._device_type = "cuda"
    monkeypatch.setattr("torch.distributed.fsdp._fully_shard._fully_shard._init_default_mesh", lambda: mesh)
    with fake_streams(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        task, batch = fake_copies(mode, task, batch)
        step = TrainStep(task, recipe, Process(0, PROCESSES, torch.device("cuda")))
        assert step.module(batch).loss.device.type == "cuda"
        task.eval()
        with torch.no_grad():
            rows = task.eval_step(batch)
    assert {value.device.type for value in rows.values()} == {"cuda"}
