"""Polarity that is a convention of the receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.requirements import amplitude_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class Polarity(SignalAugmentation):
    """Turns the sign of every second signal, of all its channels at once.

    Right only where polarity means nothing (radar phase, whose sign is a convention), not for an ECG lead or a PPG.

    Args:
        adapter: of the signal.

    Raises:
        ValueError: values that have no sign.
    """

    def __init__(self, adapter: Adapter) -> None:
        if not amplitude_of(adapter).signed:
            raise ValueError("powers and intensities have no polarity")

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The signal, with its sign turned half of the time."""
        return (-signal if rng.random() < 0.5 else signal), valid
