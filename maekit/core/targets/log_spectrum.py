"""The target that asks which frequencies there are around a removed patch, and not for their phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.targets.axis import AxisTarget, rate_of
from maekit.core.targets.filtered import check_band

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

FLOOR = 1e-6
"""Added to powers of standardised samples before the logarithm."""


class LogSpectrumTarget(AxisTarget):
    """Logarithm of the power spectrum, within a band, of a window around the patch (Hann taper, its mean taken out).

    The windows of neighbours overlap: the target of a removed patch is what its stretch of the sample is made of, which
    the visible part of that stretch half tells, and noise of other frequencies is not asked for. At the ends of the
    sample the window is moved inside. With a window as long as the sample all patches have one target. The yardstick,
    the mean of the visible patches' targets, then knows the removed ones too.

    Args:
        patchifier: gives the patches, the names of the axes and their rates.
        low, high: cycles per unit of the axis; bins of the window's spectrum from low to high are predicted.
        window: its length in units of the axis; bins are one over it apart.
        axis: the name of the axis; may be left out when there is only one. Along the others, power is averaged over the
            extent of the patch.

    Raises:
        ValueError: no such axis, no known rate, a band that the rate does not hold or that has no bin, a window longer
            than the sample or shorter than the patch.
    """

    taper: Tensor
    inside: Tensor
    bins: Tensor

    def __init__(
        self, patchifier: Patchifier, *, low: float, high: float, window: float, axis: str | None = None
    ) -> None:
        rate = rate_of(patchifier, axis)
        check_band(low, high, rate)
        points = round(window * rate)
        frequency = torch.arange(points // 2 + 1) * (rate / max(points, 1))
        bins = torch.where((frequency >= low - 1e-9) & (frequency <= high + 1e-9))[0]
        super().__init__(patchifier, axis, patchifier.sample_shape[0] * len(bins))
        patches = patchifier.grid_size[self.along]
        patch = self.length // patches
        if not patch <= points <= self.length:
            raise ValueError(
                f"window={window:g}, expected {patch / rate:g} (a patch) to {self.length / rate:g} (the {self.axis} axis)"
            )
        if not len(bins):
            raise ValueError(
                f"a window of {window:g} has a frequency every {1 / window:g}, none of them from {low:g} to {high:g}: "
                "lengthen the window or widen the band"
            )
        begin = torch.arange(patches) * patch + (patch - points) // 2
        inside = begin.clamp(0, self.length - points)[:, None] + torch.arange(points)
        # Not in the state: they follow from the options.
        self.register_buffer("inside", inside, persistent=False)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("taper", torch.hann_window(points), persistent=False)

    def measure(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        around = x[..., self.inside]
        power = power_spectrum(around - around.mean(-1, keepdim=True), self.taper)[..., self.bins]
        return rearrange(
            self._per_patch(power, "mean") + FLOOR, "batch channel ... bin -> batch (...) (bin channel)"
        ).log()

    def reached(self, measured: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        whole = measured[..., self.inside].all(-1, keepdim=True).float()
        return reduce(self._per_patch(whole, "min"), "batch channel ... 1 -> batch (...)", "min") == 1

    def _per_patch(self, values: Float[Tensor, "batch channel *others patch bin"], how: str) -> Tensor:
        """(batch, channel, *grid, bin): the other axes reduced to one value a patch, the axis back in its place."""
        grid = [n for i, n in enumerate(self.patchifier.grid_size) if i != self.along]
        names = range(len(grid))
        lengths = " ".join(f"(g{i} p{i})" for i in names)
        kept = " ".join(f"g{i}" for i in names)
        pattern = f"batch channel {lengths} patch bin -> batch channel {kept} patch bin"
        reduced = reduce(values, pattern, how, **{f"g{i}": n for i, n in enumerate(grid)})
        return reduced.movedim(-2, self.along + 2)


def power_spectrum(x: Float[Tensor, "*batch line"], taper: Float[Tensor, "line"]) -> Float[Tensor, "*batch bin"]:
    """One-sided, scaled so that its sum is the mean square of x, weighted by the square of the taper (Parseval)."""
    n = x.shape[-1]
    power = torch.fft.rfft(x * taper).abs() ** 2 / (n * (taper**2).sum())
    # Every bin but those of frequency zero and of half the rate stands for two.
    sides = torch.full((power.shape[-1],), 2.0, device=x.device)
    sides[0] = 1
    if n % 2 == 0:
        sides[-1] = 1
    return power * sides
