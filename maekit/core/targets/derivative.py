"""The derivative of the sample along one axis as the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.core.targets.filtered import FilteredTarget

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class DerivativeTarget(FilteredTarget):
    """Central differences along one axis (one-sided at the ends), which give fast changes more weight than slow ones.

    Args:
        patchifier: gives the patches and the names of the axes.
        axis: name of the axis; optional when there is only one.

    Raises:
        ValueError: no such axis, or one of a single point.
    """

    def __init__(self, patchifier: Patchifier, *, axis: str | None = None) -> None:
        super().__init__(patchifier, axis, support=1)
        if self.length < 2:
            raise ValueError(f"the {self.axis} axis has one point only, and no derivative")

    def filter(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        """Central differences along the last axis."""
        return torch.gradient(x, dim=-1)[0]  # type: ignore[no-untyped-call]
