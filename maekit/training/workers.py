"""`workers: auto`: as many processes prepare samples as hide reading behind the step, measured in the first steps of a run."""

from __future__ import annotations

import logging
import os
import statistics
from math import ceil
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from maekit.training.distributed import Process

logger = logging.getLogger(__name__)

MEASURED_STEPS = 10
_HIDDEN_SHARE = 0.05
"""Share of a step's time up to which reading needs no process of its own."""
_RESERVE = 1.25
"""Reading varies from batch to batch; so much faster than the step it is made."""


def free_cores(process: Process) -> int:
    """Cores that neither the step nor another process of this machine computes on."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    computing = torch.get_num_threads() if process.device.type == "cpu" else 1
    # macOS does not tell which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // processes - computing, 0)


def workers_that_hide(reading: float, computing: float, cores: int) -> int:
    """Number of data workers.

    Args:
        reading: seconds in which one process reads and prepares the samples of a step.
        computing: seconds of a step without reading.
        cores: that are free.
    """
    if reading <= _HIDDEN_SHARE * computing:
        return 0
    return min(ceil(_RESERVE * reading / computing), cores)


class DataWorkers:
    """The number of data workers of a run, as the recipe states it or as it is measured.

    Attributes:
        number: to be used; 0 until it has been measured.
    """

    def __init__(self, stated: int | Literal["auto"], process: Process) -> None:
        self.number = 0 if stated == "auto" else stated
        self._measuring = stated == "auto"
        self._process = process
        self._reading: list[float] = []
        self._computing: list[float] = []

    def add_step(self, reading: float, computing: float) -> None:
        """Take note of a step's seconds; after `MEASURED_STEPS` of them, `number` is decided."""
        if not self._measuring:
            return
        self._reading.append(reading)
        self._computing.append(computing)
        if len(self._reading) < MEASURED_STEPS:
            return
        self._measuring = False
        # The first steps open files and fill caches.
        half = MEASURED_STEPS // 2
        reading, computing = (statistics.median(seconds[half:]) for seconds in (self._reading, self._computing))
        self.number = workers_that_hide(reading, computing, free_cores(self._process))
        logger.info(
            "training.workers: %d, since reading takes %.3g s a step and computing %.3g s, and %d cores are free",
            self.number,
            reading,
            computing,
            free_cores(self._process),
        )
