"""Targets that come from the whole sample along one axis: what stands in a patch depends on its neighbours too."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
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
    """A subclass measures something of whole samples; here it is standardised, and kept away from what is missing.

    Every number of the target has its mean and standard deviation over the training samples taken out, so that losses
    of different targets can be compared and mixed. What was not measured is bridged by straight lines before anything is
    computed, and patches that a bridge can reach are not `known`: they are never in the loss.

    Args:
        patchifier: gives the patches and the names of the axes.
        axis: the name of the axis; may be left out when there is only one.
        dim: numbers of the target in one patch.

    Raises:
        ValueError: no such axis.
    """

    mean: Tensor
    std: Tensor
    local = False

    def __init__(self, patchifier: Patchifier, axis: str | None, dim: int) -> None:
        super().__init__()
        self.patchifier, self.dim = patchifier, dim
        self.along = axis_index(patchifier, axis)
        self.axis, self.length = patchifier.axes[self.along], patchifier.sample_shape[self.along + 1]
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    @abstractmethod
    def measure(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        """The target of every patch, from samples with the axis moved to the end."""

    @abstractmethod
    def reached(self, measured: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        """Patches whose target depends on what was measured alone; laid out as `measure` has it."""

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch target"]:
        return (self._measured(patches, valid) - self.mean) / self.std

    def known(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        return None if valid is None else valid & self.reached(self._lines(self._points(valid)))

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Mean and standard deviation of each number of the target.

        Raises:
            ValueError: nothing that is known, or that varies.
        """
        count, total, squares = 0, torch.zeros(self.dim).double(), torch.zeros(self.dim).double()
        for sample in patches:
            valid = ~sample.isnan().any(-1)[None]
            known = self.known(valid)
            assert known is not None
            values = self._measured(sample[None].nan_to_num(), valid)[known].cpu().double()
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

    def _measured(self, patches: Tensor, valid: Tensor | None) -> Tensor:
        # Outside autocast: transforms need the precision, and half-precision numbers would be a noisy target.
        with torch.autocast(patches.device.type, enabled=False):
            x = self._lines(self.patchifier.unpatchify(patches.float()))
            if valid is not None:
                x = interpolate(x, self._lines(self._points(valid)))[0]
            return self.measure(x)

    def _points(self, valid: Bool[Tensor, "batch patch"]) -> Bool[Tensor, "batch *sample"]:
        return self.patchifier.unpatchify(
            repeat(valid, "batch patch -> batch patch dim", dim=self.patchifier.patch_dim)
        )

    def _lines(self, x: Tensor) -> Tensor:
        return x.movedim(self.along + 2, -1)

    def _patchified(self, lines: Tensor) -> Tensor:
        return self.patchifier.patchify(lines.movedim(-1, self.along + 2))


class FilteredTarget(AxisTarget):
    """The sample after a linear filter along one axis, cut into patches like the sample itself.

    Args:
        patchifier, axis: as in `AxisTarget`.
        reach: points to either side that the filter draws on noticeably.
    """

    def __init__(self, patchifier: Patchifier, axis: str | None, reach: int) -> None:
        super().__init__(patchifier, axis, patchifier.patch_dim)
        self.reach = min(reach, self.length - 1)

    @abstractmethod
    def filtered(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        """Along the last axis."""

    def measure(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        return self._patchified(self.filtered(x))

    def reached(self, measured: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        holes = (~measured).float().flatten(0, -2)[:, None]
        near = F.max_pool1d(holes, 2 * self.reach + 1, stride=1, padding=self.reach)
        return self._patchified(near.view(measured.shape) == 0).all(-1)


def rate_of(patchifier: Patchifier, axis: str | None) -> float:
    """Points per unit of an axis.

    Raises:
        ValueError: no such axis, or an adapter that does not say; the message has the axes that are known.
    """
    along = axis_index(patchifier, axis)
    # A patchifier from elsewhere may have been written before there were rates.
    rates = getattr(patchifier, "rates", (None,) * len(patchifier.axes))
    rate = rates[along]
    if rate is None:
        known = [f"{name} ({one:g} points per unit)" for name, one in zip(patchifier.axes, rates, strict=True) if one]
        raise ValueError(
            f"frequencies along {patchifier.axes[along]} need its points per unit, which the adapter does not give "
            f"(`rates` of its patchifier); known: {', '.join(known) or 'none'}"
        )
    return rate
