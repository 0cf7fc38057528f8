"""One masked autoencoder over several signals of the same moment, any of which may be missing.

As in MultiMAE (Bachmann et al., 2022, arXiv:2204.01678): every signal has an embedding of its own, one transformer reads
the visible patches of all, and every signal has a decoder of its own, which sees what was encoded of the others. Unlike there
every signal is masked by the same ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.autoencoder import Decoder, Encoder, MAEOutput, MaskedAutoencoder, PatchEmbed, mean_over
from maekit.core.encoders.base import gather, zero_invalid
from maekit.core.masking import Mask, RandomMasking, mask_patches, scores_of
from maekit.core.positions import sincos_positions
from maekit.core.targets.base import PatchNormTarget, Target
from maekit.core.transformer import TransformerConfig, run

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

PRIMARY = ""
"""Name of the signal that an encoder is of, among those beside it."""


class Sampled(NamedTuple):
    """One signal of a batch: x (batch, *sample), valid (batch, patch) or None, noise (batch, patch) or None."""

    x: Float[Tensor, "batch *sample"]
    valid: Bool[Tensor, "batch patch"] | None = None
    noise: Float[Tensor, "batch patch"] | None = None


class Cut(NamedTuple):
    """The same in patches (batch, patch, dim), with the mask where some are removed."""

    patches: Float[Tensor, "batch patch dim"]
    valid: Bool[Tensor, "batch patch"] | None
    mask: Mask | None = None


class Embedding(nn.Module):
    """Of another signal: its patches to tokens of the encoder's width, with positions of their own and what tells them apart."""

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
        return self.patch_embed(patches) + self.pos_embed + self.kind


class JointEncoder(Encoder):
    """An `Encoder` that can also read signals beside its own; without them it is one, with the same names of weights.

    Args:
        patchifier, config: as of `Encoder`.
        auxiliary: how the other signals are cut, by name.
    """

    def __init__(
        self, patchifier: Patchifier, config: TransformerConfig, *, auxiliary: Mapping[str, Patchifier]
    ) -> None:
        super().__init__(patchifier, config)
        self.auxiliary = nn.ModuleDict({name: Embedding(other, config.width) for name, other in auxiliary.items()})

    def encode_together(self, parts: Mapping[str, Cut]) -> dict[str, Float[Tensor, "batch token width"]]:
        """Tokens of each signal that is given, the class token before those of the first.

        Where a sample has nothing measured of a signal, its tokens are attended to by no other and mean nothing.
        """
        tokens, keys = [], []
        for name, part in parts.items():
            measured = zero_invalid(part.patches, part.valid)
            if name == PRIMARY:
                embedded = self.patch_embed(measured) + self.pos_embed[:, 1:]
            else:
                embedded = self.embedding_of(name)(measured)
            if part.mask is not None:
                embedded = gather(embedded, part.mask.ids_keep)
            tokens.append(embedded)
            keys.append(readable(part))
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens[0]), -1, -1)
        tokens[0], keys[0] = torch.cat([cls, tokens[0]], 1), torch.cat([keys[0].new_ones(len(cls), 1), keys[0]], 1)
        everywhere = all(part.valid is None for part in parts.values())
        encoded = self.norm(run(self.blocks, torch.cat(tokens, 1), None if everywhere else torch.cat(keys, 1)))
        return dict(zip(parts, encoded.split([t.shape[1] for t in tokens], 1), strict=True))

    def together(self, signals: Mapping[str, Sampled]) -> dict[str, Float[Tensor, "batch token width"]]:
        """`encode_together` of whole signals, nothing masked."""
        return self.encode_together(
            {name: Cut(self.patchifier_of(name).patchify(signal.x), signal.valid) for name, signal in signals.items()}
        )

    def embedding_of(self, name: str) -> Embedding:
        """Of a signal beside."""
        found = self.auxiliary[name]
        assert isinstance(found, Embedding)
        return found

    def patchifier_of(self, name: str) -> Patchifier:
        """Of its own signal (`PRIMARY`) or of one beside it."""
        return self.patchifier if name == PRIMARY else self.embedding_of(name).patchifier


class JointAutoencoder(MaskedAutoencoder):
    """A `MaskedAutoencoder` that also removes and predicts patches of signals beside its own.

    Of the others patches are removed at random, at the same ratio, and their patch-normalised values predicted.

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
        if not isinstance(self.decoder, Decoder) or encoder.mask_token is not None:
            raise ValueError("decoder_attention `cross` and encoder_mask_tokens are for one signal alone")
        others = {name: encoder.patchifier_of(name) for name in encoder.auxiliary}
        self.targets = nn.ModuleDict({name: PatchNormTarget(other) for name, other in others.items()})
        self.decoders = nn.ModuleDict(
            {name: Decoder(other, decoder, encoder.width, self.target_of(name).dim) for name, other in others.items()}
        )
        self.maskings = {name: RandomMasking(other) for name, other in others.items()}

    def target_of(self, name: str) -> Target:
        """What is predicted of a signal."""
        return self.target if name == PRIMARY else self.targets[name]  # type: ignore[return-value]

    def together(self, signals: Mapping[str, Sampled]) -> dict[str, MAEOutput]:
        """One pretraining pass over the signals that a batch has; losses, predictions and masks of each."""
        cut = {name: self._cut(name, signal) for name, signal in signals.items()}
        latent = self.encoder.encode_together(cut)
        first = next(iter(latent))
        cls = latent[first][:, :1]
        latent[first] = latent[first][:, 1:]
        found = {}
        for name, part in cut.items():
            others = [other for other in cut if other != name]
            context = torch.cat([latent[other] for other in others], 1) if others else None
            partly = any(cut[other].valid is not None for other in others)
            keys = torch.cat([readable(cut[other]) for other in others], 1) if partly else None
            decoder = self.decoder if name == PRIMARY else self.decoders[name]
            pred = decoder(torch.cat([cls, latent[name]], 1), part.mask, part.valid, context, keys)
            target = self.target_of(name)
            errors = target.apply_weights(target.loss(pred, target(part.patches, part.valid)), part.patches, part.valid)
            assert part.mask is not None
            found[name] = MAEOutput(mean_over(errors, self.scored(part.mask.mask, part.valid)), pred, part.mask.mask)
        return found

    def forward(
        self,
        x: Float[Tensor, "batch *sample"],
        *,
        valid: Bool[Tensor, "batch patch"] | None = None,
        noise: Float[Tensor, "batch patch"] | None = None,
    ) -> MAEOutput:
        """A pass over its own signal alone; see `MaskedAutoencoder.forward`."""
        return self.together({PRIMARY: Sampled(x, valid, noise)})[PRIMARY]

    def _cut(self, name: str, signal: Sampled) -> Cut:
        patches = zero_invalid(self.encoder.patchifier_of(name).patchify(signal.x), signal.valid)
        noise = signal.noise
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=patches.device)
        masking = self.masking if name == PRIMARY else self.maskings[name]
        scores = scores_of(masking, noise, patches, signal.valid)
        return Cut(patches, signal.valid, mask_patches(scores, self.mask_ratio, signal.valid))


def readable(part: Cut) -> Bool[Tensor, "batch token"]:
    """Which tokens of a signal stand for something measured."""
    measured = part.valid
    if part.mask is None:
        return torch.ones_like(part.patches[..., 0], dtype=torch.bool) if measured is None else measured
    ids = part.mask.ids_keep
    if measured is None or part.mask.padding is None:
        return torch.ones_like(ids, dtype=torch.bool)
    return ~part.mask.padding & measured.gather(1, ids)
