"""An exponential moving average (EMA) of the weights; where a recipe asks for one, it is evaluated and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from maekit.tasks.task import Task


def make_average(task: Task, decay: float | None) -> AveragedModel | None:
    """Make the average that every step updates: average = decay * average + (1 - decay) * weights.

    The first update copies the weights. Buffers (normalisation, batch statistics of a probe) are averaged as well.

    Returns:
        The average, or None where `decay` is None.
    """
    if decay is None:
        return None
    update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(task, multi_avg_fn=update, use_buffers=True)


def averaged_task(task: Task, average: AveragedModel | None) -> Task:
    """Return the task with averaged weights, or `task` itself where there is no average."""
    return task if average is None else average.module  # type: ignore[return-value]
