"""Principal components of a patch as the target (an ablation of the MAE paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.targets.base import PatchStatistics, Target, identity_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.core.patchify import Patchifier


class PCATarget(Target):
    """Coefficients of the patch on the leading principal components of the training patches.

    Args:
        patchifier: gives the patch size.
        factors: number of components; the paper takes 96 of 768.

    Raises:
        ValueError: more components than numbers in a patch, or none.
    """

    components: Tensor
    mean: Tensor

    def __init__(self, patchifier: Patchifier, *, factors: int = 96) -> None:
        super().__init__()
        if not 1 <= factors <= patchifier.patch_dim:
            raise ValueError(f"factors={factors}, expected 1 to the {patchifier.patch_dim} numbers of a patch")
        self.dim = factors
        self.register_buffer("mean", torch.zeros(patchifier.patch_dim))
        self.register_buffer("components", torch.zeros(patchifier.patch_dim, factors))

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch factor"]:
        """Coefficients of each patch."""
        del valid
        # Outside autocast: half-precision coefficients would be a noisy target.
        with torch.autocast(patches.device.type, enabled=False):
            return (patches.float() - self.mean) @ self.components

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Eigenvectors of the covariance of all patches by falling eigenvalue, signed so that the largest entry is positive."""
        size = len(self.mean)
        count, total, products = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
        for sample in patches:
            values = sample[~sample.isnan().any(-1)].detach().cpu().double()
            count, total = count + len(values), total + values.sum(0)
            products += values.T @ values
        if count <= self.dim:
            raise ValueError(f"{self.dim} components cannot be estimated from {count} training patches")
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        leading, variances = vectors.flip(1)[:, : self.dim], variances.flip(0)[: self.dim]
        if variances[-1] <= 1e-12 * variances[0]:
            rank = int((variances > 1e-12 * variances[0]).sum())
            raise ValueError(f"the training patches vary along {rank} components only, fewer than factors={self.dim}")
        signs = leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.copy_(leading * signs)

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        """Nothing was removed that `as_patches` does not put back."""
        return identity_statistics(patches)

    def as_patches(self, pred: Float[Tensor, "batch patch factor"]) -> Float[Tensor, "batch patch dim"]:
        """The patches that these coefficients describe."""
        return pred.float() @ self.components.T + self.mean
