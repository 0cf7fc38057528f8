"""A convolutional encoder of log-frequency spectra that relates a frequency to its harmonics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maekit.core.encoders.cnn import CNN

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class HarmonicCNN(CNN):
    """A residual network whose tokens are, after the last block, combined with those at fixed distances.

    On a logarithmic frequency axis the harmonics of a tone lie at the same distances from it, whatever its frequency.

    Args:
        patchifier: how a spectrum is cut: along one axis.
        offsets: the distances, in patches; 0 is the token itself. Beyond the ends of the axis are zeros.
        dropout: share of the combined channels that is dropped in training.
        options: width, depth and kernel, as of `CNN`.

    Raises:
        ValueError: more than one axis, no offset, or what `CNN` refuses.
    """

    output_modules = ("harmonic", "norm")

    def __init__(
        self, patchifier: Patchifier, *, offsets: tuple[int, ...] = (0,), dropout: float = 0.1, **options: Any
    ) -> None:
        super().__init__(patchifier, **options)
        if len(self.patch_size) != 1 or not offsets:
            raise ValueError(
                f"harmonic_cnn needs one axis and at least one offset; the grid is {patchifier.grid_size}, offsets are {offsets}"
            )
        self.offsets, self.padding = offsets, max(abs(offset) for offset in offsets)
        self.harmonic = nn.Sequential(nn.Linear(len(offsets) * self.width, self.width), nn.GELU(), nn.Dropout(dropout))

    def mix_tokens(self, tokens: Float[Tensor, "batch patch width"]) -> Float[Tensor, "batch patch width"]:
        """Combine each token with those at the offsets."""
        padded = nn.functional.pad(tokens, (0, 0, self.padding, self.padding))
        starts = (self.padding + offset for offset in self.offsets)
        return self.harmonic(torch.cat([padded[:, start : start + tokens.shape[1]] for start in starts], dim=-1))
