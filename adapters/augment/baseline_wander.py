"""Slow baseline wander: electrodes that drift, breathing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.requirements import time_rate_hz

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class BaselineWander(SignalAugmentation):
    """Adds one sine of random frequency, phase and amplitude; of no use after a band-pass that removes it.

    Args:
        adapter: of the signal; its last axis is time.
        std: largest amplitude of the sine, in standard deviations of the window.
        band_hz: lowest and highest frequency of the sine.

    Raises:
        ValueError: no axis of time, or numbers out of range.
    """

    def __init__(self, adapter: Adapter, *, std: float = 1.0, band_hz: tuple[float, float] = (0.05, 0.5)) -> None:
        self.rate_hz, self.std, self.band_hz = time_rate_hz(adapter), std, band_hz
        if std < 0 or not 0 < band_hz[0] <= band_hz[1]:
            raise ValueError(f"std {std:g} is not below zero, and band_hz {tuple(band_hz)} rises from above zero")

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The signal plus the sine."""
        measured = signal if valid is None or not valid.any() else signal[:, valid]
        deviation = measured.std(axis=-1, keepdims=True)
        turns = rng.uniform(*self.band_hz) * np.arange(signal.shape[-1]) / self.rate_hz + rng.random()
        return signal + self.std * rng.random() * deviation * np.sin(2 * np.pi * turns), valid
