"""Discrete tokens for patches: the protocol of a tokenizer, and one of our own for any modality.

Ours quantises a few bounded numbers a patch, each to its nearest level (finite scalar quantisation, Mentzer et al.,
2023), where a VQ-VAE looks up the nearest vector of a learned codebook. The product of the levels is the vocabulary;
there is no codebook to collapse, no moving average to keep equal over processes, and plain reconstruction trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maekit.core.positions import sincos_positions
from maekit.core.targets.base import squared_error
from maekit.core.transformer import LayerNorm, TransformerConfig, blocks, initialise, run

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class Tokenizer(Protocol):
    """One code a patch. A plug-in's class is constructed as `kind(patchifier, **options)`."""

    vocabulary: int
    """Codes are 0 to vocabulary - 1."""

    def codes(self, x: Float[Tensor, "batch *sample"]) -> Int[Tensor, "batch patch"]:
        """Of standardised samples, as the encoder gets them (where not measured: 0)."""
        ...


class Tokenized(NamedTuple):
    """Of one pass: loss is the mean squared error over measured patches of the reconstruction `pred`."""

    loss: Float[Tensor, ""]
    pred: Float[Tensor, "batch patch dim"]
    codes: Int[Tensor, "batch patch"]


class FiniteScalarTokenizer(nn.Module):
    """Patches to codes and back: a transformer, `len(levels)` rounded numbers a patch, a transformer.

    Args:
        patchifier: how a sample is cut; the tokenizer must cut as the model that predicts its codes.
        levels: values that each number may take; the vocabulary is their product.
        width, depth, heads: of both transformers; with depth 0 the code of a patch depends on that patch alone.
    """

    trained: Tensor
    """Whether it ever was: codes of initial weights mean nothing."""

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
        self.encoder, self.decoder = blocks(config), blocks(config)
        self.encoder_norm, self.decoder_norm = LayerNorm(width), LayerNorm(width)
        self.register_buffer("trained", torch.tensor(False))
        initialise(self)

    def forward(self, x: Float[Tensor, "batch *sample"], valid: Bool[Tensor, "batch patch"] | None = None) -> Tokenized:
        """Encode, round, decode; the gradient passes the rounding as if it were not there."""
        if self.training:
            self.trained.fill_(True)
        patches, measured = self._patches(x, valid)
        scaled = self._scaled(patches, valid)
        rounded = scaled + (scaled.round() - scaled).detach()
        halves = rounded.new_tensor([level // 2 for level in self.levels])
        tokens = self.from_code(rounded / halves) + self.pos_embed
        pred = self.pred(self.decoder_norm(run(self.decoder, tokens, valid)))
        loss = torch.where(measured, squared_error(pred, patches), 0.0).sum() / measured.sum().clamp(min=1)
        return Tokenized(loss, pred, self._index(scaled))

    def codes(self, x: Float[Tensor, "batch *sample"]) -> Int[Tensor, "batch patch"]:
        patches, _ = self._patches(x, None)
        return self._index(self._scaled(patches, None))

    def _patches(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        patches = self.patchifier.patchify(x)
        if valid is None:
            return patches, torch.ones(patches.shape[:2], dtype=torch.bool, device=x.device)
        return torch.where(valid[..., None], patches, 0.0), valid

    def _scaled(self, patches: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, patch, number), bounded so that rounding gives exactly `level` whole numbers, -(level // 2) the lowest."""
        tokens = run(self.encoder, self.embed(patches) + self.pos_embed, valid)
        z = self.to_code(self.encoder_norm(tokens)).float()
        levels = z.new_tensor(self.levels)
        half, offset = (levels - 1) * (1 - 1e-3) / 2, torch.where(levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def _index(self, scaled: Tensor) -> Tensor:
        digits = scaled.detach().round().long() + scaled.new_tensor([level // 2 for level in self.levels]).long()
        places = [prod(self.levels[:i]) for i in range(len(self.levels))]
        return einsum(digits, digits.new_tensor(places), "batch patch number, number -> batch patch")
