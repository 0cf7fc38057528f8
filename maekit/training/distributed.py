"""One process or many: the process group that `torchrun` starts, and how a task is distributed over it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maekit.errors import UserError
from maekit.training.device import fast_float32_matmul, find_device, keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.tasks.task import Task

Parallel = Literal["ddp", "fsdp2"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """This process: its place among all, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str | None = None, *, alone: bool = False) -> Iterator[Process]:
    """Join the process group that `torchrun` started, and leave it when the block ends.

    Without `torchrun` this is the only process. Device settings (see `maekit.training.device`) are applied too.

    Args:
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.
        alone: join no group; for work that one process does when the others may have ended.

    Yields:
        This process.

    Raises:
        UserError: no such device.
    """
    local = find_device(device)
    keep_freed_memory(local)
    if alone or "WORLD_SIZE" not in os.environ:
        with fast_float32_matmul(local):
            yield Process(0, 1, local)
        return
    if local == torch.device("cuda"):
        local = find_device(f"cuda:{os.environ['LOCAL_RANK']}")
    if local.type == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if local.type == "cuda" else "gloo")
    try:
        with fast_float32_matmul(local):
            yield Process(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def parallelize(task: Task, process: Process, parallel: Parallel) -> nn.Module:
    """Wrap a task in DDP, or shard it with FSDP2, one shard group a block; a single process returns the task itself."""
    if process.world_size == 1:
        return task
    if parallel == "fsdp2":
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for block in task.blocks:
            fully_shard(block)
        fully_shard(task)
        for method in ("eval_step", "train_rows"):
            register_fsdp_forward_method(task, method)
        return task
    devices = None if process.device.type == "cpu" else [process.device]
    return DistributedDataParallel(task, device_ids=devices, gradient_as_bucket_view=True)


def set_gradient_sync(module: nn.Module, enabled: bool) -> None:
    """Set whether the next backward pass averages gradients over processes; needed for the last micro-batch only."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = enabled
    elif (set_sync := getattr(module, "set_requires_gradient_sync", None)) is not None:  # sharded
        set_sync(enabled)


def reduce_step(loss: Tensor, norm: Tensor, stop: bool, process: Process) -> tuple[float, float, bool]:
    """Share a step's numbers among processes, with one all-reduce and one wait for the device.

    Args:
        loss: of this process, a scalar.
        norm: of the gradients, which are the same on all processes already.
        stop: whether this process was asked to stop.
        process: this process.

    Returns:
        The mean loss, the norm, and whether any process was asked to stop.
    """
    # `full_like` fills on the device; copying a number there would wait for it.
    shared = torch.stack([loss, torch.full_like(loss, float(stop))])
    if process.world_size > 1:
        dist.all_reduce(shared)
    loss_sum, stops, norm_value = torch.cat([shared, norm.float().view(1)]).tolist()
    return loss_sum / process.world_size, norm_value, stops > 0


def reduce_mean(value: Tensor, process: Process) -> Tensor:
    """Average a scalar over all processes."""
    if process.world_size > 1:
        dist.all_reduce(value)
        value = value / process.world_size
    return value


def choice_of_first(value: T, process: Process) -> T:
    """What the first process chose, on all of them."""
    values = [value]
    if process.world_size > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def check_agreement(step: int, location: str, process: Process) -> None:
    """Check that all processes resume from the same step.

    Raises:
        UserError: they do not share the run folder at `location`.
    """
    if process.world_size == 1:
        return
    steps = torch.tensor([step, -step], device=process.device)
    dist.all_reduce(steps, dist.ReduceOp.MAX)
    last, first = steps[0].item(), -steps[1].item()
    if last != first:
        raise UserError(
            "processes found different checkpoints in the run folder",
            location=location,
            value=f"steps {first} and {last}",
            expected="the same folder on every machine",
            hint="Put --runs on storage that all machines share.",
        )


def gather_rows(rows: dict[str, Tensor], process: Process) -> dict[str, Tensor]:
    """Gather the rows of all processes, on the CPU, in the order of `index`, each sample once."""
    if process.world_size > 1:
        parts: list[dict[str, Tensor]] = [{} for _ in range(process.world_size)]
        dist.all_gather_object(parts, rows)
        parts = [part for part in parts if part]
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    index, order = rows["index"].sort(stable=True)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return {name: values[order[first]] for name, values in rows.items()}
