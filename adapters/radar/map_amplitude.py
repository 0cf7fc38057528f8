"""Amplitudes behind the values of radar maps, whatever unit they are stored in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from maekit.adapter import LinearAmplitude

if TYPE_CHECKING:
    from numpy.random import Generator

    from maekit.adapter import Reference

Array = NDArray[Any]
Scale = Literal["complex", "magnitude", "power", "db", "log10", "level"]
TOP_LEVEL = 255.0


class MapAmplitude(LinearAmplitude):
    """Gain and noise of maps; see `RangeDopplerAdapter` for the scales.

    Args:
        scale: of the stored values.
        level_range_db: decibels of levels 0 and 255, of the scale `level`.
    """

    signed = False

    def __init__(self, scale: Scale, level_range_db: tuple[float, float] | None) -> None:
        self.scale, self.level_range_db = scale, level_range_db

    def amplify(self, values: Array, factor: float) -> Array:
        """In the stored unit; levels stay between 0 and 255."""
        gain_db = 20 * np.log10(factor)
        if self.scale == "db":
            return values + gain_db
        if self.scale == "log10":
            return values + gain_db / 20
        if self.level_range_db is not None:
            low, high = self.level_range_db
            return np.clip(values + gain_db * TOP_LEVEL / (high - low), 0, TOP_LEVEL)
        return values * factor ** (2 if self.scale == "power" else 1)

    def power(self, values: Array, reference: Reference) -> float:
        """Mean or median power of bins."""
        power = self.powers(values)
        return float(np.mean(power) if reference == "mean" else np.median(power))

    def add_noise(self, values: Array, power: Array, rng: Generator) -> Array:
        """Circular complex noise added to the amplitude of every bin.

        Where only the power P is known, |sqrt(P) e^(i phi) + n|^2 has the same distribution for every phase phi, because n is
        circular; phi = 0 is used.
        """
        amplitude = values if self.scale == "complex" else np.sqrt(self.powers(values))
        real, imaginary = rng.standard_normal((2, *values.shape))
        noisy = amplitude + np.sqrt(power / 2) * (real + 1j * imaginary)
        return noisy if self.scale == "complex" else self._stored(np.abs(noisy) ** 2)

    def powers(self, values: Array) -> Array:
        """Stored values as linear powers, float64."""
        if self.scale == "complex":
            return np.abs(values).astype(np.float64) ** 2
        x = values.astype(np.float64)
        if self.level_range_db is not None:
            low, high = self.level_range_db
            return 10 ** ((low + x * (high - low) / TOP_LEVEL) / 10)
        if self.scale == "magnitude":
            return np.square(x)
        return 10 ** (x / 10) if self.scale == "db" else 10 ** (2 * x) if self.scale == "log10" else x

    def _stored(self, power: Array) -> Array:
        if self.scale == "power":
            return power
        if self.scale == "magnitude":
            return np.sqrt(power)
        db = 10 * np.log10(np.maximum(power, 1e-300))
        if self.level_range_db is not None:
            low, high = self.level_range_db
            return np.clip((db - low) * TOP_LEVEL / (high - low), 0, TOP_LEVEL)
        return db / 20 if self.scale == "log10" else db
