"""What the decoder is asked to predict from each removed patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class PatchStatistics(NamedTuple):
    """Per-patch mean and scale (batch, patch, 1) that turn a prediction back: `pred * scale + mean`."""

    mean: Float[Tensor, "batch patch 1"]
    scale: Float[Tensor, "batch patch 1"]


class Target(Protocol):
    """patches (batch, patch, patch_dim) -> target (batch, patch, `dim`)."""

    dim: int
    """Numbers that the decoder predicts for one patch."""

    def __call__(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch out"]: ...

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics | None:
        """What the target removed from each patch; None when a prediction cannot be turned back into a patch."""
        ...


class RawTarget:
    """The patch itself."""

    def __init__(self, patchifier: Patchifier) -> None:
        self.dim = patchifier.patch_dim

    def __call__(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        return patches

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        mean = torch.zeros_like(patches[..., :1])
        return PatchStatistics(mean, torch.ones_like(mean))


class PatchNormTarget:
    """Each patch with its own mean and standard deviation taken out (`norm_pix`).

    (x - mean) / sqrt(var + 1e-6) with the unbiased variance, as in the MAE paper's code.
    """

    def __init__(self, patchifier: Patchifier) -> None:
        if patchifier.patch_dim < 2:
            raise ValueError("a patch of one number has no variance: use the target 'raw', or larger patches")
        self.dim = patchifier.patch_dim

    def __call__(self, patches: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        mean, scale = self.statistics(patches)
        return (patches - mean) / scale

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        mean = patches.mean(dim=-1, keepdim=True)
        return PatchStatistics(mean, (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt())
