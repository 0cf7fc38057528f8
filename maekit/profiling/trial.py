"""A few training steps on a few samples, to time them; the weights do not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from maekit.data.loading import collate, to_device
from maekit.data.sampler import Key
from maekit.errors import UserError
from maekit.profiling import step_timing
from maekit.profiling.device_limits import free_memory

if TYPE_CHECKING:
    from maekit.data.loading import Batch, Samples
    from maekit.profiling.memory_estimate import StepMemory
    from maekit.profiling.step_timing import StepTiming
    from maekit.profiling.workload import Workload
    from maekit.training.step import TrainStep

SAMPLES = 8
"""Samples that stand for all; only their shapes matter."""


def example_batch(training: Samples) -> Batch:
    """Prepare the first training samples."""
    return collate([training[Key(0, i)] for i in range(min(SAMPLES, len(training)))])


def repeat_samples(examples: Batch, number: int) -> Batch:
    """Make a batch of `number` samples by repeating the examples."""
    indices = torch.arange(number) % len(examples["index"])
    return {name: value[indices] for name, value in examples.items()}


def timed_batch_size(step: TrainStep, examples: Batch, memory: StepMemory, workload: Workload, seconds: float) -> int:
    """Choose how many samples to time at once.

    On a GPU it is the micro-batch. On a CPU, where that can take minutes, it is as many as half of the free memory
    holds and as forward and backward take an eighth of `seconds` for.
    """
    number, device = workload.micro_batch, step.process.device
    if device.type == "cuda":
        return number
    free = free_memory(device)
    if free is not None:
        available = free / 2 - memory.weights - memory.optimizer
        number = min(number, max(2, int(number * available / memory.transient)))

    def make(samples: int) -> Batch:
        return to_device(repeat_samples(examples, samples), device)

    return step_timing.affordable_batch(step, make, number, max(seconds / 8, 0.5))


def time_step(step: TrainStep, batch: Batch, workload: Workload, seconds: float) -> StepTiming:
    """Time a step as `maekit.profiling.step_timing.time_step` does.

    Raises:
        UserError: the micro-batch does not fit the GPU.
    """
    try:
        return step_timing.time_step(step, batch, seconds)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a micro-batch of {workload.micro_batch} does not fit the GPU",
            location="training.micro_batch",
            value=str(error).split(". ")[0],
            hint=f"Try `--set training.micro_batch={max(workload.micro_batch // 2, 1)}`, or "
            "`training.activation_checkpointing=true`.",
        ) from error
