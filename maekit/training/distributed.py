"""One process or many: what `torchrun` says about this one, and how a task is spread over all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from maekit.errors import UserError
from maekit.training.device import float32_products, keep_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.tasks.task import Task

Parallel = Literal["ddp", "fsdp2"]


@dataclass(frozen=True, slots=True)
class Process:
    """This process among all, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str | None = None, *, alone: bool = False) -> Iterator[Process]:
    """Join the processes that `torchrun` started (alone without it), set up for the device; leave them at the end.

    Args:
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.
        alone: join nobody; for what one process does when the others may have ended.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    keep_memory(torch.device(name))
    if alone or "WORLD_SIZE" not in os.environ:
        with float32_products(torch.device(name)):
            yield Process(0, 1, torch.device(name))
        return
    local = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if name == "cuda" else torch.device(name)
    if local.type == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if local.type == "cuda" else "gloo")
    try:
        with float32_products(local):
            yield Process(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def parallelize(task: Task, process: Process, parallel: Parallel) -> nn.Module:
    """The module whose call runs the task on all processes (the task itself where there is one)."""
    if process.world_size == 1:
        return task
    if parallel == "fsdp2":
        for block in task.blocks:
            fully_shard(block)
        fully_shard(task)
        register_fsdp_forward_method(task, "eval_step")
        return task
    devices = None if process.device.type == "cpu" else [process.device]
    return DistributedDataParallel(task, device_ids=devices, gradient_as_bucket_view=True)


def synchronise_gradients(module: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass averages gradients over processes: only the last of accumulated ones does."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = wanted
    elif isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)


def reduce_step(loss: Tensor, norm: Tensor, stop: bool, process: Process) -> tuple[float, float, bool]:
    """What all processes go by after a backward pass, in one exchange and one wait for the device.

    Args:
        loss: of this process.
        norm: of the gradients, which processes share by now.
        stop: whether this process was asked to.
        process: this process among all.

    Returns:
        The mean loss, the norm, and whether any process was asked to stop.
    """
    # Filled on the device: a number copied there would be waited for.
    shared = torch.stack([loss, torch.full_like(loss, float(stop))])
    if process.world_size > 1:
        dist.all_reduce(shared)
    mean, wanted, length = torch.cat([shared, norm.float().view(1)]).tolist()
    return mean / process.world_size, length, wanted > 0


def mean_over_processes(value: Tensor, process: Process) -> Tensor:
    """The mean of a scalar over all processes."""
    if process.world_size > 1:
        dist.all_reduce(value)
        value = value / process.world_size
    return value


def check_agreement(step: int, location: str, process: Process) -> None:
    """That all processes go on from the same step.

    Raises:
        UserError: they do not see the same run folder.
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
            expected="one folder for all",
            hint="Put --runs on storage that all machines share.",
        )


def gather_rows(rows: dict[str, Tensor], process: Process) -> dict[str, Tensor]:
    """The rows of all processes, on the CPU, in the order of `index`, each sample once."""
    if process.world_size > 1:
        parts: list[dict[str, Tensor]] = [{} for _ in range(process.world_size)]
        dist.all_gather_object(parts, rows)
        parts = [part for part in parts if part]
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    index, order = rows["index"].sort(stable=True)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return {name: values[order[first]] for name, values in rows.items()}
