"""Timing of training steps and of reading samples, by running them.

Everything is warmed up, repeated a number of times that all processes agree on, and reported as a median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from maekit.data.loading import collate, loader, to_device
from maekit.data.sampler import BatchSampler, Key
from maekit.profiling.device_limits import synchronize
from maekit.training.distributed import Process, reduce_mean

if TYPE_CHECKING:
    from torch import Tensor

    from maekit.data.loading import Batch, Samples
    from maekit.training.step import TrainStep

MIN_REPEATS, MAX_REPEATS = 3, 300


@dataclass(frozen=True, slots=True)
class StepTiming:
    """Seconds that one process takes for a micro-batch that is on its device already.

    Attributes:
        samples: in the micro-batch.
        forward_backward: seconds of the micro-batch.
        optimizer: seconds of the optimizer, once a step.
        evaluation: seconds of the micro-batch in evaluation.
    """

    samples: int
    forward_backward: float
    optimizer: float
    evaluation: float

    def step(self, share: int) -> float:
        """Seconds of a step of which this process takes `share` samples."""
        return share * self.forward_backward / self.samples + self.optimizer


def time_step(step: TrainStep, batch: Batch, seconds: float) -> StepTiming:
    """Time a step on a batch on the device, for about `seconds` in all.

    The learning rate of a new optimizer is zero, so the weights do not change.
    """
    process = step.process
    no_loss = torch.zeros((), device=process.device)

    def evaluation() -> None:
        with torch.no_grad(), step.precision():
            step.task.eval_step(batch)

    step.optimizer_step(step.forward_backward(batch).loss)  # creates the optimizer's state, compiles
    forward_backward_s = median_seconds(lambda: step.forward_backward(batch), process, seconds / 2)
    step.optimizer_step(no_loss)
    step.forward_backward(batch)
    gradients = [(p, p.grad) for p in step.task.parameters() if p.grad is not None]

    def optimizer() -> None:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        step.optimizer_step(no_loss)

    optimizer_s = median_seconds(optimizer, process, seconds / 4)
    step.task.eval()
    evaluation_s = median_seconds(evaluation, process, seconds / 4)
    step.task.train()
    return StepTiming(len(batch["index"]), forward_backward_s, optimizer_s, evaluation_s)


def affordable_batch(step: TrainStep, make: Callable[[int], Batch], limit: int, seconds: float) -> int:
    """Find the largest micro-batch whose forward and backward pass takes at most `seconds`.

    It is found by doubling, so that the search costs little more than one such pass. Nothing is compiled for it.

    Args:
        step: the step.
        make: makes a batch of so many samples on the device.
        limit: the largest size to try.
        seconds: for one forward and backward pass.

    Returns:
        The number of samples, at least two unless `limit` is one.
    """
    number, cold = min(2, limit), True
    while True:
        batch = make(number)
        started = time.perf_counter()
        with step.precision():
            step.module(batch).loss.backward()
        synchronize(step.process.device)
        elapsed = _mean_over_processes(time.perf_counter() - started, step.process)
        step.optimizer.zero_grad(set_to_none=True)
        if cold:  # the first pass also loads libraries
            cold = False
            continue
        if number == limit or 2 * elapsed > seconds:
            return number
        number = min(2 * number, limit)


def median_seconds(call: Callable[[], object], process: Process, seconds: float) -> float:
    """Median duration of a call that is repeated for about `seconds`."""
    for _ in range(2):
        first = _elapsed(call, process)
    repeats = _repeats(_mean_over_processes(first, process), seconds)
    return _mean_over_processes(statistics.median(_elapsed(call, process) for _ in range(repeats)), process)


def endless_batches(
    samples: Samples, size: int, process: Process, *, workers: int, seed: int
) -> Generator[Batch, None, None]:
    """Yield micro-batches of `size` as training reads them, epoch after epoch."""
    all_processes = size * process.world_size
    sampler = BatchSampler(
        len(samples),
        all_processes,
        seed=seed,
        rank=process.rank,
        world_size=process.world_size,
        samples_per_epoch=max(len(samples), all_processes),
    )
    batches = loader(samples, sampler, workers=workers, pin=process.device.type == "cuda")
    for epoch in count():
        sampler.start_at(epoch)
        yield from batches


def throughput(
    batches: Iterator[Batch], use: Callable[[Batch], None], process: Process, seconds: float, *, skip: int
) -> float:
    """Samples a second of one process that uses batch after batch for about `seconds`.

    It is the median over three stretches, so that one pause of the machine does not count.

    Args:
        batches: endless.
        use: called with each batch.
        process: this process.
        seconds: of all three stretches.
        skip: batches that are used first, and not timed.
    """
    for batch in islice(batches, skip):
        use(batch)
    synchronize(process.device)
    started = time.perf_counter()
    for batch in islice(batches, 2):
        use(batch)
    synchronize(process.device)
    per_batch = _mean_over_processes(time.perf_counter() - started, process) / 2
    number = _repeats(per_batch, seconds / 3, least=1)
    rates = []
    for _ in range(3):
        started, samples = time.perf_counter(), 0
        for batch in islice(batches, number):
            use(batch)
            samples += len(batch["index"])
        synchronize(process.device)
        rates.append(samples / (time.perf_counter() - started))
    return 1 / _mean_over_processes(1 / statistics.median(rates), process)


def training_use(step: TrainStep, micro_batches: int | None) -> Callable[[Batch], None]:
    """Make a function that does with a micro-batch what training does: copy it to the device, forward, backward.

    Args:
        step: the step.
        micro_batches: after so many the optimizer takes its step; None: never.
    """
    losses: list[Tensor] = []

    def use(batch: Batch) -> None:
        last = len(losses) + 1 == micro_batches
        losses.append(step.forward_backward(to_device(batch, step.process.device), last=last).loss)
        if last:
            step.optimizer_step(torch.stack(losses).sum())
            losses.clear()

    return use


def read_seconds(samples: Samples, number: int) -> float:
    """Seconds to read and prepare one sample.

    Args:
        samples: of which random ones are read.
        number: how many to read; 16 to 64 are.
    """
    started = time.perf_counter()
    keys = [Key(1, i) for i in np.random.default_rng(0).integers(0, len(samples), min(max(number, 16), 64))]
    collate([samples[key] for key in keys])
    return (time.perf_counter() - started) / len(keys)


def _elapsed(call: Callable[[], object], process: Process) -> float:
    started = time.perf_counter()
    call()
    synchronize(process.device)
    return time.perf_counter() - started


def _repeats(duration: float, seconds: float, *, least: int = MIN_REPEATS) -> int:
    return min(max(int(seconds / max(duration, 1e-9)), least), MAX_REPEATS)


def _mean_over_processes(seconds: float, process: Process) -> float:
    """Average over processes, so that all repeat equally often: a step waits for those of the others."""
    if process.world_size == 1:
        return seconds
    return reduce_mean(torch.tensor(seconds, dtype=torch.float64, device=process.device), process).item()
