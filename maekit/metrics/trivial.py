"""What interpolation without any learning would score: a yardstick for "is my loss normal?", beside the mean patch.

It predicts in the space of the target (normalised patches, say), from visible patches alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.interpolation import interpolate
from maekit.core.targets.base import mean_patch

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


def interpolation(
    patchifier: Patchifier, target: Float[Tensor, "batch patch dim"], visible: Bool[Tensor, "batch patch"]
) -> Float[Tensor, "batch patch dim"]:
    """Linear interpolation between the nearest visible points along each axis.

    Point by point (not patch by patch). Where several axes have visible neighbours their values are weighted by
    the inverse distance to the nearest; beyond the outermost visible point its value is held; where no axis has
    any, the mean of the sample's visible patches stands.
    """
    shown = torch.where(visible[..., None], target, 0.0)
    x = patchifier.unpatchify(shown)
    seen = patchifier.unpatchify(repeat(visible, "batch patch -> batch patch dim", dim=target.shape[-1]))
    total, weights = torch.zeros_like(x), torch.zeros_like(x)
    for axis in range(2, x.ndim):
        values, weight = interpolate(x.movedim(axis, -1), seen.movedim(axis, -1))
        total += (values * weight).movedim(-1, axis)
        weights += weight.movedim(-1, axis)
    fallback = patchifier.unpatchify(mean_patch(target, visible))
    return patchifier.patchify(torch.where(weights > 0, total / weights.clamp(min=1e-12), fallback))
