"""Facts of a dry run and a benchmark in words: batch, parameters and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.profiling.device_limits import free_memory
from maekit.report.quantities import size

if TYPE_CHECKING:
    from maekit.profiling.memory_estimate import StepMemory
    from maekit.profiling.workload import Workload
    from maekit.tasks.task import Task
    from maekit.training.distributed import Process

Facts = list[tuple[str, str]]
"""Names and values, in the order in which they are printed."""


def batch_fact(workload: Workload) -> str:
    """The effective batch, and the micro-batches it consists of."""
    factors = [f"{workload.micro_batch:,} at once"]
    if workload.gradient_accumulation_steps > 1:
        factors.append(f"{workload.gradient_accumulation_steps} accumulated")
    if workload.world_size > 1:
        factors.append(f"{workload.world_size} processes")
    return f"{workload.recipe.training.batch_size:,} a step: " + " x ".join(factors)


def parameters_fact(task: Task) -> str:
    """Numbers of trainable and of all parameters."""
    total = sum(p.numel() for p in task.parameters())
    trainable = sum(p.numel() for p in task.parameters() if p.requires_grad)
    return f"{trainable:,} trained of {total:,}"


def memory_fact(memory: StepMemory, process: Process) -> str:
    """Memory of a step, and what the device has free."""
    parts = [
        f"{size(memory.weights)} weights",
        f"{size(memory.optimizer)} optimizer",
        f"{size(memory.transient)} gradients and activations",
    ]
    free = None if process.device.type == "meta" else free_memory(process.device)
    free_text = "" if free is None else f"; {size(free)} free"
    process_text = " per process" if process.world_size > 1 else ""
    return f"{size(memory.total)}{process_text}: " + " + ".join(parts) + free_text
