"""Which patches are removed. A strategy only scores patches; `mask_patches` keeps the lowest scores.

So every strategy removes an exact count and batches without padding. All randomness enters through `noise`
(uniform in [0, 1), one number a patch), which makes a step repeatable. Masking never sees the class token, and the patches
only where a strategy asks for them: which patches are removed may then tell of what is in them, and its docstring says what.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maekit.core.patchify import axis_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.core.patchify import Patchifier


class Mask(NamedTuple):
    """The outcome of masking, with the names of the MAE paper's code.

    Attributes:
        mask: (batch, patch) True = removed and to be predicted.
        ids_keep: (batch, kept) patches that the encoder sees, in shuffled order.
        ids_restore: (batch, patch) position of each patch in the shuffled order.
        padding: (batch, kept) True where `ids_keep` only fills up the row, None when every row is full.
    """

    mask: Bool[Tensor, "batch patch"]
    ids_keep: Int[Tensor, "batch kept"]
    ids_restore: Int[Tensor, "batch patch"]
    padding: Bool[Tensor, "batch kept"] | None


@runtime_checkable
class Masking(Protocol):
    """A masking strategy: uniform noise (batch, patch) -> scores (batch, patch); the highest are removed."""

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]: ...


@runtime_checkable
class SeeingMasking(Protocol):
    """A strategy that also looks at the patches (batch, patch, dim), zeros where not `valid`; it says so by `sees_patches`."""

    sees_patches: bool

    def __call__(
        self,
        noise: Float[Tensor, "batch patch"],
        patches: Float[Tensor, "batch patch dim"],
        valid: Bool[Tensor, "batch patch"] | None = None,
    ) -> Float[Tensor, "batch patch"]: ...


def scores_of(
    masking: Masking | SeeingMasking,
    noise: Float[Tensor, "batch patch"],
    patches: Float[Tensor, "batch patch dim"],
    valid: Bool[Tensor, "batch patch"] | None,
) -> Float[Tensor, "batch patch"]:
    """What a strategy says of each patch, shown the patches where it asks for them."""
    if getattr(masking, "sees_patches", False):
        return cast("SeeingMasking", masking)(noise, patches, valid)
    return cast("Masking", masking)(noise)


def kept_patches(patches: int, mask_ratio: float) -> int:
    """How many of `patches` stay visible: `int(patches * (1 - mask_ratio))`, as in the paper's code."""
    return int(patches * (1 - mask_ratio))


def mask_patches(
    scores: Float[Tensor, "batch patch"], ratio: float, valid: Bool[Tensor, "batch patch"] | None = None
) -> Mask:
    """Keep the lowest-scoring share `1 - ratio` of the patches of each sample.

    Args:
        scores: (batch, patch) from a strategy.
        ratio: share of patches to remove.
        valid: (batch, patch) True where really measured. Other patches are neither kept nor to be predicted,
            and `ratio` is taken of the measured ones; each sample keeps at least one patch that was measured.

    Raises:
        ValueError: a ratio that leaves nothing to encode or nothing to predict.
    """
    patches = scores.shape[1]
    keep = kept_patches(patches, ratio)
    if not 0 < keep < patches:
        raise ValueError(
            f"mask_ratio {ratio} keeps {keep} of {patches} patches: at least one must be kept and one removed"
        )
    if valid is None:
        ids_shuffle = scores.argsort(dim=1, stable=True)
        ids_restore = ids_shuffle.argsort(dim=1)
        return Mask(ids_restore >= keep, ids_shuffle[:, :keep], ids_restore, None)
    ids_shuffle = torch.where(valid, scores, torch.inf).argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    measured = valid.sum(dim=1, keepdim=True)
    keeps = (measured * (1 - ratio)).int().clamp(min=1)
    ids_keep = ids_shuffle[:, : int(keeps.max())]
    padding = torch.arange(ids_keep.shape[1], device=scores.device) >= keeps
    return Mask((ids_restore >= keeps) & valid, ids_keep, ids_restore, padding)


class RandomMasking:
    """Every patch alike: the paper's choice."""

    def __init__(self, patchifier: Patchifier) -> None:
        del patchifier  # all patches are alike, wherever they lie

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        return noise


class BlockMasking:
    """Contiguous blocks: removed patches are those nearest to a few random centres (block-wise, as in BEiT).

    Args:
        patchifier: gives the grid.
        blocks: centres a sample; fewer make larger blocks.
    """

    def __init__(self, patchifier: Patchifier, *, blocks: int = 4) -> None:
        patches = prod(patchifier.grid_size)
        if not 1 <= blocks <= patches:
            raise ValueError(f"blocks={blocks}, expected 1 to the {patches} patches of the grid {patchifier.grid_size}")
        self.blocks = blocks
        coordinates = _coordinates(patchifier.grid_size).float()
        self.distance = torch.cdist(coordinates, coordinates, p=torch.inf)

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        centres = noise.topk(self.blocks, dim=1).indices
        nearest = self.distance.to(noise.device)[centres].amin(dim=1)
        return noise - nearest


class GridMasking:
    """A regular grid stays: every `stride`-th patch along each axis (stride 2 in 2-D keeps one of four).

    The ratio that keeps exactly the grid is 1 - 1/stride^axes; more or fewer are drawn at random around it.
    """

    def __init__(self, patchifier: Patchifier, *, stride: int = 2) -> None:
        if stride < 2:
            raise ValueError(f"stride={stride}, expected at least 2: with 1 every patch lies on the grid")
        self.off_grid = (_coordinates(patchifier.grid_size) % stride != 0).sum(dim=1).float()

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        return noise + self.off_grid.to(noise.device)


class SpanMasking:
    """Contiguous runs of `length` patches along one axis are removed together, line by line.

    Args:
        patchifier: gives the grid and the names of its axes.
        length: patches in a run.
        axis: the name of the axis the runs lie along; may be left out when there is only one.
    """

    def __init__(self, patchifier: Patchifier, *, length: int = 4, axis: str | None = None) -> None:
        self.line = _Line(patchifier, axis)
        if not 1 <= length < self.line.size:
            raise ValueError(
                f"length={length}, expected 1 to {self.line.size - 1}: the {self.line.axis} axis has "
                f"{self.line.size} patches"
            )
        self.length = length

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        position = self.line.position.to(noise.device)
        phase = (noise[:, :1] * self.length).long()  # where runs begin differs from sample to sample
        begin = ((position + phase) // self.length * self.length - phase).clamp(min=0)
        return self.line.score_at(begin, noise)


class AxisMasking:
    """Whole lines along one axis are removed together: along `frequency`, say, all frequencies of one moment.

    Args:
        patchifier: gives the grid and the names of its axes.
        axis: the name of the axis that a line runs along.
    """

    def __init__(self, patchifier: Patchifier, *, axis: str) -> None:
        self.line = _Line(patchifier, axis)
        if self.line.size == prod(patchifier.grid_size):
            raise ValueError(
                f"axis masking along {axis!r} needs another axis: on the grid {patchifier.grid_size} one line is all"
            )

    def __call__(self, noise: Float[Tensor, "batch patch"]) -> Float[Tensor, "batch patch"]:
        begin = torch.zeros_like(noise, dtype=torch.long)
        return self.line.score_at(begin, noise)


class _Line:
    """Where each patch lies along one axis, and how patches of a line share the score of one of them."""

    def __init__(self, patchifier: Patchifier, axis: str | None) -> None:
        along = axis_index(patchifier, axis)
        self.axis = patchifier.axes[along]
        self.size = patchifier.grid_size[along]
        self.stride = prod(patchifier.grid_size[along + 1 :])
        self.position = _coordinates(patchifier.grid_size)[:, along]

    def score_at(self, position: Int[Tensor, "batch patch"], noise: Float[Tensor, "batch patch"]) -> Tensor:
        """For each patch, the noise of the patch of its line that lies at `position`."""
        own = torch.arange(noise.shape[1], device=noise.device)
        return noise.gather(1, own + (position - self.position.to(noise.device)) * self.stride)


def _coordinates(grid_size: Sequence[int]) -> Int[Tensor, "patch axis"]:
    return torch.cartesian_prod(*(torch.arange(n) for n in grid_size)).view(-1, len(grid_size))
