"""The masked autoencoder of He et al. (2021, arXiv:2111.06377) over whatever a patchifier cuts."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.cross_decoder import CrossDecoder
from maekit.core.encoders.base import Backbone, gather, zero_invalid
from maekit.core.masking import Mask, kept_patches, mask_patches, scores_of
from maekit.core.positions import sincos_positions
from maekit.core.targets.base import PatchNormTarget, squared_error
from maekit.core.transformer import LayerNorm, TransformerConfig, blocks, initialise, run

if TYPE_CHECKING:
    from maekit.core.masking import Masking, SeeingMasking
    from maekit.core.patchify import Patchifier
    from maekit.core.targets.base import Target


class MAEOutput(NamedTuple):
    """loss: mean over removed patches, weighed as the target has it; pred: (batch, patch, target dim); mask: (batch, patch) True = removed."""

    loss: Float[Tensor, ""]
    pred: Float[Tensor, "batch patch out"]
    mask: Bool[Tensor, "batch patch"]


class PatchEmbed(nn.Module):
    """Linear(patch_dim, width). `proj` as in timm, where it is a convolution over the same numbers."""

    def __init__(self, patch_dim: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(patch_dim, width)

    def forward(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch width"]:
        return self.proj(patches)


class Encoder(Backbone):
    """A vision transformer over patches, with a class token; state-dict names are timm's.

    Args:
        patchifier: how a sample is cut; gives grid and patch size.
        config: width, depth, heads.
        mask_token: also own a mask token, for the ablation in which the encoder sees removed patches as such.
    """

    def __init__(self, patchifier: Patchifier, config: TransformerConfig, *, mask_token: bool = False) -> None:
        super().__init__()
        self.patchifier, self.config, self.width = patchifier, config, config.width
        self.patch_embed = PatchEmbed(patchifier.patch_dim, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width)) if mask_token else None
        self.pos_embed = nn.Parameter(sincos_positions(patchifier.grid_size, config.width), requires_grad=False)
        self.blocks = blocks(config)
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
        """Through the blocks: all patches, only those that `mask` keeps, or (with a mask token) stand-ins as well."""
        tokens = self.patch_embed(zero_invalid(patches, valid))
        keys = valid
        if mask is not None and self.mask_token is not None:
            tokens = torch.where(mask.mask[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + self.pos_embed[:, 1:]
        if mask is not None and self.mask_token is None:
            tokens = gather(tokens, mask.ids_keep)
            keys = None if mask.padding is None else ~mask.padding
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)
        return self.norm(run(self.blocks, tokens, with_class_token(keys)))


class Decoder(nn.Module):
    """From encoded visible patches to a prediction for every patch."""

    def __init__(self, patchifier: Patchifier, config: TransformerConfig, encoder_width: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(sincos_positions(patchifier.grid_size, config.width), requires_grad=False)
        self.blocks = blocks(config)
        self.norm = LayerNorm(config.width)
        self.pred = nn.Linear(config.width, out_dim)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self,
        latent: Float[Tensor, "batch token width"],
        mask: Mask | None,
        valid: Bool[Tensor, "batch patch"] | None,
        context: Float[Tensor, "batch other width"] | None = None,
        keys: Bool[Tensor, "batch other"] | None = None,
    ) -> Float[Tensor, "batch patch out"]:
        """Put the tokens back in place, mask tokens where patches were removed (`mask` None: all are in place).

        `context` are encoded tokens of other signals, which are attended to where `keys` (None: everywhere).
        """
        tokens = self.embed(latent)
        cls, patches = tokens[:, :1], tokens[:, 1:]
        if mask is not None:
            missing = mask.ids_restore.shape[1] - patches.shape[1]
            filler = repeat(
                self.mask_token.to(patches.dtype), "1 1 width -> batch n width", batch=len(patches), n=missing
            )
            if mask.padding is not None:
                patches = torch.where(mask.padding[..., None], self.mask_token.to(patches.dtype), patches)
            patches = gather(torch.cat([patches, filler], dim=1), mask.ids_restore)
        tokens = torch.cat([cls, patches], dim=1) + self.pos_embed
        attended = with_class_token(valid)
        if context is not None:
            if attended is not None or keys is not None:
                attended = torch.cat([_all_of(tokens, attended), _all_of(context, keys)], dim=1)
            tokens = torch.cat([tokens, self.embed(context)], dim=1)
        return self.pred(self.norm(run(self.blocks, tokens, attended))[:, 1 : 1 + patches.shape[1]])


class MaskedAutoencoder(nn.Module):
    """Encode what is left visible, predict what was removed.

    Args:
        patchifier: how a sample is cut.
        encoder: size of the transformer that encodes, or an encoder of another kind.
        decoder: size of the decoder, narrower and shallower as a rule.
        masking: strategy that scores patches.
        mask_ratio: share of the measured patches that is removed.
        target: what is predicted; default the patch-normalised target.
        encoder_mask_tokens: the ablation in which the encoder also sees a mask token for every removed patch.
        loss_on: `removed` patches, or `all` that were measured (an ablation).
        decoder_attention: `cross` is CrossMAE's decoder, and not the paper's.
        cross_mask_ratio: of the removed patches, in training, with `cross`; otherwise all are predicted.

    Raises:
        ValueError: a ratio that leaves nothing to encode or nothing to predict.
    """

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        encoder: TransformerConfig | Backbone,
        decoder: TransformerConfig,
        masking: Masking | SeeingMasking,
        mask_ratio: float = 0.75,
        target: Target | None = None,
        encoder_mask_tokens: bool = False,
        loss_on: Literal["removed", "all"] = "removed",
        decoder_attention: Literal["self", "cross"] = "self",
        cross_mask_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        patches = prod(patchifier.grid_size)
        if not 0 < kept_patches(patches, mask_ratio) < patches:
            raise ValueError(
                f"mask_ratio {mask_ratio} keeps {kept_patches(patches, mask_ratio)} of the {patches} patches of the grid "
                f"{patchifier.grid_size}: at least one must be kept and one removed"
            )
        self.patchifier, self.masking, self.mask_ratio = patchifier, masking, mask_ratio
        self.target, self.loss_on = target or PatchNormTarget(patchifier), loss_on
        if isinstance(encoder, TransformerConfig):
            encoder = Encoder(patchifier, encoder, mask_token=encoder_mask_tokens)
        elif encoder_mask_tokens and encoder.mask_token is None:
            raise ValueError(f"encoder_mask_tokens: {type(encoder).__name__} has no mask token of its own")
        self.encoder = encoder
        cross = decoder_attention == "cross"
        if (cross and (encoder_mask_tokens or loss_on == "all")) or (not cross and cross_mask_ratio != 1):
            raise ValueError(
                "decoder_attention `cross` predicts removed patches alone, so it goes neither with encoder_mask_tokens nor "
                "with loss_on `all`; and cross_mask_ratio goes with nothing else"
            )
        self.cross_mask_ratio = cross_mask_ratio
        self.decoder = (CrossDecoder if cross else Decoder)(patchifier, decoder, encoder.width, self.target.dim)
        if encoder_mask_tokens:  # the decoder then gets every patch from the encoder
            self.decoder.mask_token.requires_grad_(False)

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
            valid: (batch, patch) True where measured; the others are neither encoded, attended to nor in the loss.
            noise: (batch, patch) uniform in [0, 1); given, the step is repeatable.
        """
        patches = zero_invalid(self.patchifier.patchify(x), valid)
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=x.device)
        mask = mask_patches(scores_of(self.masking, noise, patches, valid), self.mask_ratio, valid)
        latent = self.encoder.encode(patches, valid, mask)
        placed = self.encoder.mask_token is not None
        if isinstance(self.decoder, CrossDecoder):
            pred, chosen = self.decoder(latent, mask, noise, self.cross_mask_ratio if self.training else 1.0)
        else:
            pred, chosen = self.decoder(latent, None if placed else mask, valid), torch.ones_like(mask.mask)
        errors = self.target.apply_weights(self.target.loss(pred, self.target(patches, valid)), patches, valid)
        return MAEOutput(mean_over(errors, chosen & self.scored(mask.mask, valid)), pred, mask.mask)

    def scored(
        self, mask: Bool[Tensor, "batch patch"], valid: Bool[Tensor, "batch patch"] | None
    ) -> Bool[Tensor, "batch patch"]:
        """Patches that the loss is a mean over."""
        chosen = mask if self.loss_on == "removed" else torch.ones_like(mask)
        known = self.target.known(valid)
        return chosen if known is None else chosen & known


def masked_mse(
    pred: Float[Tensor, "batch patch out"], target: Float[Tensor, "batch patch out"], mask: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """Mean squared error over each patch, then the mean over removed patches (of the whole batch); float32."""
    return mean_over(squared_error(pred, target), mask)


def mean_over(errors: Float[Tensor, "batch patch"], counted: Bool[Tensor, "batch patch"]) -> Float[Tensor, ""]:
    """Mean over the patches that count, of the whole batch; what the others hold, NaN included, does not matter."""
    return torch.where(counted, errors, 0.0).sum() / counted.sum().clamp(min=1)


def with_class_token(keys: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch token"] | None:
    """The class token is always there to attend to."""
    return None if keys is None else torch.cat([keys.new_ones(len(keys), 1), keys], dim=1)


def _all_of(
    tokens: Float[Tensor, "batch token width"], keys: Bool[Tensor, "batch token"] | None
) -> Bool[Tensor, "batch token"]:
    return torch.ones_like(tokens[..., 0], dtype=torch.bool) if keys is None else keys
