"""How stored values relate to the amplitude of a signal, so that gain and noise mean the same in every modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator

Array = NDArray[Any]
Reference = Literal["mean", "median"]


class LinearAmplitude:
    """Values that are proportional to the amplitude, real or complex: volts, millimetres, counts of an ADC."""

    signed: ClassVar[bool] = True
    """Whether a change of polarity has a meaning."""

    def amplify(self, values: Array, factor: float) -> Array:
        """Values of the signal with `factor` times the amplitude."""
        return values * factor

    def power(self, values: Array, reference: Reference) -> float:
        """Mean or median power of the values of one channel, in the square of their unit, without a constant part."""
        power = np.abs(values - values.mean()) ** 2
        return float(np.mean(power) if reference == "mean" else np.median(power))

    def add_noise(self, values: Array, power: Array, rng: Generator) -> Array:
        """Values with white Gaussian noise of this power added to the amplitude; circular noise where they are complex.

        Args:
            values: (channel, *axes).
            power: of the noise, broadcast to `values`.
            rng: the sample's generator.
        """
        noise = rng.standard_normal(values.shape)
        if np.iscomplexobj(values):
            noise = (noise + 1j * rng.standard_normal(values.shape)) / np.sqrt(2)
        return values + np.sqrt(power) * noise
