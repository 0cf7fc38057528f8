"""Limits of this device: memory, and the speed of its fastest matrix product."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from maekit.training.step import TrainStep


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a device; None where the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Peak bytes so far: on a GPU `tensors` and what the allocator `reserved`, on a CPU `resident` of the process."""
    if device.type == "cuda":
        return {"tensors": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return {"resident": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def device_name(device: torch.device) -> str:
    """Name of a GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def matmul_dtype(step: TrainStep) -> torch.dtype:
    """Data type in which a step computes matrix products."""
    device = step.process.device.type
    with step.precision():
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def peak_matmul_rate(step: TrainStep) -> float:
    """Operations a second of this device's fastest matrix product in the step's precision.

    Tried are a square product, and one of the shape of the model's largest linear layer; the best of several runs counts.
    """
    device, dtype = step.process.device, matmul_dtype(step)
    side, repeats = (8192, 10) if device.type == "cuda" else (2048, 1)
    largest = max((m for m in step.task.modules() if isinstance(m, nn.Linear)), key=lambda m: m.weight.numel())
    best = 0.0
    for rows, inputs, outputs in ((side, side, side), (4 * side, largest.in_features, largest.out_features)):
        x = torch.randn(rows, inputs, device=device).to(dtype)
        weight = torch.randn(outputs, inputs, device=device).to(dtype)
        for _ in range(6):
            started = time.perf_counter()
            for _ in range(repeats):
                nn.functional.linear(x, weight)
            synchronize(device)
            best = max(best, 2 * rows * inputs * outputs * repeats / (time.perf_counter() - started))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
