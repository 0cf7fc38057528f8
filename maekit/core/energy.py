"""Samples that are mostly empty: how much happens in each patch, and masking that goes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


def spread(patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch"]:
    """Standard deviation of each patch, in float32: what a patch has beyond its own mean.

    The square root of its energy with the mean taken out, so that it does not depend on where a (logarithmic) scale has its zero.
    """
    return patches.float().std(dim=-1, correction=0)


class EnergyMasking:
    """Of the patches with the largest `spread` and of the others, the same share is removed from every sample, or a stated one.

    Plain random masking removes that share on average only: of few such patches it often removes all, and there is nothing to
    predict them from, or none, and there is nothing to learn. Within both kinds, which patches are removed is random.

    What it tells of what was removed: as it stands nothing, for each patch is removed with the same probability, whatever is in it;
    that a known number of the removed patches are energetic is the only thing fixed. With `removed` other than the mask ratio it
    is not nothing: where the share is larger, a removed patch is the more likely an energetic one, `removed / mask_ratio` times
    as likely as any patch is.

    Args:
        patchifier: how a sample is cut.
        energetic: share of a sample's measured patches that are taken as energetic.
        removed: share of these that is removed, as far as the mask ratio allows; default the mask ratio.

    Raises:
        ValueError: shares that are not between 0 and 1.
    """

    sees_patches = True

    def __init__(self, patchifier: Patchifier, *, energetic: float = 0.25, removed: float | None = None) -> None:
        del patchifier
        if not 0 < energetic < 1 or not (removed is None or 0 < removed < 1):
            raise ValueError(f"energetic={energetic}, removed={removed}: expected shares between 0 and 1")
        self.energetic, self.removed = energetic, removed

    def __call__(
        self,
        noise: Float[Tensor, "batch patch"],
        patches: Float[Tensor, "batch patch dim"],
        valid: Bool[Tensor, "batch patch"] | None = None,
    ) -> Float[Tensor, "batch patch"]:
        measured = torch.ones_like(noise, dtype=torch.bool) if valid is None else valid
        count = (self.energetic * measured.sum(1, keepdim=True)).round()
        energy = torch.where(measured, spread(patches), -1.0)
        much = _rank(-energy, measured) < count
        # Evenly from 0 to 1 in random order within each kind: a threshold anywhere takes the same share of both.
        one, other = _quantile(noise, much & measured), _quantile(noise, ~much & measured)
        if self.removed is not None:
            one = torch.where(one < 1 - self.removed, one - 1, one + 1)
        return torch.where(much, one, other)


def _rank(values: Float[Tensor, "batch patch"], among: Bool[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
    """Place of each patch in rising order among some; the others come after."""
    order = torch.where(among, values, torch.inf).argsort(dim=1, stable=True)
    return order.argsort(dim=1).to(values)


def _quantile(noise: Float[Tensor, "batch patch"], among: Bool[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
    """Where each patch lies among some, one at random in each of as many equal parts of the interval from 0 to 1."""
    return (_rank(noise, among) + (noise * 4096) % 1) / among.sum(1, keepdim=True).clamp(min=1)
