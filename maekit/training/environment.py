"""Versions and hardware that a run used."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import torch

LIBRARIES = ("maekit", "torch", "timm", "einops", "numpy", "scipy", "h5py", "torchvision")


def describe_environment(device: torch.device) -> dict[str, str]:
    """Collect Python, operating system, processor, device and library versions, by name."""
    accelerator = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "device": accelerator,
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
