"""Discrete tokens for patches: the interface of a tokenizer, and one for any signal.

It rounds a few bounded numbers for each patch, each to its nearest level (finite scalar quantisation, Mentzer et al., 2023),
where a VQ-VAE looks up the nearest vector of a learned codebook. The vocabulary is the product of the numbers of levels;
there is no codebook that could collapse, no moving average to synchronise over processes, and plain reconstruction trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maekit.core.losses import masked_mean, squared_error
from maekit.core.patchify import zero_invalid
from maekit.core.positions import sincos_positions
from maekit.core.transformer import LayerNorm, TransformerConfig, build_blocks, initialise

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class Tokenizer(Protocol):
    """One code for each patch. A plug-in's class is constructed as `kind(patchifier, **options)`."""

    vocabulary: int
    """Codes are 0 to vocabulary - 1."""

    def codes(self, x: Float[Tensor, "batch *sample"]) -> Int[Tensor, "batch patch"]:
        """Codes of standardised samples, as the encoder gets them (0 where invalid)."""
        ...


class Tokenized(NamedTuple):
    """Result of one pass.

    Attributes:
        loss: mean squared error of the reconstruction over valid patches.
        pred: the reconstruction, (batch, patch, patch_dim).
        codes: (batch, patch).
    """

    loss: Float[Tensor, ""]
    pred: Float[Tensor, "batch patch dim"]
    codes: Int[Tensor, "batch patch"]


class FiniteScalarTokenizer(nn.Module):
    """Patches to codes and back: a transformer, `len(levels)` rounded numbers for each patch, a transformer.

    Args:
        patchifier: how a sample is cut; must be that of the model which predicts the codes.
        levels: values that each number may take; the vocabulary is their product.
        width, depth, heads: of both transformers; with depth 0 the code of a patch depends on that patch alone.

    Raises:
        ValueError: no levels, or fewer than three.
    """

    trained: Tensor
    """Whether it ever was trained: codes of initial weights mean nothing."""
    _levels: Tensor
    _halves: Tensor
    _places: Tensor

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        levels: Sequence[int] = (8, 8, 8),
        width: int = 256,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not levels or min(levels) < 3:
            raise ValueError(f"levels {list(levels)}, expected one or more numbers, each at least 3")
        self.patchifier, self.levels, self.vocabulary = patchifier, tuple(levels), prod(levels)
        config = TransformerConfig(width, depth, heads)
        self.embed, self.pred = nn.Linear(patchifier.patch_dim, width), nn.Linear(width, patchifier.patch_dim)
        self.to_code, self.from_code = nn.Linear(width, len(levels)), nn.Linear(len(levels), width)
        positions = sincos_positions(patchifier.grid_size, width, prefix_tokens=0)
        self.register_buffer("pos_embed", positions, persistent=False)
        self.encoder, self.decoder = build_blocks(config), build_blocks(config)
        self.encoder_norm, self.decoder_norm = LayerNorm(width), LayerNorm(width)
        self.register_buffer("trained", torch.tensor(False))
        places = [prod(levels[:i]) for i in range(len(levels))]
        # Constants of the codes; buffers, so that no step copies them to the device.
        self.register_buffer("_levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.register_buffer("_halves", torch.tensor(levels) // 2, persistent=False)
        self.register_buffer("_places", torch.tensor(places), persistent=False)
        initialise(self)

    def forward(self, x: Float[Tensor, "batch *sample"], valid: Bool[Tensor, "batch patch"] | None = None) -> Tokenized:
        """Encode, round, decode; rounding passes the gradient on unchanged."""
        if self.training:
            self.trained.fill_(True)
        patches = zero_invalid(self.patchifier.patchify(x), valid)
        scaled = self._scale(patches, valid)
        rounded = scaled + (scaled.round() - scaled).detach()
        tokens = self.from_code(rounded / self._halves) + self.pos_embed
        pred = self.pred(self.decoder_norm(self.decoder(tokens, valid)))
        return Tokenized(masked_mean(squared_error(pred, patches), valid), pred, self._to_codes(scaled))

    def codes(self, x: Float[Tensor, "batch *sample"]) -> Int[Tensor, "batch patch"]:
        """Codes of samples, without reconstruction."""
        return self._to_codes(self._scale(self.patchifier.patchify(x), None))

    def _scale(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None
    ) -> Float[Tensor, "batch patch number"]:
        """Numbers bounded so that rounding gives exactly `level` whole ones, of which -(level // 2) is the lowest."""
        tokens = self.encoder(self.embed(patches) + self.pos_embed, valid)
        z = self.to_code(self.encoder_norm(tokens)).float()
        half, offset = (self._levels - 1) * (1 - 1e-3) / 2, torch.where(self._levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def _to_codes(self, scaled: Float[Tensor, "batch patch number"]) -> Int[Tensor, "batch patch"]:
        digits = scaled.detach().round().long() + self._halves
        return einsum(digits, self._places, "batch patch number, number -> batch patch")
