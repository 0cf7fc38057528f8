"""The batched step on the device between prepared signals and the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import repeat
from torch import Tensor, nn

from maekit.core.random_seed import draw_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, Shaped

    from maekit.adapter.augmentation import BatchAugmentation
    from maekit.adapter.statistics import ChannelStatistics
    from maekit.core.patchify import Patchifier


class Front(nn.Module):
    """Transforms prepared signals and standardises each channel.

    `mean` and `std` are buffers, so that a checkpoint carries the normalisation that it was trained with; until
    `set_statistics` or a checkpoint gives them, they are 0 and 1. Subclasses override `transform` for what belongs on the
    device (a short-time Fourier transform, a decibel scale).

    Args:
        patchifier: of the standardised samples.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, patchifier: Patchifier) -> None:
        super().__init__()
        self.patchifier = patchifier
        self.augmentations: tuple[BatchAugmentation, ...] = ()
        self.register_buffer("mean", torch.zeros(patchifier.sample_shape[0]))
        self.register_buffer("std", torch.ones(patchifier.sample_shape[0]))

    def set_statistics(self, statistics: ChannelStatistics) -> None:
        """Copy the statistics of the training split into `mean` and `std`."""
        self.mean.copy_(torch.tensor(statistics.mean))
        self.std.copy_(torch.tensor(statistics.std))

    def set_augmentations(self, augmentations: Sequence[BatchAugmentation]) -> None:
        """Vary standardised samples in training, in this order."""
        self.augmentations = tuple(augmentations)

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """From prepared signals to (batch, *sample_shape) in the unit that `mean` and `std` have."""
        return signal, valid

    def forward(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None = None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch patch"] | None]:
        """Standardised samples, and which patches were measured throughout (None: all)."""
        x, valid = self.transform(signal, valid)
        x = (x - _per_channel(self.mean, x)) / _per_channel(self.std, x)
        if self.training and self.augmentations:
            x = self._augmented(x)
        if valid is None:
            return x, None
        measured = repeat(valid, "batch ... -> batch channel ...", channel=x.shape[1])
        return torch.where(measured, x, 0.0), self.patchifier.patchify(measured).all(-1)

    def _augmented(self, x: Float[Tensor, "batch *sample"]) -> Float[Tensor, "batch *sample"]:
        # Seeded from torch's generator, so that an interrupted run that goes on draws the same.
        rng = np.random.default_rng(draw_seed())
        for augmentation in self.augmentations:
            x = augmentation(x, rng)
        return x

    def to_units(self, x: Float[Tensor, "batch *sample"]) -> Float[Tensor, "batch *sample"]:
        """Undo the standardisation."""
        return x * _per_channel(self.std, x) + _per_channel(self.mean, x)


def _per_channel(values: Float[Tensor, " channel"], x: Float[Tensor, "batch channel *axes"]) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))
