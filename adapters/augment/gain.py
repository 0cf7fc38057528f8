"""A random gain: distance, contact pressure, the setting of an amplifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.requirements import amplitude_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class Gain(SignalAugmentation):
    """Multiplies the amplitude of all channels by one random factor.

    Args:
        adapter: of the signal.
        db: the level goes up or down by at most this much, uniform in decibels.
        share: the factor is uniform in 1 - share to 1 + share.

    Raises:
        ValueError: not exactly one of the two, or values without an amplitude.
    """

    def __init__(self, adapter: Adapter, *, db: float | None = None, share: float | None = None) -> None:
        if (db is None) == (share is None):
            raise ValueError("give one of db (largest change of the level) and share (of the amplitude)")
        if db is not None and db < 0:
            raise ValueError(f"db {db:g} is not below zero")
        if share is not None and not 0 <= share < 1:
            raise ValueError(f"share {share:g}, expected 0 to below 1")
        self.db, self.share, self.amplitude = db, share, amplitude_of(adapter)

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The signal times the factor."""
        draw = rng.uniform(-1, 1)
        factor = 10 ** (self.db * draw / 20) if self.db is not None else 1 + (self.share or 0.0) * draw
        return self.amplitude.amplify(signal, factor), valid
