"""Linear interpolation over what was not seen."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def interpolate(x: Float[Tensor, "*line"], seen: Bool[Tensor, "*line"]) -> tuple[Tensor, Tensor]:
    """Straight lines along the last axis between points that were seen; beyond the outermost its value is held.

    Returns:
        Values, and the inverse distance to the nearest seen point: 0 where the line has none.
    """
    n = x.shape[-1]
    here = torch.arange(n, device=x.device).expand(x.shape)
    left = torch.where(seen, here, -1).cummax(-1).values
    right = torch.where(seen, here, n).flip(-1).cummin(-1).values.flip(-1)
    has_left, has_right = left >= 0, right < n
    left_value = x.gather(-1, left.clamp(min=0))
    right_value = x.gather(-1, right.clamp(max=n - 1))
    share = ((here - left) / (right - left).clamp(min=1)).to(x.dtype)
    between = left_value + (right_value - left_value) * share
    value = torch.where(has_left & has_right, between, torch.where(has_left, left_value, right_value))
    nearest = torch.minimum(torch.where(has_left, here - left, n), torch.where(has_right, right - here, n)).to(x.dtype)
    return value, torch.where(has_left | has_right, 1 / (1 + nearest), 0.0)
