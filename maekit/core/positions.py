"""Fixed sin-cos position embeddings over any number of axes, and their interpolation to another grid."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def sincos_positions(grid_size: Sequence[int], width: int, *, prefix_tokens: int = 1) -> Float[Tensor, "1 token width"]:
    """Sine and cosine of each coordinate at geometrically spaced frequencies (Vaswani et al., 2017).

    Each axis takes an equal part of the width, the last axis first (so in two dimensions the width coordinate
    stands before the height, as in the weights released with the MAE paper); within a part sines come first.
    What does not divide evenly stays zero.

    Args:
        grid_size: patches along each axis.
        width: numbers in one embedding; at least two an axis.
        prefix_tokens: rows of zeros in front, for the class token.
    """
    frequencies = width // (2 * len(grid_size))
    if frequencies < 1:
        raise ValueError(f"width {width} is too small for positions on {len(grid_size)} axes: at least two an axis")
    omega = 10_000.0 ** -(torch.arange(frequencies, dtype=torch.float64) / frequencies)
    coordinates = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid_size))
    coordinates = coordinates.view(-1, len(grid_size))
    parts = []
    for axis in reversed(range(len(grid_size))):
        angle = coordinates[:, axis, None] * omega
        parts += [angle.sin(), angle.cos()]
    table = torch.zeros(prefix_tokens + prod(grid_size), width)
    table[prefix_tokens:, : 2 * frequencies * len(grid_size)] = torch.cat(parts, dim=1).float()
    return table[None]


def interpolate_positions(
    table: Float[Tensor, "1 token width"], old_grid: Sequence[int], new_grid: Sequence[int], *, prefix_tokens: int = 1
) -> Float[Tensor, "1 newtoken width"]:
    """Bicubic resampling of a position table to another grid, one axis after the other; prefix rows stay.

    Raises:
        ValueError: a table that is not of `old_grid`, or another number of axes.
    """
    if table.shape[1] != prefix_tokens + prod(old_grid) or len(old_grid) != len(new_grid):
        raise ValueError(
            f"a position table of {table.shape[1]} rows does not go from grid {tuple(old_grid)} (which has "
            f"{prefix_tokens} + {prod(old_grid)}) to grid {tuple(new_grid)}"
        )
    prefix, patches = table[:, :prefix_tokens], table[0, prefix_tokens:]
    values = patches.reshape(*old_grid, -1)
    for axis, (old, new) in enumerate(zip(old_grid, new_grid, strict=True)):
        if old == new:
            continue
        line = values.movedim(axis, -1)
        flat = line.reshape(1, -1, old, 1)
        resampled = F.interpolate(flat, size=(new, 1), mode="bicubic", align_corners=False)
        values = resampled.reshape(*line.shape[:-1], new).movedim(-1, axis)
    return torch.cat([prefix, rearrange(values, "... width -> 1 (...) width")], dim=1)
