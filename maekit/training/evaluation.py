"""Evaluation: a task's metrics over samples, each counted once however many processes share the work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.training.distributed import Process, gather_rows

if TYPE_CHECKING:
    from maekit.data.loading import Samples
    from maekit.tasks.task import EvalRows, Task

Precision: TypeAlias = Callable[[], AbstractContextManager[Any]]
"""Makes the autocast context of a forward pass."""


def evaluate(
    task: Task,
    samples: Samples,
    process: Process,
    *,
    micro_batch: int,
    workers: int = 0,
    precision: Precision = nullcontext,
) -> dict[str, float]:
    """Compute the metrics of `task` over all `samples`; the arguments are those of `eval_rows`."""
    rows = eval_rows(task, samples, process, micro_batch=micro_batch, workers=workers, precision=precision)
    return task.compute_metrics(rows)


def eval_rows(
    task: Task,
    samples: Samples,
    process: Process,
    *,
    micro_batch: int,
    workers: int = 0,
    precision: Precision = nullcontext,
) -> EvalRows:
    """Run the task's `eval_step` over all `samples`.

    Args:
        task: moved to the device of `process`.
        samples: prepared samples, shared out among the processes.
        process: this process.
        micro_batch: samples that one process takes at once.
        workers: worker processes that prepare samples.
        precision: makes the autocast context of a forward pass.

    Returns:
        Rows of all samples on the CPU, the same on every process, in the order of `index`.
    """
    task.to(process.device)
    sampler = BatchSampler(
        len(samples), micro_batch * process.world_size, rank=process.rank, world_size=process.world_size, shuffle=False
    )
    batches = loader(samples, sampler, workers=workers, pin=process.device.type == "cuda")
    was_training = task.training
    task.eval()
    parts: list[dict[str, Tensor]] = []
    for batch in batches:
        with torch.no_grad(), precision():
            rows = task.eval_step(to_device(batch, process.device))
        parts.append({name: value.cpu() for name, value in rows.items()})
    task.train(was_training)
    return gather_rows({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, process)
