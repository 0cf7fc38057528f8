"""Where in its window a short recording lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.requirements import time_rate_hz

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class TimeShift(SignalAugmentation):
    """Moves a recording that was padded at its end to a later time within its window; whole windows stay as they are.

    Args:
        adapter: of the signal; its only axis is time.
        seconds: it moves by at most this much, and by no more than the padding.

    Raises:
        ValueError: no axis of time, or a negative number.
    """

    def __init__(self, adapter: Adapter, *, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"seconds {seconds:g} is not below zero")
        self.largest = round(seconds * time_rate_hz(adapter))

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The signal and its mask, moved together."""
        if valid is None or valid[-1]:
            return signal, valid
        padding = int(np.argmax(valid[::-1]))
        shift = rng.integers(0, min(padding, self.largest) + 1)
        return np.roll(signal, shift, axis=-1), np.roll(valid, shift)
