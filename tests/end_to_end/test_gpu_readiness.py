"""Every shipped recipe on fake tensors of a GPU: nothing is computed, but devices, shapes and waits are those of a real one."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpu import fake_copies
from recipe_stand_ins import stand_in_task
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maekit.config.load import load_recipe
from maekit.config.shipped import shipped_recipes
from maekit.data.loading import Batch
from maekit.tasks.task import Task, TaskOutput


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the lines of maekit that copy a tensor from one device to another."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note where it copied."""
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if "copy" in str(function) and len({tensor.device.type for tensor in tensors}) > 1:
            lines = [f for f in traceback.extract_stack() if "/maekit/" in f.filename or "/adapters/" in f.filename]
            self.lines.add(f"{lines[-1].filename}:{lines[-1].lineno} {lines[-1].line}" if lines else str(function))
        return result


def train_and_evaluate(task: Task, batch: Batch) -> None:
    task.train()
    task.train_rows(batch, task(batch).details)
    task.eval()
    with torch.no_grad():
        task.eval_step(batch)


def copies_in_a_step(task: Task, batch: Batch) -> set[str]:
    """Lines that copy between devices in the second step, after constants have been copied once.

    Raises:
        RuntimeError: tensors of different devices meet, or a value of the GPU is waited for.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        task, batch = fake_copies(mode, task, batch)
        train_and_evaluate(task, batch)
        with Copies() as copies:
            train_and_evaluate(task, batch)
    return copies.lines


@pytest.fixture(autouse=True)
def fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds for NumPy are drawn on the CPU, which is no wait; of a fake tensor there is no value."""
    for module in ("maekit.adapter.front", "maekit.tasks.mixing"):
        monkeypatch.setattr(f"{module}.draw_seed", lambda: 3)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_step_copies_nothing_and_waits_for_nothing(name: str, tmp_path: Path) -> None:
    assert not copies_in_a_step(*stand_in_task(name, tmp_path, *shallow(name)))


def shallow(name: str) -> list[str]:
    """Overrides that leave two blocks of a deep network; all blocks do the same on a device."""
    if not name.startswith("image/imagenet/") or "/partial/" in name or name.endswith("/tokenizer"):
        return []
    decoder = [] if load_recipe(name).recipe.task.name != "pretraining" else ["model.decoder.depth=2"]
    return ["model.encoder.depth=2", *decoder]


@pytest.mark.parametrize("recipe", ["heart_rate/radar_phase_pretrain", "image/imagenet/pretrain_base_800_cross"])
def test_gaps_are_not_waited_for(recipe: str, tmp_path: Path) -> None:
    """How many patches of a sample are valid is known on the device alone."""
    task, batch = stand_in_task(recipe, tmp_path)
    batch["valid"] = torch.rand(batch["signal"][:, 0].shape) < 0.999
    assert not copies_in_a_step(task, batch)


def changed(output: TaskOutput, change: Callable[[Tensor], Tensor]) -> TaskOutput:
    return output._replace(loss=change(output.loss))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda loss: loss * loss.item(), "_local_scalar_dense"),
        (lambda loss: loss + torch.ones(3), "same device, but found"),
    ],
)
def test_the_sweep_finds_waits_and_mixed_devices(
    broken: Callable[[Tensor], Tensor], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, batch = stand_in_task("heart_rate/radar_phase_pretrain", tmp_path)
    forward = task.forward
    monkeypatch.setattr(task, "forward", lambda batch: changed(forward(batch), broken))
    with pytest.raises(RuntimeError, match=message):
        copies_in_a_step(task, batch)


def test_the_sweep_finds_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch = stand_in_task("heart_rate/radar_phase_pretrain", tmp_path)
    forward = task.forward

    def copying(batch: Batch) -> TaskOutput:
        return changed(forward(batch), lambda loss: loss + torch.ones(()).to(batch["signal"].device))

    monkeypatch.setattr(task, "forward", copying)
    assert copies_in_a_step(task, batch)
