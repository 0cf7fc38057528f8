"""The masked autoencoder of He et al. (2021, arXiv:2111.06377) on patches of any signal."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.cross_decoder import CrossDecoder
from maekit.core.decoder import Decoder, SelfDecoder
from maekit.core.encoders.base import Backbone
from maekit.core.losses import masked_mean
from maekit.core.masking import Mask, count_kept, gather_tokens, mask_patches
from maekit.core.patchify import zero_invalid
from maekit.core.positions import sincos_positions
from maekit.core.targets.pixels import PatchNormTarget
from maekit.core.transformer import LayerNorm, TransformerConfig, build_blocks, initialise, with_class_token

if TYPE_CHECKING:
    from maekit.core.masking import Masking
    from maekit.core.patchify import Patchifier
    from maekit.core.targets.base import Target


class MAEOutput(NamedTuple):
    """Result of one pass.

    Attributes:
        loss: mean over the removed patches of the batch.
        pred: (batch, patch, target dim).
        mask: (batch, patch) True = removed.
        latent: (batch, 1 + visible patch, width) what the encoder gives; the class token stands first.
    """

    loss: Float[Tensor, ""]
    pred: Float[Tensor, "batch patch out"]
    mask: Bool[Tensor, "batch patch"]
    latent: Float[Tensor, "batch token width"]


class PatchEmbed(nn.Module):
    """Linear(patch_dim, width), called `proj` as in timm, where it is a convolution with the same weights."""

    def __init__(self, patch_dim: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(patch_dim, width)

    def forward(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch width"]:
        """Embed each patch."""
        return self.proj(patches)


class Encoder(Backbone):
    """A vision transformer over patches, with a class token; state-dict names are timm's.

    Args:
        patchifier: how a sample is cut; gives grid and patch size.
        config: width, depth, heads.
        mask_token: own a mask token too, for the ablation in which the encoder sees it in place of removed patches.
    """

    def __init__(self, patchifier: Patchifier, config: TransformerConfig, *, mask_token: bool = False) -> None:
        super().__init__()
        self.patchifier, self.config, self.width = patchifier, config, config.width
        self.patch_embed = PatchEmbed(patchifier.patch_dim, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width)) if mask_token else None
        self.pos_embed = nn.Parameter(sincos_positions(patchifier.grid_size, config.width), requires_grad=False)
        self.blocks = build_blocks(config)
        self.norm = LayerNorm(config.width)
        initialise(self)
        # As in the paper's code: the patch embedding's bias keeps the small uniform start of a convolution.
        bound = patchifier.patch_dim**-0.5
        nn.init.uniform_(self.patch_embed.proj.bias, -bound, bound)
        for token in (self.cls_token, self.mask_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    def encode(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None, mask: Mask | None
    ) -> Float[Tensor, "batch token width"]:
        """Encode all patches, or those that `mask` keeps; with a mask token all, the removed ones replaced by it."""
        tokens, key_mask = self.patch_embed(patches), valid
        if mask is not None and self.mask_token is not None:
            tokens = torch.where(mask.mask[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + self.pos_embed[:, 1:]
        if mask is not None and self.mask_token is None:
            tokens = gather_tokens(tokens, mask.ids_keep)
            key_mask = None if mask.padding is None else ~mask.padding
        return self.norm(self.blocks(self.prepend_class_token(tokens), with_class_token(key_mask)))

    def prepend_class_token(self, tokens: Float[Tensor, "batch patch width"]) -> Float[Tensor, "batch token width"]:
        """The class token with its position, then the tokens."""
        # `shape[0]`, since `len` would fix the batch size of an exported graph.
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat([cls, tokens], dim=1)


class MaskedAutoencoder(nn.Module):
    """Encode the visible patches, predict the removed ones.

    Args:
        patchifier: how a sample is cut.
        encoder: size of a transformer, or an encoder of another kind.
        decoder: size of the decoder, as a rule narrower and shallower.
        masking: strategy that scores patches.
        mask_ratio: share of the valid patches that is removed.
        target: what is predicted; by default patch-normalised values.
        encoder_mask_tokens: the ablation in which the encoder also sees a mask token for every removed patch.
        loss_on: `removed` patches, or `all` valid ones (an ablation).
        decoder_attention: `self` as in the paper, or `cross` for CrossMAE's decoder.
        cross_mask_ratio: share of the removed patches that is predicted in training, with `cross`; otherwise all are.

    Raises:
        ValueError: a ratio that leaves nothing to encode or nothing to predict, or options that exclude each other.
    """

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        encoder: TransformerConfig | Backbone,
        decoder: TransformerConfig,
        masking: Masking,
        mask_ratio: float = 0.75,
        target: Target | None = None,
        encoder_mask_tokens: bool = False,
        loss_on: Literal["removed", "all"] = "removed",
        decoder_attention: Literal["self", "cross"] = "self",
        cross_mask_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        patches = prod(patchifier.grid_size)
        if not 0 < count_kept(patches, mask_ratio) < patches:
            raise ValueError(
                f"mask_ratio {mask_ratio} keeps {count_kept(patches, mask_ratio)} of the {patches} patches of the grid "
                f"{patchifier.grid_size}: at least one must be kept and one removed"
            )
        self.patchifier, self.masking, self.mask_ratio = patchifier, masking, mask_ratio
        self.target, self.loss_on = target or PatchNormTarget(patchifier), loss_on
        if isinstance(encoder, TransformerConfig):
            encoder = Encoder(patchifier, encoder, mask_token=encoder_mask_tokens)
        elif encoder_mask_tokens and encoder.mask_token is None:
            raise ValueError(f"encoder_mask_tokens: {type(encoder).__name__} has no mask token of its own")
        self.encoder = encoder
        sizes = patchifier, decoder, encoder.width, self.target.dim
        self.decoder: Decoder
        if decoder_attention == "self":
            if cross_mask_ratio != 1:
                raise ValueError(
                    f"cross_mask_ratio {cross_mask_ratio} needs decoder_attention `cross`: `self` predicts all"
                )
            self.decoder = SelfDecoder(*sizes, complete=encoder_mask_tokens)
        else:
            if encoder_mask_tokens or loss_on == "all":
                raise ValueError(
                    "decoder_attention `cross` predicts removed patches only: it excludes encoder_mask_tokens and loss_on `all`"
                )
            self.decoder = CrossDecoder(*sizes, cross_mask_ratio=cross_mask_ratio)

    def forward(
        self,
        x: Float[Tensor, "batch *sample"],
        *,
        valid: Bool[Tensor, "batch patch"] | None = None,
        noise: Float[Tensor, "batch patch"] | None = None,
    ) -> MAEOutput:
        """One pretraining pass.

        Args:
            x: (batch, *sample_shape); values where `valid` is False may be anything, NaN included.
            valid: (batch, patch) True where measured; other patches are neither encoded, attended to nor in the loss.
            noise: (batch, patch) uniform in [0, 1); given, the pass is repeatable.
        """
        patches = zero_invalid(self.patchifier.patchify(x), valid)
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=x.device)
        mask = mask_patches(self.masking(noise), self.mask_ratio, valid)
        latent = self.encoder.encode(patches, valid, mask)
        pred, predicted = self.decoder(latent, mask, valid, noise)
        errors = self.target.loss(pred, self.target(patches, valid))
        loss = masked_mean(errors, predicted & self.loss_mask(mask.mask, valid))
        return MAEOutput(loss, pred, mask.mask, latent)

    def loss_mask(
        self, mask: Bool[Tensor, "batch patch"], valid: Bool[Tensor, "batch patch"] | None, target: Target | None = None
    ) -> Bool[Tensor, "batch patch"]:
        """Patches that the loss is a mean over: the removed ones (or all) whose target is defined.

        Args:
            mask: (batch, patch) True = removed.
            valid: (batch, patch) True where measured (None: everywhere).
            target: what is predicted, by default the model's own target.
        """
        candidates = mask if self.loss_on == "removed" else torch.ones_like(mask)
        defined = (target or self.target).loss_mask(valid)
        return candidates if defined is None else candidates & defined
