"""One masked autoencoder over several signals of the same moment, any of which may be missing.

As in MultiMAE (Bachmann et al., 2022, arXiv:2204.01678) every signal has its own patch embedding, one transformer encodes the
visible patches of all, and every signal has its own decoder, which attends to the encoded patches of the others. Unlike there
every signal is masked by the same ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.autoencoder import Encoder, MAEOutput, MaskedAutoencoder, PatchEmbed
from maekit.core.decoder import SelfDecoder
from maekit.core.losses import masked_mean
from maekit.core.masking import Mask, RandomMasking, gather_tokens, mask_patches
from maekit.core.patchify import zero_invalid
from maekit.core.positions import sincos_positions
from maekit.core.targets.base import Target
from maekit.core.targets.pixels import PatchNormTarget
from maekit.core.transformer import TransformerConfig, with_class_token

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

PRIMARY = ""
"""Name of an encoder's own signal, among the auxiliary ones."""


class SignalBatch(NamedTuple):
    """One signal of a batch: x (batch, *sample), valid (batch, patch) or None, noise (batch, patch) or None."""

    x: Float[Tensor, "batch *sample"]
    valid: Bool[Tensor, "batch patch"] | None = None
    noise: Float[Tensor, "batch patch"] | None = None


class SignalPatches(NamedTuple):
    """One signal of a batch in patches (batch, patch, dim), zeros where invalid, with a mask where some are removed."""

    patches: Float[Tensor, "batch patch dim"]
    valid: Bool[Tensor, "batch patch"] | None
    mask: Mask | None = None

    def key_mask(self) -> Bool[Tensor, "batch token"]:
        """Which of the encoded tokens stand for something valid."""
        if self.mask is None:
            return torch.ones_like(self.patches[..., 0], dtype=torch.bool) if self.valid is None else self.valid
        if self.valid is None or self.mask.padding is None:
            return torch.ones_like(self.mask.ids_keep, dtype=torch.bool)
        return ~self.mask.padding & self.valid.gather(1, self.mask.ids_keep)


class SignalEmbedding(nn.Module):
    """Patches of an auxiliary signal to tokens of the encoder's width, with its own positions and an embedding of its kind."""

    def __init__(self, patchifier: Patchifier, width: int) -> None:
        super().__init__()
        self.patchifier = patchifier
        self.patch_embed = PatchEmbed(patchifier.patch_dim, width)
        positions = sincos_positions(patchifier.grid_size, width, prefix_tokens=0)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.kind = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.xavier_uniform_(self.patch_embed.proj.weight)
        nn.init.normal_(self.kind, std=0.02)

    def forward(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch width"]:
        """Embed each patch."""
        return self.patch_embed(patches) + self.pos_embed + self.kind


class JointEncoder(Encoder):
    """An `Encoder` that can also read auxiliary signals; without them it is an `Encoder`, with the same names of weights.

    Args:
        patchifier, config: as of `Encoder`.
        auxiliary: patchifiers of the other signals, by name.
    """

    def __init__(
        self, patchifier: Patchifier, config: TransformerConfig, *, auxiliary: Mapping[str, Patchifier]
    ) -> None:
        super().__init__(patchifier, config)
        self.auxiliary = nn.ModuleDict(
            {name: SignalEmbedding(other, config.width) for name, other in auxiliary.items()}
        )

    def encode_patches(self, parts: Mapping[str, SignalPatches]) -> dict[str, Float[Tensor, "batch token width"]]:
        """Tokens of each signal, the class token before those of the first one.

        Where nothing of a signal is valid in a sample, no other token attends to its tokens, and they are meaningless.
        """
        tokens, key_masks = [], []
        for name, part in parts.items():
            if name == PRIMARY:
                embedded = self.patch_embed(part.patches) + self.pos_embed[:, 1:]
            else:
                embedded = self.embedding_of(name)(part.patches)
            if part.mask is not None:
                embedded = gather_tokens(embedded, part.mask.ids_keep)
            tokens.append(embedded)
            key_masks.append(part.key_mask())
        tokens[0] = self.prepend_class_token(tokens[0])
        all_valid = all(part.valid is None for part in parts.values())
        key_mask = None if all_valid else with_class_token(torch.cat(key_masks, 1))
        encoded = self.norm(self.blocks(torch.cat(tokens, 1), key_mask))
        return dict(zip(parts, encoded.split([t.shape[1] for t in tokens], 1), strict=True))

    def encode_signals(self, signals: Mapping[str, SignalBatch]) -> dict[str, Float[Tensor, "batch token width"]]:
        """`encode_patches` of whole signals, nothing masked."""
        parts = {}
        for name, signal in signals.items():
            patches = zero_invalid(self.patchifier_of(name).patchify(signal.x), signal.valid)
            parts[name] = SignalPatches(patches, signal.valid)
        return self.encode_patches(parts)

    def embedding_of(self, name: str) -> SignalEmbedding:
        """The embedding of an auxiliary signal."""
        embedding = self.auxiliary[name]
        assert isinstance(embedding, SignalEmbedding)
        return embedding

    def patchifier_of(self, name: str) -> Patchifier:
        """The patchifier of its own signal (`PRIMARY`) or of an auxiliary one."""
        return self.patchifier if name == PRIMARY else self.embedding_of(name).patchifier


class JointAutoencoder(MaskedAutoencoder):
    """A `MaskedAutoencoder` that also removes and predicts patches of auxiliary signals.

    Patches of these are removed at random, at the same ratio, and their patch-normalised values are predicted.

    Args:
        patchifier: of its own signal.
        encoder: joint.
        decoder: size of every decoder.
        options: as of `MaskedAutoencoder`, for its own signal.

    Raises:
        ValueError: options that are for one signal alone.
    """

    encoder: JointEncoder

    def __init__(
        self, patchifier: Patchifier, *, encoder: JointEncoder, decoder: TransformerConfig, **options: Any
    ) -> None:
        super().__init__(patchifier, encoder=encoder, decoder=decoder, **options)
        if not isinstance(self.decoder, SelfDecoder) or encoder.mask_token is not None:
            raise ValueError("decoder_attention `cross` and encoder_mask_tokens are for one signal alone")
        others = {name: encoder.patchifier_of(name) for name in encoder.auxiliary}
        self.targets = nn.ModuleDict({name: PatchNormTarget(other) for name, other in others.items()})
        self.decoders = nn.ModuleDict(
            {
                name: SelfDecoder(other, decoder, encoder.width, self.target_of(name).dim)
                for name, other in others.items()
            }
        )
        self.maskings = {name: RandomMasking(other) for name, other in others.items()}

    def target_of(self, name: str) -> Target:
        """What is predicted of a signal."""
        return self.target if name == PRIMARY else self.targets[name]  # type: ignore[return-value]

    def forward_signals(self, signals: Mapping[str, SignalBatch]) -> dict[str, MAEOutput]:
        """One pretraining pass over the signals of a batch: loss, predictions and mask of each."""
        parts = {name: self._mask(name, signal) for name, signal in signals.items()}
        latent = self.encoder.encode_patches(parts)
        first = next(iter(latent))
        cls, latent[first] = latent[first][:, :1], latent[first][:, 1:]
        outputs = {}
        for name, part in parts.items():
            assert part.mask is not None
            others = [other for other in parts if other != name]
            context = torch.cat([latent[other] for other in others], 1) if others else None
            partly = any(parts[other].valid is not None for other in others)
            context_mask = torch.cat([parts[other].key_mask() for other in others], 1) if partly else None
            decoder = self.decoder if name == PRIMARY else self.decoders[name]
            tokens = torch.cat([cls, latent[name]], 1)
            pred, _ = decoder(tokens, part.mask, part.valid, context=context, context_mask=context_mask)
            target = self.target_of(name)
            errors = target.loss(pred, target(part.patches, part.valid))
            loss = masked_mean(errors, self.loss_mask(part.mask.mask, part.valid, target))
            outputs[name] = MAEOutput(loss, pred, part.mask.mask, tokens)
        return outputs

    def forward(
        self,
        x: Float[Tensor, "batch *sample"],
        *,
        valid: Bool[Tensor, "batch patch"] | None = None,
        noise: Float[Tensor, "batch patch"] | None = None,
    ) -> MAEOutput:
        """A pass over its own signal alone; see `MaskedAutoencoder.forward`."""
        return self.forward_signals({PRIMARY: SignalBatch(x, valid, noise)})[PRIMARY]

    def _mask(self, name: str, signal: SignalBatch) -> SignalPatches:
        patches = zero_invalid(self.encoder.patchifier_of(name).patchify(signal.x), signal.valid)
        noise = signal.noise
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=patches.device)
        masking = self.masking if name == PRIMARY else self.maskings[name]
        return SignalPatches(patches, signal.valid, mask_patches(masking(noise), self.mask_ratio, signal.valid))
