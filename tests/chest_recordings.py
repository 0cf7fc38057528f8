"""Recordings of a chest as the simulator lays them out, and the rows of predictions."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np

RATE = 50.0


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def chest(seconds: float, rate_hz: float, seed: int = 0) -> np.ndarray:
    """Breathing, a beat and phase noise, in mm."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = 0.005 * np.random.default_rng(seed).standard_normal(len(time))
    return 3 * np.sin(2 * np.pi * 0.25 * time) + 0.2 * np.sin(2 * np.pi * 1.2 * time) + noise


def record(path: Path, values: np.ndarray, rate_hz: float, name: str = "person_000") -> Path:
    """A recording as the simulator lays it out, without labels."""
    with h5py.File(path, "w") as file:
        group = file.create_group(name)
        group.create_dataset("displacement", data=values.astype(np.float32), chunks=(1024,))
        group.attrs["rate_hz"] = rate_hz
    return path
