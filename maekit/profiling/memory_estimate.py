"""What a training step costs, known before it runs: the step itself, taken on tensors that have shapes but no content."""

from __future__ import annotations

import copy
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from maekit.training.distributed import Process
from maekit.training.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch
    from maekit.tasks.task import Task


Mode: Any = TorchDispatchMode
"""Sees every operation; it has no types that mypy could check."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of tensors at the peak of a step: what stays (weights with their average, optimizer) and what comes and goes."""

    weights: int
    optimizer: int
    passing: int

    @property
    def total(self) -> int:
        """All of it; the libraries' own memory comes on top."""
        return self.weights + self.optimizer + self.passing


def product_flops(task: Task, batch: Batch) -> float:
    """Floating-point operations of all matrix products of one sample, forward and backward, as the step executes them.

    A multiplication and an addition count two. Attention is counted by its two products, whatever kernel computes it,
    and nothing is counted twice that activation checkpointing computes twice. Samples count as measured throughout.

    Args:
        task: as it is made, not yet told to recompute.
        batch: some samples; only shapes are looked at.
    """
    with _without_content() as mode, sdpa_kernel(SDPBackend.MATH), _Numbers():
        device = torch.device("cpu")
        shell, counter = _shell(task, mode, device).train(), FlopCounterMode(display=False)
        with counter:
            shell(_empty(batch, 2, device)).backward()
    return counter.get_total_flops() / 2


def step_memory(task: Task, batch: Batch, samples: int, recipe: Recipe, process: Process) -> Memory:
    """Peak memory of a step of one process that takes `samples` at once.

    Counted are all tensors that live at the same time; what a kernel takes inside and what an allocator keeps in reserve
    is not. Samples count as measured throughout.

    Args:
        task: as it is made.
        batch: some samples; only shapes are looked at.
        samples: in a micro-batch.
        recipe: its `optimizer` and `training` are read.
        process: gives the device, whose kernels decide what is kept; with more than one, what they share is counted in:
            buckets of gradients (ddp) or sharded weights, gradients and optimizer (fsdp2).
    """
    device = torch.device("cpu") if process.device.type == "meta" else process.device
    plain = recipe.training.model_copy(update={"compile": False, "ema": None})
    eager = recipe.model_copy(update={"training": plain})
    with _without_content() as mode:
        shell, live = _shell(task, mode, device), _Live()
        weights = live.hold((*shell.parameters(), *shell.buffers()))
        with live, _Numbers():
            step = TrainStep(shell, eager, Process(0, 1, device))
            trained = [p for p in shell.parameters() if p.requires_grad]
            for parameter in trained:  # the optimizer makes its state with the first step
                parameter.grad = torch.zeros_like(parameter)
            step.optimizer_step(torch.zeros((), device=device))
            live.peak = live.now
            optimizer = sum(t.nbytes for t in tree_iter(dict(step.optimizer.state)) if isinstance(t, Tensor))
            loss = torch.zeros((), device=device)
            for _ in range(min(step.gradient_accumulation_steps, 2)):
                loss += step.forward_backward(_empty(batch, samples, device))
            step.optimizer_step(loss)
        gradients = sum(p.nbytes for p in trained)
    passing = live.peak - optimizer
    if recipe.training.ema is not None:
        weights *= 2
    if process.world_size > 1 and recipe.training.parallel == "ddp":
        passing += gradients
    elif process.world_size > 1:
        passing -= gradients - gradients // process.world_size
        weights, optimizer = weights // process.world_size, optimizer // process.world_size
    return Memory(weights, optimizer, passing)


@contextmanager
def _without_content() -> Iterator[FakeTensorMode]:
    """Inside, tensors are made and computed without memory and without arithmetic."""
    state = torch.get_rng_state()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    torch.set_rng_state(state)


def _shell(task: Task, mode: FakeTensorMode, device: torch.device) -> Task:
    """The task with weights that have no content."""
    memo: dict[int, Any] = {}
    for parameter in task.parameters():
        memo[id(parameter)] = nn.Parameter(mode.from_tensor(parameter.detach()).to(device), parameter.requires_grad)
    for buffer in task.buffers():
        memo[id(buffer)] = mode.from_tensor(buffer).to(device)
    with FakeCopyMode(mode):
        return copy.deepcopy(task, memo)


def _empty(batch: Batch, samples: int, device: torch.device) -> Batch:
    return {
        name: torch.empty((samples, *value.shape[1:]), dtype=value.dtype, device=device)
        for name, value in batch.items()
        if name != "valid"  # how much is missing decides shapes, which only content would tell
    }


class _Numbers(Mode):
    """A number that is read out of a tensor without content is 1: a seed that was drawn, a loss that is finite."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
        return func(*args, **(kwargs or {}))


class _Live(Mode):
    """Bytes of all storages that live at the same time, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def hold(self, tensors: Any) -> int:
        """Take note of tensors that are there already and stay; they are not counted here.

        Returns:
            Their bytes.
        """
        found = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            found += 0 if storage._cdata in self._known else storage.nbytes()
            self._known[storage._cdata] = 0
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._known:
                storage = tensor.untyped_storage()
                self._known[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage._cdata)
        return out

    def _freed(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)
