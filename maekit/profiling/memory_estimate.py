"""Memory and operations of a training step, computed by running it on tensors that have shapes but no content."""

from __future__ import annotations

import copy
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
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


_IS_CUDA = Tensor.is_cuda.__get__  # type: ignore[attr-defined]

Mode: Any = TorchDispatchMode
"""Base of what intercepts every operation; untyped, because torch gives it no types that mypy could check."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of tensors at the peak of a step.

    Attributes:
        weights: parameters and buffers, and their moving average.
        optimizer: state of the optimizer.
        transient: gradients, activations and the batch.
        kept: of those, the batch and what the forward pass of a micro-batch keeps for the backward pass.
    """

    weights: int
    optimizer: int
    transient: int
    kept: int

    @property
    def total(self) -> int:
        """Bytes of all tensors; memory of the libraries themselves comes on top."""
        return self.weights + self.optimizer + self.transient


def product_flops(task: Task, batch: Batch) -> float:
    """Count the floating-point operations of all matrix products of one sample, forward and backward.

    A multiplication with an addition counts two. Attention counts with its two products, whatever kernel computes it.
    What activation checkpointing computes again is not counted again. Samples count as if all their values were valid.

    Args:
        task: new, without activation checkpointing.
        batch: some samples; only their shapes are used.
    """
    with _fake_tensors() as mode, sdpa_kernel(SDPBackend.MATH), _FakeScalars():
        device = torch.device("cpu")
        fake_task, counter = _fake_copy(task, mode, device).train(), FlopCounterMode(display=False)
        with counter:
            fake_task(_empty_batch(batch, 2, device)).loss.backward()
    return counter.get_total_flops() / 2


def step_memory(task: Task, batch: Batch, samples: int, recipe: Recipe, process: Process) -> StepMemory:
    """Estimate the peak memory of a step on one process.

    All tensors that are alive at the same time are counted. Memory that kernels use internally or that an allocator
    keeps in reserve is not. Samples count as if all their values were valid.

    Args:
        task: new.
        batch: some samples; only their shapes are used.
        samples: in a micro-batch.
        recipe: its `optimizer` and `training` are read.
        process: its device decides which activations the kernels save; a GPU need not be there. With more than one
            process, gradient buckets (ddp) or the sharding of weights, gradients and optimizer state (fsdp2) are taken
            into account.
    """
    absent = process.device.type == "cuda" and not torch.cuda.is_available()
    device = torch.device("cpu") if absent or process.device.type == "meta" else process.device
    plain = recipe.training.model_copy(update={"compile": False, "ema": None})
    eager = recipe.model_copy(update={"training": plain})
    with _fake_tensors() as mode, _BranchesOfGPU() if absent else nullcontext():
        fake_task, tracker = _fake_copy(task, mode, device), LiveBytes()
        kept: list[int] = []
        fake_task.register_forward_hook(lambda *_: kept.append(tracker.now))
        weights = tracker.exclude((*fake_task.parameters(), *fake_task.buffers()))
        with tracker, _FakeScalars():
            step = TrainStep(fake_task, eager, Process(0, 1, device))
            trainable = [p for p in fake_task.parameters() if p.requires_grad]
            for parameter in trainable:  # the optimizer creates its state in its first step
                parameter.grad = torch.zeros_like(parameter)
            step.optimizer_step(torch.zeros((), device=device))
            tracker.peak = state = tracker.now
            optimizer = sum(t.nbytes for t in tree_iter(dict(step.optimizer.state)) if isinstance(t, Tensor))
            loss = torch.zeros((), device=device)
            for _ in range(min(recipe.training.micro_batches(process.world_size), 2)):
                loss += step.forward_backward(_empty_batch(batch, samples, device)).loss
            step.optimizer_step(loss)
        gradients = sum(p.nbytes for p in trainable)
    transient = tracker.peak - optimizer
    if recipe.training.ema is not None:
        weights *= 2
    if process.world_size > 1 and recipe.training.parallel == "ddp":
        transient += gradients
    elif process.world_size > 1:
        transient -= gradients - gradients // process.world_size
        weights, optimizer = weights // process.world_size, optimizer // process.world_size
    return StepMemory(weights, optimizer, transient, kept[0] - state)


@contextmanager
def _fake_tensors() -> Iterator[FakeTensorMode]:
    """Let tensors that the block creates have shapes but neither memory nor values."""
    state = torch.get_rng_state()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    torch.set_rng_state(state)


def _fake_copy(task: Task, mode: FakeTensorMode, device: torch.device) -> Task:
    """Copy a task, with fake tensors for its weights."""
    memo: dict[int, Any] = {}
    for parameter in task.parameters():
        memo[id(parameter)] = nn.Parameter(mode.from_tensor(parameter.detach()).to(device), parameter.requires_grad)
    for buffer in task.buffers():
        memo[id(buffer)] = mode.from_tensor(buffer).to(device)
    with FakeCopyMode(mode):
        return copy.deepcopy(task, memo)


def _empty_batch(batch: Batch, samples: int, device: torch.device) -> Batch:
    return {
        name: torch.empty((samples, *value.shape[1:]), dtype=value.dtype, device=device)
        for name, value in batch.items()
        if name != "valid"  # shapes inside the step depend on its values, which a fake tensor does not have
    }


class _BranchesOfGPU(TorchFunctionMode):
    """Lets every tensor say that it is on a GPU, so that a step takes the branches that it takes there.

    The tensors are on the CPU, because autograd of a torch without a CUDA device refuses others. There, too, fused attention
    keeps its output and the logarithms of its sums, not the matrix of scores.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func == _IS_CUDA else func(*args, **(kwargs or {}))


class _FakeScalars(Mode):
    """Makes 1 of every number that is read from a fake tensor, such as a random seed or the loss."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
        return func(*args, **(kwargs or {}))


class LiveBytes(Mode):
    """Tracks the bytes of all storages that are alive: `now`, and at the `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def exclude(self, tensors: Any) -> int:
        """Leave tensors that exist already out of the count.

        Returns:
            Their bytes.
        """
        excluded = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            excluded += 0 if storage._cdata in self._sizes else storage.nbytes()
            self._sizes[storage._cdata] = 0
        return excluded

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._sizes:
                storage = tensor.untyped_storage()
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage._cdata)
        return out

    def _freed(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)
