"""The values of a patch as the target: as they are, or normalised patch by patch (`norm_pix`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.targets.base import PatchStatistics, Target, identity_statistics

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class RawTarget(Target):
    """The values of the patch."""

    def __init__(self, patchifier: Patchifier) -> None:
        super().__init__()
        self.dim = patchifier.patch_dim

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch dim"]:
        """The patches."""
        del valid
        return patches

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        """Nothing was removed."""
        return identity_statistics(patches)


class PatchNormTarget(Target):
    """The values of the patch, normalised by the patch's own mean and standard deviation (`norm_pix`).

    (x - mean) / sqrt(var + 1e-6) with the unbiased variance, as in the MAE paper's code.

    Raises:
        ValueError: patches of one number.
    """

    def __init__(self, patchifier: Patchifier) -> None:
        super().__init__()
        if patchifier.patch_dim < 2:
            raise ValueError("a patch of one number has no variance: use the target 'raw', or larger patches")
        self.dim = patchifier.patch_dim

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch dim"]:
        """The normalised patches."""
        del valid
        mean, scale = self.statistics(patches)
        return (patches - mean) / scale

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        """Mean and standard deviation of each patch."""
        mean = patches.mean(dim=-1, keepdim=True)
        return PatchStatistics(mean, (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt())
