"""Cutting a sample into patches and putting it back, over any number of named axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Protocol

from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class Patchifier(Protocol):
    """A way to cut samples into patches. No parameters inside: the encoder owns `Linear(patch_dim, width)`.

    Attributes:
        sample_shape: (channels, *axes) of one sample.
        grid_size: patches along each axis; their product is the sequence length.
        patch_dim: numbers in one patch.
    """

    sample_shape: tuple[int, ...]
    grid_size: tuple[int, ...]
    patch_dim: int
    axes: tuple[str, ...]

    def patchify(self, x: Tensor) -> Tensor:
        """(batch, *sample_shape) -> (batch, patch, patch_dim)."""
        ...

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(batch, patch, patch_dim) -> (batch, *sample_shape); exact inverse of `patchify`."""
        ...


class GridPatchifier:
    """Non-overlapping patches on a regular grid over any number of named axes.

    A patch vector is ordered (p1 p2 ... channel), channel fastest, as in the MAE paper's code.

    Args:
        sample_shape: (channels, *axes).
        patch_size: extent of a patch along each axis.
        axes: a name for each axis, used in messages and by masking strategies that run along one.

    Raises:
        ValueError: a patch that does not divide its axis, or counts that do not match.
    """

    def __init__(self, sample_shape: Sequence[int], patch_size: Sequence[int], axes: Sequence[str] = ()) -> None:
        self.sample_shape = tuple(sample_shape)
        self.patch_size = tuple(patch_size)
        lengths = self.sample_shape[1:]
        self.axes = tuple(axes) or tuple(f"axis{i}" for i in range(len(lengths)))
        if not lengths or len(self.patch_size) != len(lengths) or len(self.axes) != len(lengths):
            raise ValueError(
                f"sample_shape {self.sample_shape} is (channels, *axes) with {len(lengths)} axes, but patch_size "
                f"{self.patch_size} has {len(self.patch_size)} and axes {self.axes} has {len(self.axes)}: "
                "give one patch extent and one name for each axis"
            )
        for name, length, patch in zip(self.axes, lengths, self.patch_size, strict=True):
            if patch < 1 or length < 1 or length % patch:
                divisors = [d for d in range(1, length + 1) if length % d == 0]
                raise ValueError(
                    f"patch of {patch} does not divide the {name} axis of {length} points; patches that do: {divisors}"
                )
        self.grid_size = tuple(length // patch for length, patch in zip(lengths, self.patch_size, strict=True))
        self.patch_dim = self.sample_shape[0] * prod(self.patch_size)
        n = range(len(lengths))
        grid, inner = [f"g{i}" for i in n], [f"p{i}" for i in n]
        whole = "batch channel " + " ".join(f"({g} {p})" for g, p in zip(grid, inner, strict=True))
        cut = f"batch ({' '.join(grid)}) ({' '.join(inner)} channel)"
        self._whole_to_cut, self._cut_to_whole = f"{whole} -> {cut}", f"{cut} -> {whole}"
        self._sizes = dict(zip(grid, self.grid_size, strict=True)) | dict(zip(inner, self.patch_size, strict=True))
        self._sizes["channel"] = self.sample_shape[0]

    def patchify(self, x: Shaped[Tensor, "batch *sample"]) -> Shaped[Tensor, "batch patch dim"]:
        """(batch, *sample_shape) -> (batch, patch, patch_dim)."""
        if tuple(x.shape[1:]) != self.sample_shape:
            raise ValueError(
                f"patchify expects (batch, {', '.join(map(str, self.sample_shape))}) = (batch, channel, "
                f"{', '.join(self.axes)}), got {tuple(x.shape)}"
            )
        return rearrange(x, self._whole_to_cut, **self._sizes)

    def unpatchify(self, patches: Shaped[Tensor, "batch patch dim"]) -> Shaped[Tensor, "batch *sample"]:
        """(batch, patch, patch_dim) -> (batch, *sample_shape)."""
        expected = (prod(self.grid_size), self.patch_dim)
        if tuple(patches.shape[1:]) != expected:
            raise ValueError(
                f"unpatchify expects (batch, patch, dim) = (batch, {expected[0]}, {expected[1]}) for a grid of "
                f"{self.grid_size}, got {tuple(patches.shape)}"
            )
        return rearrange(patches, self._cut_to_whole, **self._sizes)
