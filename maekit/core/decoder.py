"""The decoder interface, and the MAE paper's decoder: self-attention over encoded and mask tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.masking import Mask, gather_tokens
from maekit.core.positions import sincos_positions
from maekit.core.transformer import Blocks, LayerNorm, TransformerConfig, build_blocks, initialise, with_class_token

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class Decoder(nn.Module, ABC):
    """From the encoder's tokens to predictions of patches; subclasses differ in what attends to what.

    Args:
        patchifier: gives the grid.
        config: width, depth, heads.
        encoder_width: width of the tokens that the encoder gives.
        out_dim: numbers to predict for each patch.
    """

    prefix_tokens: int
    """Rows of the position table before those of the patches."""

    def __init__(self, patchifier: Patchifier, config: TransformerConfig, encoder_width: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        positions = sincos_positions(patchifier.grid_size, config.width, prefix_tokens=self.prefix_tokens)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks: Blocks = self.build_blocks(config)
        self.norm = LayerNorm(config.width)
        self.pred = nn.Linear(config.width, out_dim)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    @staticmethod
    @abstractmethod
    def build_blocks(config: TransformerConfig) -> Blocks:
        """The stack of blocks of this size."""

    @abstractmethod
    def forward(
        self,
        latent: Float[Tensor, "batch token width"],
        mask: Mask,
        valid: Bool[Tensor, "batch patch"] | None,
        noise: Float[Tensor, "batch patch"],
    ) -> tuple[Float[Tensor, "batch patch out"], Bool[Tensor, "batch patch"]]:
        """Predict patches.

        Args:
            latent: the encoder's tokens: the class token, then one for each patch in the order of `mask.ids_keep`.
            mask: which patches were removed.
            valid: (batch, patch) True where measured, None: everywhere.
            noise: (batch, patch) uniform in [0, 1), for decoders that draw what they predict.

        Returns:
            Predictions (batch, patch, out), and (batch, patch) True where there is one.
        """


class SelfDecoder(Decoder):
    """The MAE paper's decoder: tokens are put back in place, mask tokens inserted, and every patch is predicted.

    Args:
        patchifier, config, encoder_width, out_dim: as of `Decoder`.
        complete: the encoder gives a token for every patch, in place, so that no mask tokens are inserted here.
    """

    prefix_tokens = 1
    build_blocks = staticmethod(build_blocks)

    def __init__(
        self,
        patchifier: Patchifier,
        config: TransformerConfig,
        encoder_width: int,
        out_dim: int,
        *,
        complete: bool = False,
    ) -> None:
        super().__init__(patchifier, config, encoder_width, out_dim)
        self.complete = complete
        self.mask_token.requires_grad_(not complete)

    def forward(
        self,
        latent: Float[Tensor, "batch token width"],
        mask: Mask,
        valid: Bool[Tensor, "batch patch"] | None,
        noise: Float[Tensor, "batch patch"] | None = None,
        *,
        context: Float[Tensor, "batch other width"] | None = None,
        context_mask: Bool[Tensor, "batch other"] | None = None,
    ) -> tuple[Float[Tensor, "batch patch out"], Bool[Tensor, "batch patch"]]:
        """Predict every patch.

        Args:
            latent: as of `Decoder.forward`.
            mask: as of `Decoder.forward`.
            valid: as of `Decoder.forward`.
            noise: not used.
            context: further encoded tokens to attend to, of other signals.
            context_mask: True where these may be attended to (None: everywhere).

        Returns:
            Predictions, and True everywhere.
        """
        del noise
        tokens = self.embed(latent)
        if not self.complete:
            tokens = self._insert_mask_tokens(tokens, mask)
        tokens = tokens + self.pos_embed
        key_mask, length = with_class_token(valid), tokens.shape[1]
        if context is not None:
            if key_mask is not None or context_mask is not None:
                key_mask = torch.cat([_mask_of(tokens, key_mask), _mask_of(context, context_mask)], dim=1)
            tokens = torch.cat([tokens, self.embed(context)], dim=1)
        pred = self.pred(self.norm(self.blocks(tokens, key_mask))[:, 1:length])
        return pred, torch.ones_like(mask.mask)

    def _insert_mask_tokens(self, tokens: Float[Tensor, "batch token width"], mask: Mask) -> Tensor:
        """Encoded tokens in the order of the patches, mask tokens where a patch was removed."""
        cls, patches, mask_token = tokens[:, :1], tokens[:, 1:], self.mask_token.to(tokens.dtype)
        if mask.padding is not None:
            patches = torch.where(mask.padding[..., None], mask_token, patches)
        removed = mask.ids_restore.shape[1] - patches.shape[1]
        filler = repeat(mask_token, "1 1 width -> batch n width", batch=len(patches), n=removed)
        return torch.cat([cls, gather_tokens(torch.cat([patches, filler], dim=1), mask.ids_restore)], dim=1)


def _mask_of(
    tokens: Float[Tensor, "batch token width"], key_mask: Bool[Tensor, "batch token"] | None
) -> Bool[Tensor, "batch token"]:
    return torch.ones_like(tokens[..., 0], dtype=torch.bool) if key_mask is None else key_mask
