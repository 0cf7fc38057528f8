"""How alike two objects are: by where they are, or by the overlap of their boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maekit.metrics.constant import Constant

if TYPE_CHECKING:
    from maekit.metrics.plane import Plane


class Similarity(ABC):
    """From objects (..., column) to a number from 0 to 1; the first two columns are coordinates. Shapes broadcast."""

    @abstractmethod
    def __call__(
        self, one: Float[Tensor, "... column"], other: Float[Tensor, "... column"], kind: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Of objects of the same class `kind`; of what is NaN it is 0."""


class LocationSimilarity(Similarity):
    """OLS = exp(-d^2 / (2 s^2 kappa)), s the distance of `one` from the sensor; see `Plane.similarity`.

    Args:
        plane: where coordinates lie.
        kappa: kappa of each class.
    """

    def __init__(self, plane: Plane, kappa: Sequence[float]) -> None:
        self.plane, self.kappa = plane, Constant(torch.tensor(list(kappa)))

    def __call__(
        self, one: Float[Tensor, "... column"], other: Float[Tensor, "... column"], kind: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Similarity of each pair, with the kappa of its class; see `Similarity`."""
        own_kappa = self.kappa.like(one)[kind.clamp(min=0)]
        return self.plane.similarity(one[..., :2], other[..., :2], own_kappa).nan_to_num(0.0)


class Overlap(Similarity):
    """Intersection over union of boxes: columns are the centre and the extent along both axes."""

    def __call__(
        self, one: Float[Tensor, "... column"], other: Float[Tensor, "... column"], kind: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Intersection over union of each pair of boxes; see `Similarity`."""
        del kind
        low = torch.maximum(one[..., :2] - one[..., 2:4] / 2, other[..., :2] - other[..., 2:4] / 2)
        high = torch.minimum(one[..., :2] + one[..., 2:4] / 2, other[..., :2] + other[..., 2:4] / 2)
        shared = (high - low).clamp(min=0).prod(-1)
        total = one[..., 2:4].prod(-1) + other[..., 2:4].prod(-1) - shared
        return (shared / total.clamp(min=1e-12)).nan_to_num(0.0)


def similarity_of(plane: Plane, kappa: Sequence[float] | None, boxes: bool) -> Similarity:
    """The one that the options of detection ask for.

    Raises:
        ValueError: no kappa, or axes that are no places, and no boxes.
    """
    if boxes:
        return Overlap()
    if plane.angle is None:
        raise ValueError(
            f"objects over {' and '.join(plane.axes)} have no location similarity, which needs a distance and an angle: give `boxes: true`"
        )
    if kappa is None:
        raise ValueError("give `kappa`, a number for each class, or `boxes: true`")
    return LocationSimilarity(plane, kappa)
