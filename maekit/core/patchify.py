"""Cutting a sample into patches and putting it back, over any number of named axes."""

from __future__ import annotations

from math import isqrt, prod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


@runtime_checkable
class Patchifier(Protocol):
    """A way to cut samples into patches; it has no parameters: the encoder owns `Linear(patch_dim, width)`.

    Attributes:
        sample_shape: (channels, *axes) of one sample.
        grid_size: patches along each axis; their product is the sequence length.
        patch_dim: numbers in one patch.
        axes: the name of each axis.
        rates: points per unit of each axis (hertz along a time in seconds); None where unknown.
    """

    sample_shape: tuple[int, ...]
    grid_size: tuple[int, ...]
    patch_dim: int
    axes: tuple[str, ...]
    rates: tuple[float | None, ...]

    def patchify(self, x: Tensor) -> Tensor:
        """(batch, *sample_shape) -> (batch, patch, patch_dim)."""
        ...

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(batch, patch, patch_dim) -> (batch, *sample_shape); exact inverse of `patchify`."""
        ...


_MAX_TRIED = 100_000
"""Numbers that are tried as divisors for an error's text."""


class GridPatchifier:
    """Non-overlapping patches on a regular grid over any number of named axes.

    A patch vector is ordered (p1 p2 ... channel), channel fastest, as in the MAE paper's code.

    Args:
        sample_shape: (channels, *axes).
        patch_size: extent of a patch along each axis.
        axes: a name for each axis, for messages and for masking strategies and targets that work along one.
        rates: points per unit of each axis, for targets that are defined by frequencies; None where it is unknown.

    Raises:
        ValueError: a patch that does not divide its axis, or sequences of different lengths.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        patch_size: Sequence[int],
        axes: Sequence[str] = (),
        rates: Sequence[float | None] = (),
    ) -> None:
        self.sample_shape = tuple(sample_shape)
        self.patch_size = tuple(patch_size)
        lengths = self.sample_shape[1:]
        self.axes = tuple(axes) or tuple(f"axis{i}" for i in range(len(lengths)))
        self.rates = tuple(rates) or (None,) * len(lengths)
        if not lengths or any(len(entries) != len(lengths) for entries in (self.patch_size, self.axes, self.rates)):
            raise ValueError(
                f"sample_shape {self.sample_shape} is (channels, *axes) with {len(lengths)} axes, but patch_size "
                f"{self.patch_size} has {len(self.patch_size)}, axes {self.axes} has {len(self.axes)} and rates "
                f"{self.rates} has {len(self.rates)}: give one patch extent, one name and one rate for each axis"
            )
        for name, length, patch in zip(self.axes, lengths, self.patch_size, strict=True):
            if patch < 1 or length < 1 or length % patch:
                small = [d for d in range(1, min(isqrt(max(length, 0)), _MAX_TRIED) + 1) if length % d == 0]
                divisors = sorted({*small, *(length // d for d in small)})
                raise ValueError(
                    f"patch of {patch} does not divide the {name} axis of {length} points; patches that do: {divisors}"
                )
        self.grid_size = tuple(length // patch for length, patch in zip(lengths, self.patch_size, strict=True))
        self.patch_dim = self.sample_shape[0] * prod(self.patch_size)
        grid, inner = ([f"{letter}{i}" for i in range(len(lengths))] for letter in "gp")
        whole = "batch channel " + " ".join(f"({g} {p})" for g, p in zip(grid, inner, strict=True))
        cut = f"batch ({' '.join(grid)}) ({' '.join(inner)} channel)"
        self._whole_to_cut, self._cut_to_whole = f"{whole} -> {cut}", f"{cut} -> {whole}"
        self._sizes = dict(zip(grid + inner, self.grid_size + self.patch_size, strict=True))
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


def zero_invalid(
    patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None
) -> Float[Tensor, "batch patch dim"]:
    """Replace invalid patches, whatever they hold (NaN included), by zeros (`valid` None: all are valid)."""
    return patches if valid is None else torch.where(valid[..., None], patches, 0.0)


def axis_index(patchifier: Patchifier, axis: str | None) -> int:
    """Index of the axis with this name, which may be left out (None) when there is only one axis.

    Raises:
        ValueError: no such axis, or several axes and no name; the message lists the axes.
    """
    if axis is None and len(patchifier.axes) > 1:
        raise ValueError(f"name the axis: this grid has {patchifier.axes}")
    if axis is not None and axis not in patchifier.axes:
        raise ValueError(f"no axis {axis!r}; this grid has {patchifier.axes}")
    return 0 if axis is None else patchifier.axes.index(axis)
