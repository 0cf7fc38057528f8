"""Masking strategies that remove patches in blocks, around a regular grid, or in runs along an axis."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maekit.core.patchify import axis_index
from maekit.core.positions import grid_coordinates

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier


class BlockMasking(nn.Module):
    """Contiguous blocks: the patches nearest to a few random centres are removed (block-wise, as in BEiT).

    Args:
        patchifier: gives the grid.
        blocks: centres in a sample; fewer make larger blocks.

    Raises:
        ValueError: no centre, or more centres than patches.
    """

    def __init__(self, patchifier: Patchifier, *, blocks: int = 4) -> None:
        patches = prod(patchifier.grid_size)
        if not 1 <= blocks <= patches:
            raise ValueError(f"blocks={blocks}, expected 1 to the {patches} patches of the grid {patchifier.grid_size}")
        super().__init__()
        self.blocks = blocks
        self.coordinates: Tensor
        self.register_buffer("coordinates", grid_coordinates(patchifier.grid_size), persistent=False)

    def forward(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        """Higher the nearer a centre is; among patches at the same distance by the noise."""
        centres = noise.topk(self.blocks, dim=1).indices
        # The distance to a few centres, and not between all patches: memory grows with their number, not with its square.
        away = self.coordinates[centres][:, :, None] - self.coordinates
        return noise - away.abs().amax(dim=-1).amin(dim=1)


class GridMasking(nn.Module):
    """A regular grid is kept: every `stride`-th patch along each axis (stride 2 in 2-D keeps one of four).

    The ratio that keeps exactly the grid is 1 - 1/stride^axes; with another one, patches of the grid are removed, or others
    are kept, at random.

    Raises:
        ValueError: a stride below 2.
    """

    def __init__(self, patchifier: Patchifier, *, stride: int = 2) -> None:
        if stride < 2:
            raise ValueError(f"stride={stride}, expected at least 2: with 1 every patch lies on the grid")
        super().__init__()
        off_grid = (grid_coordinates(patchifier.grid_size) % stride != 0).sum(dim=1).float()
        self.off_grid: Tensor
        self.register_buffer("off_grid", off_grid, persistent=False)

    def forward(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        """Noise, plus one for each axis along which the patch is off the grid."""
        return noise + self.off_grid


class SpanMasking(nn.Module):
    """Contiguous runs of `length` patches along one axis are removed together, line by line.

    Args:
        patchifier: gives the grid and the names of its axes.
        length: patches in a run.
        axis: name of the axis along which runs lie; optional when there is only one.

    Raises:
        ValueError: no such axis, or a run as long as the axis.
    """

    def __init__(self, patchifier: Patchifier, *, length: int = 4, axis: str | None = None) -> None:
        along = axis_index(patchifier, axis)
        patches = patchifier.grid_size[along]
        if not 1 <= length < patches:
            raise ValueError(
                f"length={length}, expected 1 to {patches - 1}: the {patchifier.axes[along]} axis has {patches} patches"
            )
        super().__init__()
        self.length = length
        self.step = prod(patchifier.grid_size[along + 1 :])  # from a patch to the next one along the axis
        self.position: Tensor
        self.register_buffer("position", grid_coordinates(patchifier.grid_size)[:, along], persistent=False)

    def forward(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        """The noise of the first patch of the run; where runs begin varies from sample to sample."""
        phase = (noise[:, :1] * self.length).long()
        first = ((self.position + phase) // self.length * self.length - phase).clamp(min=0)
        return noise.gather(
            1, torch.arange(len(self.position), device=noise.device) + (first - self.position) * self.step
        )
