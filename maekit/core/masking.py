"""Which patches are removed. A strategy scores patches; `mask_patches` keeps those with the lowest scores.

So every strategy removes an exact count and batches without padding. All randomness comes from `noise`, one number
in [0, 1) for each patch, so that a step can be repeated. A strategy sees neither the class token nor what is in the patches.
"""

from __future__ import annotations

from math import frexp, ldexp
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maekit.core.row_groups import can_be_read

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class Mask(NamedTuple):
    """The outcome of masking, with the names of the MAE paper's code.

    Attributes:
        mask: (batch, patch) True = removed and to be predicted.
        ids_keep: (batch, kept) patches that the encoder sees, in shuffled order.
        ids_restore: (batch, patch) position of each patch in the shuffled order.
        padding: (batch, kept) True where an entry of `ids_keep` only fills up the row, None when every row is full.
    """

    mask: Bool[Tensor, "batch patch"]
    ids_keep: Int[Tensor, "batch kept"]
    ids_restore: Int[Tensor, "batch patch"]
    padding: Bool[Tensor, "batch kept"] | None


@runtime_checkable
class Masking(Protocol):
    """A masking strategy: uniform noise (batch, patch) -> scores (batch, patch); patches with the highest are removed."""

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        """Score every patch."""
        ...


def count_kept(patches: int, mask_ratio: float) -> int:
    """How many of `patches` stay visible: `int(patches * (1 - mask_ratio))`, as in the paper's code."""
    return int(patches * (1 - mask_ratio))


def mask_patches(
    scores: Float[Tensor, "batch patch"], mask_ratio: float, valid: Bool[Tensor, "batch patch"] | None = None
) -> Mask:
    """Keep the share `1 - mask_ratio` of the patches of each sample that has the lowest scores.

    Args:
        scores: (batch, patch) from a strategy.
        mask_ratio: share of the patches that is removed.
        valid: (batch, patch) True where measured. Invalid patches are neither kept nor predicted, and `mask_ratio` is
            taken of the valid ones; each sample keeps at least one of them.

    Raises:
        ValueError: a ratio that leaves nothing to encode or nothing to predict.
    """
    patches = scores.shape[1]
    keep = count_kept(patches, mask_ratio)
    if not 0 < keep < patches:
        raise ValueError(
            f"mask_ratio {mask_ratio} keeps {keep} of {patches} patches: at least one must be kept and one removed"
        )
    if valid is None:
        ids_shuffle = scores.argsort(dim=1, stable=True)
        ids_restore = ids_shuffle.argsort(dim=1)
        return Mask(ids_restore >= keep, ids_shuffle[:, :keep], ids_restore, None)
    ids_shuffle = torch.where(valid, scores, torch.inf).argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    keeps = (valid.sum(dim=1, keepdim=True) * (1 - mask_ratio)).int().clamp(min=1)
    ids_keep = ids_shuffle[:, : _row_length(keeps, patches, mask_ratio)]
    padding = torch.arange(ids_keep.shape[1], device=scores.device) >= keeps
    return Mask((ids_restore >= keeps) & valid, ids_keep, ids_restore, padding)


def _row_length(keeps: Int[Tensor, "batch 1"], patches: int, mask_ratio: float) -> int:
    """Patches that the fullest row keeps.

    Where counts cannot be read, what a row without invalid patches would keep, by the same float32 product.
    """
    if can_be_read(keeps):
        return int(keeps.max())
    return max(1, int(_as_float32(patches * _as_float32(1 - mask_ratio))))


def _as_float32(value: float) -> float:
    mantissa, exponent = frexp(value)
    return ldexp(round(mantissa * 2**24), exponent - 24)


def gather_tokens(
    tokens: Float[Tensor, "batch token width"], ids: Int[Tensor, "batch picked"]
) -> Float[Tensor, "batch picked width"]:
    """The tokens at `ids` of each sample."""
    return tokens.gather(1, repeat(ids, "batch picked -> batch picked width", width=tokens.shape[2]))


class RandomMasking:
    """Every patch is removed with the same probability: the paper's choice."""

    def __init__(self, patchifier: Patchifier) -> None:
        del patchifier  # every strategy is constructed from one; this one does not depend on the grid

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        """The noise itself."""
        return noise
