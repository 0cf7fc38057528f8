"""Random changes of brightness, contrast and saturation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.seeding import seeded
from maekit.adapters.image.image import ImageAdapter

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter


class ColorJitter(SignalAugmentation):
    """torchvision's ColorJitter, without changes of hue.

    Args:
        adapter: `image`, of pictures with three bytes a pixel.
        strength: brightness, contrast and saturation are each multiplied by 1 - strength to 1 + strength.

    Raises:
        ValueError: other pictures, or a negative strength.
    """

    def __init__(self, adapter: Adapter, *, strength: float) -> None:
        rgb_bytes(adapter)
        if strength < 0:
            raise ValueError(f"strength {strength:g} is not below zero")
        self.strength = strength

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The picture in other colours."""
        import torch
        from torchvision.transforms import v2

        with seeded(rng):
            jitter = v2.ColorJitter(self.strength, self.strength, self.strength)
            return jitter(torch.from_numpy(signal)).numpy(), valid


def rgb_bytes(adapter: Adapter) -> ImageAdapter:
    """The adapter, once it is sure that its pictures have three bytes a pixel.

    Raises:
        ValueError: they have not.
    """
    if not isinstance(adapter, ImageAdapter) or len(adapter.info.channels) != 3 or adapter.full_scale != 255:
        raise ValueError("it is for pictures of three bytes a pixel (adapter image, full_scale 255)")
    return adapter
