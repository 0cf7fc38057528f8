"""Fixed sine-cosine position embeddings over any number of axes, and their interpolation to another grid."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def grid_coordinates(grid_size: Sequence[int]) -> Int[Tensor, "patch coordinate"]:
    """Coordinates of every patch of a grid along its axes, in the order of the patches (last axis fastest)."""
    axes = torch.meshgrid(*(torch.arange(n) for n in grid_size), indexing="ij")
    return rearrange(list(axes), "coordinate ... -> (...) coordinate")


def sincos_positions(grid_size: Sequence[int], width: int, *, prefix_tokens: int = 1) -> Float[Tensor, "1 token width"]:
    """Sine and cosine of each coordinate at geometrically spaced frequencies (Vaswani et al., 2017).

    Each axis takes an equal share of the width, the last axis first: in two dimensions the width coordinate comes before
    the height, as in the weights released with the MAE paper. Within a share sines come before cosines. Columns that do
    not divide evenly among the axes stay zero.

    Args:
        grid_size: patches along each axis.
        width: length of one embedding, at least two for each axis.
        prefix_tokens: rows of zeros in front, for the class token.

    Raises:
        ValueError: a width that is too small for the number of axes.
    """
    frequencies = width // (2 * len(grid_size))
    if frequencies < 1:
        raise ValueError(f"width {width} is too small for positions on {len(grid_size)} axes: at least two an axis")
    omega = 10_000.0 ** -(torch.arange(frequencies, dtype=torch.float64) / frequencies)
    coordinates = grid_coordinates(grid_size).double()
    columns = []
    for axis in reversed(range(len(grid_size))):
        angle = coordinates[:, axis, None] * omega
        columns += [angle.sin(), angle.cos()]
    table = torch.zeros(prefix_tokens + prod(grid_size), width)
    table[prefix_tokens:, : 2 * frequencies * len(grid_size)] = torch.cat(columns, dim=1).float()
    return rearrange(table, "token width -> 1 token width")


def interpolate_positions(
    table: Float[Tensor, "1 token width"], old_grid: Sequence[int], new_grid: Sequence[int], *, prefix_tokens: int = 1
) -> Float[Tensor, "1 newtoken width"]:
    """Bicubic resampling of a position table to another grid, one axis after the other; prefix rows are kept.

    Raises:
        ValueError: a table whose length is not that of `old_grid`, or another number of axes.
    """
    if table.shape[1] != prefix_tokens + prod(old_grid) or len(old_grid) != len(new_grid):
        raise ValueError(
            f"a position table of {table.shape[1]} rows does not go from grid {tuple(old_grid)} (which has "
            f"{prefix_tokens} + {prod(old_grid)}) to grid {tuple(new_grid)}"
        )
    names = [f"g{i}" for i in range(len(old_grid))]
    grid, sizes = " ".join(names), dict(zip(names, old_grid, strict=True))
    patches = table[:, prefix_tokens:]
    for name, new in zip(names, new_grid, strict=True):
        if sizes[name] == new:
            continue
        others = " ".join(other for other in names if other != name)
        lines = rearrange(patches, f"1 ({grid}) width -> 1 ({others} width) {name} 1", **sizes)
        lines = nn.functional.interpolate(lines, size=(new, 1), mode="bicubic", align_corners=False)
        sizes[name] = new
        patches = rearrange(lines, f"1 ({others} width) {name} 1 -> 1 ({grid}) width", **sizes)
    return torch.cat([table[:, :prefix_tokens], patches], dim=1)
