"""The interface of an encoder, be it a transformer or convolutional."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.patchify import zero_invalid

if TYPE_CHECKING:
    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier
    from maekit.core.transformer import Blocks


class Backbone(nn.Module, ABC):
    """From patches to one token for each patch, with a token of the whole sample in front.

    Attributes:
        patchifier: how a sample is cut.
        width: length of a token.
        blocks: what is tuned, decayed by depth and checkpointed block by block.
        norm: the last norm; fine-tuning on pooled patches replaces it by its own.
        output_modules: names of the modules behind the blocks, which are tuned and decayed like a head.
        mask_token: stands for removed patches in an encoder that reads them as such (an ablation), else None.
    """

    patchifier: Patchifier
    width: int
    blocks: Blocks
    norm: nn.Module
    output_modules: tuple[str, ...] = ("norm",)
    mask_token: nn.Parameter | None

    def forward(
        self, x: Float[Tensor, "batch *sample"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch token width"]:
        """Features of every patch, the token of the whole sample first; nothing is masked.

        Args:
            x: (batch, *sample_shape); values where `valid` is False may be anything.
            valid: (batch, patch) True where measured. Other patches are not read, and their tokens are meaningless.
        """
        return self.encode(zero_invalid(self.patchifier.patchify(x), valid), valid, None)

    @abstractmethod
    def encode(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None, mask: Mask | None
    ) -> Float[Tensor, "batch token width"]:
        """Encode patches.

        Args:
            patches: (batch, patch, patch_dim), zeros where invalid.
            valid: (batch, patch) True where measured (None: everywhere).
            mask: removed patches, which are not read (None: none).

        Returns:
            The token of the whole sample, then those of all patches or, in the order of `mask.ids_keep`, of the kept ones.
        """
