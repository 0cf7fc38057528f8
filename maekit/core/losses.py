"""The error of a prediction, and means over the entries that a mask selects."""

from __future__ import annotations

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor


def squared_error(
    pred: Float[Tensor, "batch patch out"], target: Float[Tensor, "batch patch out"]
) -> Float[Tensor, "batch patch"]:
    """Mean squared error of each patch, in float32."""
    return reduce((pred.float() - target.float()) ** 2, "batch patch out -> batch patch", "mean")


def masked_mean(
    values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*selected"] | None, dim: int | None = None
) -> Float[Tensor, "*reduced"]:
    """Mean of the values that a mask selects; the others are ignored, whatever they hold (NaN included).

    Args:
        values: of any shape.
        mask: of the leading dimensions of `values`, True where a value counts (None: everywhere).
        dim: the dimension to average over, which stays with size 1; None averages over all of them and gives a scalar.

    Returns:
        The mean, or 0 where the mask selects nothing.
    """
    if mask is None:
        return values.mean() if dim is None else values.mean(dim, keepdim=True)
    mask = mask[(..., *(None,) * (values.ndim - mask.ndim))]
    selected = torch.where(mask, values, 0.0)
    if dim is None:
        return selected.sum() / mask.expand_as(values).sum().clamp(min=1)
    return selected.sum(dim, keepdim=True) / mask.sum(dim, keepdim=True).clamp(min=1)
