"""Random erasing (Zhong et al., 2020): a rectangle of a picture becomes noise."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from maekit.adapter import BatchAugmentation

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.random import Generator
    from torch import Tensor

    from maekit.adapter import Adapter


class Erasing(BatchAugmentation):
    """timm's RandomErasing on standardised pictures, with normal noise in every pixel of the rectangle.

    Args:
        adapter: of pictures.
        share: of the pictures that lose a rectangle.

    Raises:
        ValueError: no share, or other samples than pictures.
    """

    def __init__(self, adapter: Adapter, *, share: float = 0.25) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share {share:g}, expected a share from 0 to 1")
        if len(adapter.patchifier.sample_shape) != 3:
            raise ValueError("it is for samples with two axes, such as pictures")
        self.share = share

    def __call__(
        self, x: Float[Tensor, "batch channel height width"], rng: Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """The batch with some rectangles replaced by noise."""
        from timm.data.random_erasing import RandomErasing

        # timm draws positions from Python's generator and the noise from torch's, which the training step seeds.
        state = random.getstate()
        random.seed(int(rng.integers(2**31)))
        try:
            return RandomErasing(self.share, mode="pixel", device=x.device)(x.clone())
        finally:
            random.setstate(state)
