"""Targets computed from the whole sample along one axis, so that the target of a patch depends on its neighbours too."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.interpolation import interpolate
from maekit.core.patchify import axis_index
from maekit.core.targets.base import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.core.patchify import Patchifier


class AxisTarget(Target):
    """Standardises what a subclass computes from whole samples, and excludes what missing values influence.

    Every number of the target has its mean and standard deviation over the training samples removed, so that losses of
    different targets can be compared. Invalid stretches are interpolated linearly before anything is computed, and patches
    whose target such a stretch influences are not in `loss_mask`.

    Args:
        patchifier: gives the patches and the names of the axes.
        axis: name of the axis; optional when there is only one.
        dim: numbers of the target in one patch.

    Raises:
        ValueError: no such axis.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, patchifier: Patchifier, axis: str | None, dim: int) -> None:
        super().__init__()
        self.patchifier, self.dim = patchifier, dim
        self.along = axis_index(patchifier, axis)
        self.axis, self.length = patchifier.axes[self.along], patchifier.sample_shape[self.along + 1]
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    @abstractmethod
    def compute(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        """The target of every patch, from samples with the axis moved to the end."""

    @abstractmethod
    def is_complete(self, valid: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        """Patches whose target depends on valid points alone; `valid` is laid out as the samples of `compute`."""

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch target"]:
        """The standardised target of every patch."""
        return (self._interpolate_and_compute(patches, valid) - self.mean) / self.std

    def loss_mask(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        """Valid patches whose target depends on valid points alone."""
        return None if valid is None else valid & self.is_complete(self._axis_to_end(self._points(valid)))

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Mean and standard deviation of each number of the target.

        Raises:
            ValueError: no patch with a complete target, or a target that does not vary.
        """
        count, total, squares = 0, torch.zeros(self.dim).double(), torch.zeros(self.dim).double()
        for sample in patches:
            valid = ~sample.isnan().any(-1)[None]
            complete = self.loss_mask(valid)
            assert complete is not None
            values = self._interpolate_and_compute(sample[None].nan_to_num(), valid)[complete].cpu().double()
            count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
        if not count:
            raise ValueError(f"no training sample is measured without a gap for long enough along {self.axis}")
        mean = total / count
        variance = squares / count - mean**2
        # Samples are standardised: what is left here of a target that is zero everywhere is rounding.
        if (variance <= 1e-10).any():
            raise ValueError(f"this target along {self.axis} does not vary in the training samples")
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt())

    def to_patches(self, lines: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch dim"]:
        """Samples with the axis at the end, cut into patches."""
        return self.patchifier.patchify(lines.movedim(-1, self.along + 2))

    def _interpolate_and_compute(self, patches: Tensor, valid: Tensor | None) -> Tensor:
        # Outside autocast: transforms need the precision, and half-precision numbers would be a noisy target.
        with torch.autocast(patches.device.type, enabled=False):
            x = self._axis_to_end(self.patchifier.unpatchify(patches.float()))
            if valid is not None:
                x = interpolate(x, self._axis_to_end(self._points(valid)))[0]
            return self.compute(x)

    def _points(self, valid: Bool[Tensor, "batch patch"]) -> Bool[Tensor, "batch *sample"]:
        points = repeat(valid, "batch patch -> batch patch dim", dim=self.patchifier.patch_dim)
        return self.patchifier.unpatchify(points)

    def _axis_to_end(self, x: Tensor) -> Tensor:
        return x.movedim(self.along + 2, -1)


def rate_of(patchifier: Patchifier, axis: str | None) -> float:
    """Points per unit of an axis.

    Raises:
        ValueError: no such axis, or one whose rate the adapter does not give; the message lists the axes with a rate.
    """
    along = axis_index(patchifier, axis)
    # A patchifier of an installed package may have been written before there were rates.
    rates = getattr(patchifier, "rates", (None,) * len(patchifier.axes))
    rate = rates[along]
    if rate is None:
        stated = [
            f"{name} ({value:g} points per unit)" for name, value in zip(patchifier.axes, rates, strict=True) if value
        ]
        raise ValueError(
            f"frequencies along {patchifier.axes[along]} need its points per unit, which the adapter does not give "
            f"(`rates` of its patchifier); known: {', '.join(stated) or 'none'}"
        )
    return rate


def check_band(low: float, high: float, rate: float) -> None:
    """Refuse a band that a signal of this rate cannot have.

    Raises:
        ValueError: a band that does not rise, or is not within 0 to half the rate.
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(
            f"low={low:g} and high={high:g} must rise, between 0 and {rate / 2:g} (half the rate of the axis)"
        )
