"""Gain and noise of pictures, whose values have limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapter import LinearAmplitude

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray


class Intensity(LinearAmplitude):
    """Intensities from 0 to `full_scale`, whole numbers where they are stored so; light has no negative amplitude.

    Args:
        full_scale: the stored value of full intensity.
    """

    signed = False

    def __init__(self, full_scale: float) -> None:
        self.full_scale = full_scale

    def amplify(self, values: NDArray[Any], factor: float) -> NDArray[Any]:
        """Brighter or darker, limited to the range."""
        return self._stored(values * factor, values.dtype)

    def add_noise(self, values: NDArray[Any], power: NDArray[Any], rng: Generator) -> NDArray[Any]:
        """With noise, limited to the range."""
        return self._stored(super().add_noise(values, power, rng), values.dtype)

    def _stored(self, values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
        limited = np.clip(values, 0, self.full_scale)
        return (np.round(limited) if kind.kind in "iu" else limited).astype(kind)
