"""Pictures mirrored left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapter import SignalAugmentation

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class Flip(SignalAugmentation):
    """Mirrors every second picture; wrong where left and right matter (digits, organs, objects with coordinates).

    Args:
        adapter: of pictures.

    Raises:
        ValueError: the last axis is not the width of a picture, or labels have coordinates.
    """

    def __init__(self, adapter: Adapter) -> None:
        if adapter.info.axes[-1].name != "width" or adapter.info.objects:
            raise ValueError("it is for pictures (last axis width) without coordinates in their labels")

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The picture, mirrored half of the time."""
        if rng.random() >= 0.5:
            return signal, valid
        return signal[..., ::-1].copy(), None if valid is None else valid[..., ::-1].copy()
