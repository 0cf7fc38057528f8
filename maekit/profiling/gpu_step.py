"""A training step on a GPU that need not be here: what fits its memory, and how long the step takes at least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from maekit.profiling.gpus import GPU, Precision, StepBound
from maekit.profiling.memory_estimate import StepMemory, product_flops, step_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maekit.data.loading import Batch
    from maekit.profiling.workload import Workload
    from maekit.tasks.task import Task
    from maekit.training.distributed import Process

ATTEMPTS, GROWTH = 8, 64
"""Of the search for the largest batch: how many estimates of memory it may take, and how many times larger the next may be."""


@dataclass(frozen=True, slots=True)
class GPUStep:
    """A step of one process on a GPU of its own.

    Attributes:
        gpu: its limits.
        precision: of the matrix products.
        memory: at the peak of the step.
        largest: samples of the largest micro-batch that fits; 0 where none does.
        flops: operations of the matrix products of a step.
        traffic: bytes that a step reads and writes at least, see `traffic`.
    """

    gpu: GPU
    precision: Precision
    memory: StepMemory
    largest: int
    flops: float
    traffic: float

    @property
    def fits(self) -> bool:
        """Whether the memory of the GPU holds the step."""
        return self.memory.total <= self.gpu.memory

    @property
    def bound(self) -> StepBound:
        """The shortest time of the step."""
        return StepBound(self.flops / self.gpu.peak(self.precision), self.traffic / self.gpu.bandwidth)


def gpu_steps(gpus: Sequence[GPU], task: Task, examples: Batch, workload: Workload, process: Process) -> list[GPUStep]:
    """Estimate a step on each of some GPUs.

    Args:
        gpus: their limits.
        task: new.
        examples: some samples; only their shapes are used.
        workload: its recipe, whose precision `auto` is bfloat16 here, and its number of processes are read.
        process: one of those that share the step; its device is of type `cuda`.
    """
    precision: Precision = "float32" if workload.recipe.training.precision == "float32" else "bfloat16"
    training = workload.recipe.training.model_copy(update={"precision": precision})
    recipe = workload.recipe.model_copy(update={"training": training})

    @cache
    def memory(samples: int) -> StepMemory:
        return step_memory(task, examples, samples, recipe, process)

    at_once = workload.micro_batch
    flops, moved = workload.share * product_flops(task, examples), traffic(task, memory(at_once), workload)
    return [
        GPUStep(
            gpu,
            precision,
            memory(at_once),
            largest_batch(lambda samples: memory(samples).total, gpu.memory, at_once),
            flops,
            moved,
        )
        for gpu in gpus
    ]


def traffic(task: Task, memory: StepMemory, workload: Workload) -> float:
    """Bytes that a step moves between a GPU and its memory, whatever kernels compute it.

    Every micro-batch reads the weights, and writes and reads what the backward pass needs of the forward pass. The
    optimizer reads and writes weights and state, and the gradients are written and read. Everything else may stay on
    the chip. Kernels that are not fused move several times as much.
    """
    trained = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    shards = workload.world_size if workload.recipe.training.parallel == "fsdp2" else 1
    update = 2 * (2 * trained / shards + memory.optimizer)
    weights = sum(p.nbytes for p in task.parameters())
    return workload.gradient_accumulation_steps * (weights + 2 * memory.kept) + update


def largest_batch(memory: Callable[[int], float], limit: float, start: int) -> int:
    """The largest number of samples whose memory is within a limit, by the secant method; 0 where one sample is too many.

    Args:
        memory: bytes of a step by its number of samples. At any moment of a step they grow linearly, so that the peak is convex.
        limit: bytes.
        start: the number to begin at.
    """
    (before, bytes_before), at = (start, memory(start)), 2 * start
    fitting, exceeding = (start, None) if bytes_before <= limit else (0, start)
    for _ in range(ATTEMPTS):
        used = memory(at)
        if used <= limit:
            fitting = max(fitting, at)
        else:
            exceeding = at if exceeding is None else min(exceeding, at)
        slope = (used - bytes_before) / (at - before)
        before, bytes_before = at, used
        at = min(max(int(at + (limit - used) / max(slope, 1.0)), 1), GROWTH * at)
        if at <= fitting or (exceeding is not None and at >= exceeding):
            break
    return fitting
