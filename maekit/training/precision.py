"""The precision of matrix products where a recipe says `auto`: that of a run that goes on, or the faster one on this device."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from maekit.training.distributed import Process, choice_of_first

if TYPE_CHECKING:
    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch
    from maekit.tasks.task import Task
    from maekit.training.device import Precision

logger = logging.getLogger(__name__)

GAIN = 1.1
"""How many times faster bfloat16 must be on a CPU to be worth its rounding."""
SIDE = 256
"""Of the square product that is timed first: less than a millisecond in float32, a tenth of a second without bfloat16 units."""
SAMPLES = 8
"""Samples of the step that is timed, at most."""
REPEATS, TIMED_S, HOPELESS = 5, 1.0, 5.0
"""Of a timing: how often it is repeated at most, for how long, and at how many times the other's duration it is given up."""


def resolve_precision(
    recipe: Recipe, task: Task, make_batch: Callable[[], Batch], process: Process, *, recorded: Precision | None = None
) -> Recipe:
    """Replace the precision `auto` of a recipe by a decision, the same on every process.

    On a GPU it is bfloat16 where that is supported. On a CPU a product is timed in both precisions and, where bfloat16 is
    faster, forward and backward pass of a few samples. Neither weights nor random numbers change.

    Args:
        recipe: its precision is read.
        task: new.
        make_batch: makes a batch of some training samples, `SAMPLES` at most; called where a step is timed.
        process: this process.
        recorded: precision of a run that goes on; for one from before there were decisions, `auto`.
    """
    precision: Precision = recipe.training.precision
    if precision != "auto":
        return recipe
    if recorded is not None:
        precision = recorded
    elif process.device.type == "cuda":
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    elif process.device.type == "cpu":
        ours = _faster_on_cpu(task, make_batch) if process.first else "float32"
        precision = choice_of_first(ours, process)
    else:
        precision = "float32"
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})


def _faster_on_cpu(task: Task, make_batch: Callable[[], Batch]) -> Precision:
    x = torch.ones(SIDE, SIDE)
    product = _speedup(lambda: x @ x)
    if product < GAIN:
        return "float32"
    trial, batch = copy.deepcopy(task).train(), make_batch()
    step = _speedup(lambda: trial(batch).loss, backward=True)
    logger.info("precision auto: in bfloat16 a product is %.2f times as fast, a step %.2f times", product, step)
    return "bfloat16" if step >= GAIN else "float32"


def _speedup(forward: Callable[[], torch.Tensor], *, backward: bool = False) -> float:
    """How many times faster something is in bfloat16."""

    def call(enabled: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result: Any = forward()
        if backward:
            result.backward()

    with torch.random.fork_rng(devices=[]):
        exact = _seconds(partial(call, False), give_up=float("inf"))
        return exact / _seconds(partial(call, True), give_up=HOPELESS * exact)


def _seconds(call: Callable[[], None], *, give_up: float) -> float:
    """Shortest duration of a call after a first one, which also prepares kernels; none is repeated that takes `give_up`."""
    best, started = float("inf"), time.perf_counter()
    for attempt in range(1 + REPEATS):
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        if attempt:
            best = min(best, ended - began)
        if attempt and (best > give_up or ended - started > TIMED_S):
            break
    return best
