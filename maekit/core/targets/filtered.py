"""Targets that are the sample after a linear filter along one axis."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from einops import pack, unpack
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.targets.axis import AxisTarget

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class FilteredTarget(AxisTarget):
    """The filtered sample, cut into patches like the sample itself.

    Args:
        patchifier, axis: as of `AxisTarget`.
        support: points to either side on which the filter depends noticeably.
    """

    def __init__(self, patchifier: Patchifier, axis: str | None, support: int) -> None:
        super().__init__(patchifier, axis, patchifier.patch_dim)
        self.support = min(support, self.length - 1)

    @abstractmethod
    def filter(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        """Filter along the last axis."""

    def compute(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        """Patches of the filtered samples."""
        return self.to_patches(self.filter(x))

    def is_complete(self, valid: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        """Patches with no invalid point within the support of the filter."""
        gaps, shape = pack([(~valid).float()], "* line")
        near = nn.functional.max_pool1d(gaps, 2 * self.support + 1, stride=1, padding=self.support)
        return (self.to_patches(unpack(near, shape, "* line")[0]) == 0).all(-1)
