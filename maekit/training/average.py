"""A moving average of the weights, which is what is evaluated and handed on where a recipe asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from maekit.tasks.task import Task


def moving_average(task: Task, decay: float | None) -> AveragedModel | None:
    """average = decay * average + (1 - decay) * weights after every step, beginning with those of the first; None without decay.

    Buffers (normalisation, statistics of a probe) are averaged alike.
    """
    if decay is None:
        return None
    mean: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(task, multi_avg_fn=mean, use_buffers=True)


def averaged(task: Task, average: AveragedModel | None) -> Task:
    """The task to evaluate: with averaged weights where there are any."""
    return task if average is None else average.module  # type: ignore[return-value]
