"""Several targets at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.targets.base import PatchStatistics, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maekit.core.patchify import Patchifier


class Part(NamedTuple):
    """One target of a mix: its name in the log, and what its loss counts."""

    name: str
    target: Target
    weight: float = 1.0


class MixTarget(Target):
    """The weighted sum of the losses of several targets of numbers; each has its own slice of the prediction.

    A patch is known where all parts know it. The first part that can be turned back is drawn.

    Args:
        patchifier: how a sample is cut.
        parts: in the order of their slices.

    Raises:
        ValueError: no parts, a weight that is not positive, or a part that weighs its patches.
    """

    def __init__(self, patchifier: Patchifier, *, parts: Sequence[Part]) -> None:
        super().__init__()
        if not parts or any(not part.weight > 0 for part in parts):
            raise ValueError("a mix needs parts, each with a weight above 0")
        if any(type(part.target).patch_weights is not Target.patch_weights for part in parts):
            raise ValueError("a part of a mix cannot weigh patches by itself: weigh the whole mix")
        self.targets = nn.ModuleList(part.target for part in parts)
        self.weights = [part.weight for part in parts]
        # Two parts of one kind keep apart in the log by their place.
        names = [part.name for part in parts]
        self.names = [name if names.count(name) == 1 else f"{name}_{i + 1}" for i, name in enumerate(names)]
        self.sizes = [part.target.dim for part in parts]
        self.dim, self.local = sum(self.sizes), all(part.target.local for part in parts)
        patch = torch.zeros(1, 1, patchifier.patch_dim)
        shown = [i for i, part in enumerate(parts) if part.target.statistics(patch) is not None]
        self.shown = shown[0] if shown else 0

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch target"]:
        return torch.cat([target(patches, valid) for target in self.targets], dim=-1)

    def known(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        known = valid
        for target in self._each():
            theirs = target.known(valid)
            if theirs is not None:
                known = theirs if known is None else known & theirs
        return known

    def loss(
        self, pred: Float[Tensor, "batch patch out"], target: Float[Tensor, "batch patch target"]
    ) -> Float[Tensor, "batch patch"]:
        losses = self.parts(pred, target).values()
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum(0)

    def parts(
        self, pred: Float[Tensor, "batch patch out"], target: Float[Tensor, "batch patch target"]
    ) -> dict[str, Float[Tensor, "batch patch"]]:
        """Of each part, before its weight."""
        slices = zip(self.names, self._each(), _cut(pred, self.sizes), _cut(target, self.sizes), strict=True)
        return {name: one.loss(mine, wanted) for name, one, mine, wanted in slices}

    def average(
        self, target: Float[Tensor, "batch patch target"], visible: Bool[Tensor, "batch patch"]
    ) -> Float[Tensor, "batch patch out"]:
        slices = zip(self._each(), _cut(target, self.sizes), strict=True)
        return torch.cat([one.average(wanted, visible) for one, wanted in slices], dim=-1)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        for target in self._each():
            target.fit(patches)

    @property
    def drawn(self) -> Target:
        return self._each()[self.shown].drawn

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics | None:
        return self.drawn.statistics(patches)

    def as_patches(self, pred: Float[Tensor, "batch patch out"]) -> Float[Tensor, "batch patch dim"]:
        return self._each()[self.shown].as_patches(_cut(pred, self.sizes)[self.shown])

    def _each(self) -> list[Target]:
        return list(self.targets)  # type: ignore[arg-type]


def _cut(values: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.split(values, sizes, dim=-1)
