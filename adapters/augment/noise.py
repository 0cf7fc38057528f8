"""White receiver noise at a stated signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.requirements import amplitude_of

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter, Reference


class Noise(SignalAugmentation):
    """Adds white Gaussian noise to the amplitude of every value, circular where values are complex.

    Of power maps it is added to the complex amplitude behind each bin, whose phase does not matter because the noise is
    circular.

    Args:
        adapter: of the signal.
        snr_db: the noise lies this far below the reference power of each channel; negative for above it.
        reference: `mean` power of the measured values, or `median` (of maps, where most bins hold noise alone).

    Raises:
        ValueError: values without an amplitude.
    """

    def __init__(self, adapter: Adapter, *, snr_db: float, reference: Reference = "mean") -> None:
        if reference not in ("mean", "median"):
            raise ValueError(f"reference {reference!r}, expected mean or median")
        self.snr_db, self.reference, self.amplitude = snr_db, reference, amplitude_of(adapter)

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The signal plus noise."""
        measured = signal.reshape(len(signal), -1) if valid is None else signal[:, valid]
        if not measured.size:
            return signal, valid
        power = np.array([self.amplitude.power(channel, self.reference) for channel in measured])
        power = power.reshape(-1, *[1] * (signal.ndim - 1)) * 10 ** (-self.snr_db / 10)
        return self.amplitude.add_noise(signal, power, rng), valid
