"""How fast this machine takes a step, reads samples and multiplies matrices: timed, not guessed.

Everything is warmed up, repeated a number of times that all processes agree on, and reported as a median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.training.distributed import Process, reduce_mean

if TYPE_CHECKING:
    from torch import Tensor

    from maekit.data.loading import Batch, Samples
    from maekit.training.step import TrainStep

FEWEST, MOST = 3, 300
"""Repetitions of what is timed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that one process takes, for a micro-batch of `samples` on its device already.

    Attributes:
        learn: forward and backward.
        update: the optimizer's move, once a step.
        rows: what evaluation computes.
    """

    samples: int
    learn: float
    update: float
    rows: float

    def step(self, share: int) -> float:
        """Seconds of a step of which this process takes `share` samples."""
        return share * self.learn / self.samples + self.update


def pace(step: TrainStep, batch: Batch, seconds: float) -> Pace:
    """Time a step on a batch on the device, about `seconds` in all; at a learning rate of zero, so that no weight moves."""
    process = step.process
    loss = torch.zeros((), device=process.device)

    def learn() -> None:
        step.forward_backward(batch)

    def whole() -> None:
        step.optimizer_step(step.forward_backward(batch))

    def rows() -> None:
        with torch.no_grad(), step.precision():
            step.task.eval_step(batch)

    whole()  # makes the optimizer's state, compiles
    learning = timed(learn, process, seconds / 2)
    step.optimizer_step(loss)
    step.forward_backward(batch)
    gradients = [(p, p.grad) for p in step.task.parameters() if p.grad is not None]

    def update() -> None:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        step.optimizer_step(loss)

    updating = timed(update, process, seconds / 4)
    step.task.eval()
    evaluating = timed(rows, process, seconds / 4)
    step.task.train()
    return Pace(len(batch["index"]), learning, updating, evaluating)


def patient(step: TrainStep, make: Callable[[int], Batch], most: int, seconds: float) -> int:
    """The largest micro-batch, up to `most`, that forward and backward take no longer than `seconds` for; at least two.

    Found by doubling, so that trying costs little more than what it allows; nothing is compiled for it.
    """
    number, cold = min(2, most), True
    while True:
        batch = make(number)
        began = time.perf_counter()
        with step.precision():
            step.module(batch).backward()
        _synchronise(step.process.device)
        taken = _agreed(time.perf_counter() - began, step.process)
        step.optimizer.zero_grad(set_to_none=True)
        if cold:  # the first of all also loads libraries
            cold = False
            continue
        if number == most or 2 * taken > seconds:
            return number
        number = min(2 * number, most)


def timed(call: Callable[[], None], process: Process, seconds: float) -> float:
    """Median seconds of a call, repeated for about `seconds`."""
    for _ in range(2):
        began = time.perf_counter()
        call()
        _synchronise(process.device)
        first = time.perf_counter() - began
    times = []
    for _ in range(_repetitions(_agreed(first, process), seconds)):
        began = time.perf_counter()
        call()
        _synchronise(process.device)
        times.append(time.perf_counter() - began)
    return _agreed(statistics.median(times), process)


def batches(samples: Samples, size: int, process: Process, *, workers: int, seed: int) -> Generator[Batch, None, None]:
    """Micro-batches of `size` as training reads them, epoch after epoch."""
    together = size * process.world_size
    sampler = BatchSampler(
        len(samples),
        together,
        seed=seed,
        rank=process.rank,
        world_size=process.world_size,
        samples_per_epoch=max(len(samples), together),
    )
    feed = loader(samples, sampler, workers=workers, pin=process.device.type == "cuda")
    for epoch in count():
        sampler.start_at(epoch)
        yield from feed


def rate(feed: Iterator[Batch], use: Callable[[Batch], None], process: Process, seconds: float, *, skip: int) -> float:
    """Samples a second of one process that uses batch after batch for about `seconds`, after the first `skip`.

    The median over three stretches, so that one pause of the machine does not tell.
    """
    for batch in islice(feed, skip):
        use(batch)
    _synchronise(process.device)
    began = time.perf_counter()
    for batch in islice(feed, 2):
        use(batch)
    _synchronise(process.device)
    number = _repetitions(_agreed(time.perf_counter() - began, process) / 2, seconds / 3, fewest=1)
    rates = []
    for _ in range(3):
        began, seen = time.perf_counter(), 0
        for batch in islice(feed, number):
            use(batch)
            seen += len(batch["index"])
        _synchronise(process.device)
        rates.append(seen / (time.perf_counter() - began))
    return 1 / _agreed(1 / statistics.median(rates), process)


def learner(step: TrainStep, every: int | None) -> Callable[[Batch], None]:
    """What training does with a micro-batch: copy it, learn, and after `every` so many (None: never) update."""
    losses: list[Tensor] = []

    def use(batch: Batch) -> None:
        last = len(losses) + 1 == every
        losses.append(step.forward_backward(to_device(batch, step.process.device), last=last))
        if last:
            step.optimizer_step(torch.stack(losses).sum())
            losses.clear()

    return use


def product_ceiling(step: TrainStep) -> float:
    """Operations a second of this device's best matrix product in the step's precision.

    Square, and of the shape of the model's largest layer; the best of several, for it is a ceiling.
    """
    device, dtype = step.process.device, precision(step)
    side, inner = (8192, 10) if device.type == "cuda" else (2048, 1)
    largest = max((m for m in step.task.modules() if isinstance(m, nn.Linear)), key=lambda m: m.weight.numel())
    best = 0.0
    for rows, into, out in ((side, side, side), (4 * side, largest.in_features, largest.out_features)):
        x, weight = torch.randn(rows, into, device=device).to(dtype), torch.randn(out, into, device=device).to(dtype)
        for _ in range(6):
            began = time.perf_counter()
            for _ in range(inner):
                nn.functional.linear(x, weight)
            _synchronise(device)
            best = max(best, 2 * rows * into * out * inner / (time.perf_counter() - began))
    return best


def precision(step: TrainStep) -> torch.dtype:
    """What matrix products of the step are computed in."""
    device = step.process.device.type
    with step.precision():
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes used at most so far: on a GPU by tensors and by the allocator, on a CPU by the whole process."""
    if device.type == "cuda":
        return {"tensors": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return {"resident": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _repetitions(one: float, seconds: float, *, fewest: int = FEWEST) -> int:
    return min(max(int(seconds / max(one, 1e-9)), fewest), MOST)


def _agreed(seconds: float, process: Process) -> float:
    """The mean over processes, so that all repeat alike: a step waits for the others'."""
    if process.world_size == 1:
        return seconds
    return reduce_mean(torch.tensor(seconds, dtype=torch.float64, device=process.device), process).item()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
