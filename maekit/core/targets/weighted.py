"""A target whose loss counts the more in a patch, the more happens there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from maekit.core.energy import spread
from maekit.core.targets.base import PatchStatistics, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.core.patchify import Patchifier


class WeightedTarget(Target):
    """Another target, each patch's loss times a weight; in samples that are mostly noise the loss is otherwise mostly noise's.

    The weight of patch i of a sample is floor + (1 - floor) * s_i^power / mean(s^power), with s the `spread` of the patch itself
    and the mean over the sample's known patches: weights average one, and none is below the floor. Neither the encoder nor the
    decoder is given them. Of `patch_norm`, power 2 without a floor is nearly the loss of `raw` with the patches' means taken out,
    relative to the sample's variance.

    Args:
        patchifier: how a sample is cut.
        of: the target.
        power: 0 weighs all patches alike.
        floor: the least weight.

    Raises:
        ValueError: a power below 0, a floor that is not from 0 to 1, patches of one number.
    """

    def __init__(self, patchifier: Patchifier, *, of: Target, power: float = 1.0, floor: float = 0.1) -> None:
        super().__init__()
        if power < 0 or not 0 <= floor <= 1:
            raise ValueError(f"power={power}, floor={floor}: expected a power of 0 or more and a floor from 0 to 1")
        if patchifier.patch_dim < 2:
            raise ValueError("a patch of one number has no spread to weigh it by: use larger patches")
        self.of, self.power, self.floor = of, power, floor
        self.dim, self.average_of, self.local = of.dim, of.average_of, of.local

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Shaped[Tensor, "batch patch target"]:
        return self.of(patches, valid)

    def patch_weights(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch"]:
        inner, known = self.of.patch_weights(patches, valid), self.known(valid)
        strength = spread(patches)
        counted = torch.ones_like(strength) if known is None else known.to(strength)
        # Relative to the largest first, so that no power of it underflows.
        strength = (strength / strength.amax(1, keepdim=True).clamp(min=1e-12)) ** self.power * counted
        total, number = strength.sum(1, keepdim=True), counted.sum(1, keepdim=True)
        relative = torch.where(total > 0, strength * number / total.clamp(min=1e-12), counted)
        weights = (self.floor + (1 - self.floor) * relative) * counted
        return weights if inner is None else weights * inner

    def known(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        return self.of.known(valid)

    def loss(
        self, pred: Float[Tensor, "batch patch out"], target: Shaped[Tensor, "batch patch target"]
    ) -> Float[Tensor, "batch patch"]:
        return self.of.loss(pred, target)

    def parts(
        self, pred: Float[Tensor, "batch patch out"], target: Shaped[Tensor, "batch patch target"]
    ) -> dict[str, Float[Tensor, "batch patch"]]:
        """Those of the other target, and its loss without weights."""
        return {"unweighted": self.of.loss(pred, target)} | self.of.parts(pred, target)

    def average(
        self, target: Shaped[Tensor, "batch patch target"], visible: Bool[Tensor, "batch patch"]
    ) -> Float[Tensor, "batch patch out"]:
        return self.of.average(target, visible)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        self.of.fit(patches)

    @property
    def drawn(self) -> Target:
        return self.of.drawn

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics | None:
        return self.of.statistics(patches)

    def as_patches(self, pred: Float[Tensor, "batch patch out"]) -> Float[Tensor, "batch patch dim"]:
        return self.of.as_patches(pred)
