"""Facts of a dry run and a benchmark in words: batch, parameters, memory, and what a GPU makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.profiling.device_limits import free_memory
from maekit.report.quantities import duration, operations, size

if TYPE_CHECKING:
    from maekit.profiling.gpu_step import GPUStep
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
    """Memory of a step."""
    parts = [
        f"{size(memory.weights)} weights",
        f"{size(memory.optimizer)} optimizer",
        f"{size(memory.transient)} gradients and activations",
    ]
    process_text = " per process" if process.world_size > 1 else ""
    return f"{size(memory.total)}{process_text}: " + " + ".join(parts)


def free_fact(process: Process) -> str:
    """What the device has free, to be told after the memory of a step; nothing where it is not known."""
    free = None if process.device.type == "meta" else free_memory(process.device)
    return "" if free is None else f"; {size(free)} free"


def gpu_facts(step: GPUStep, workload: Workload) -> Facts:
    """What a GPU that need not be here makes of a step, and the shortest time of all steps of the run."""
    gpu, bound, at_once = step.gpu, step.bound, workload.micro_batch
    if step.fits:
        verdict = "fits"
    elif step.largest:
        verdict = f"DOES NOT FIT: try `--set training.micro_batch={step.largest}`"
    else:
        verdict = (
            "DOES NOT FIT, nor does one sample: try `--set training.activation_checkpointing=true` or "
            "`--set training.parallel=fsdp2` on several"
        )
    steps = workload.steps * workload.recipe.schedule.epochs
    return [
        (
            "GPU",
            f"{gpu.name}: {size(gpu.memory)}, {operations(gpu.peak(step.precision), '/s')} in {step.precision}, "
            f"{size(gpu.bandwidth)}/s (data sheet; it need not be here)",
        ),
        ("fits", f"{size(step.memory.total)} of {size(gpu.memory)} with {at_once:,} at once: {verdict}"),
        ("largest", f"about {step.largest:,} samples at once" if step.largest else "none"),
        (
            "step, at least",
            f"{duration(bound.seconds)}, the limit is {bound.limit}: {duration(bound.compute)} for "
            f"{operations(step.flops)}, {duration(bound.traffic)} for {size(step.traffic)}",
        ),
        (
            "time, at least",
            f"{duration(steps * bound.seconds)} for {steps:,} steps: a lower bound at 100 % of the data sheet's figures, "
            "without reading, evaluation and communication",
        ),
    ]
