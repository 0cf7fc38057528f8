"""Linear interpolation over invalid points."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def interpolate(x: Float[Tensor, "*line"], valid: Bool[Tensor, "*line"]) -> tuple[Tensor, Tensor]:
    """Straight lines along the last axis between valid points; beyond the outermost one its value is held.

    Returns:
        Values, and the inverse distance to the nearest valid point: 0 where the line has none.
    """
    n = x.shape[-1]
    index = torch.arange(n, device=x.device).expand(x.shape)
    left = torch.where(valid, index, -1).cummax(-1).values
    right = torch.where(valid, index, n).flip(-1).cummin(-1).values.flip(-1)
    has_left, has_right = left >= 0, right < n
    left_value = x.gather(-1, left.clamp(min=0))
    right_value = x.gather(-1, right.clamp(max=n - 1))
    share = ((index - left) / (right - left).clamp(min=1)).to(x.dtype)
    between = left_value + (right_value - left_value) * share
    value = torch.where(has_left & has_right, between, torch.where(has_left, left_value, right_value))
    distance = torch.minimum(torch.where(has_left, index - left, n), torch.where(has_right, right - index, n)).to(
        x.dtype
    )
    return value, torch.where(has_left | has_right, 1 / (1 + distance), 0.0)
