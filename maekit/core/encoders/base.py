"""What everything else knows of an encoder, be it a transformer or convolutional."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier
    from maekit.core.transformer import Blocks


class Backbone(nn.Module, ABC):
    """From patches to one token a patch, with a token of the whole sample in front.

    Attributes:
        patchifier: how a sample is cut.
        width: numbers in a token.
        blocks: what is tuned, decayed by depth and computed again one by one.
        norm: the last one; fine-tuning on pooled patches has its own in its place.
        after: names of the modules behind the blocks, which are tuned and decayed like a head.
        mask_token: what stands for removed patches where an encoder takes them in (the ablation), else None.
    """

    patchifier: Patchifier
    width: int
    blocks: Blocks
    norm: nn.Module
    after: tuple[str, ...] = ("norm",)
    mask_token: nn.Parameter | None

    def forward(
        self, x: Float[Tensor, "batch *sample"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch token width"]:
        """Features of every patch, the token of the whole sample first; nothing is masked.

        Args:
            x: (batch, *sample_shape).
            valid: (batch, patch) False where not measured: nothing is read there, and those tokens mean nothing.
        """
        return self.encode(self.patchifier.patchify(x), valid, None)

    @abstractmethod
    def encode(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None, mask: Mask | None
    ) -> Float[Tensor, "batch token width"]:
        """Tokens of all patches or, in the order of `mask.ids_keep`, of those that `mask` keeps; the others are not read."""


def gather(tokens: Float[Tensor, "batch token width"], ids: Tensor) -> Float[Tensor, "batch picked width"]:
    """Rows `ids` (batch, picked) of each sample."""
    return tokens.gather(1, repeat(ids, "batch picked -> batch picked width", width=tokens.shape[2]))


def zero_invalid(
    patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None
) -> Float[Tensor, "batch patch dim"]:
    """Zeros, where anything may stand, in patches that were not measured."""
    return patches if valid is None else torch.where(valid[..., None], patches, 0.0)
