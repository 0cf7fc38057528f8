"""The log power spectrum around a patch as the target: which frequencies there are, without their phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.core.targets.axis import AxisTarget, check_band, rate_of

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

FLOOR = 1e-6
"""Added to powers of standardised samples before the logarithm."""


class LogSpectrumTarget(AxisTarget):
    """Logarithm of the power spectrum, within a band, of a window around the patch (mean removed, Hann taper).

    Windows of neighbouring patches overlap, so that visible patches of the window partly determine the target of a removed one.
    At the ends of the sample the window is shifted inside. With a window as long as the sample all patches have the same
    target, and the mean of the visible patches' targets, with which the loss is compared, is exact.

    Args:
        patchifier: gives the patches, the names of the axes and their rates.
        low, high: cycles per unit of the axis; bins of the window's spectrum from low to high are predicted.
        window: its length in units of the axis; bins are one over it apart.
        axis: name of the axis; optional when there is only one. Along the others, power is averaged over the extent of the
            patch.

    Raises:
        ValueError: no such axis, no rate, a band that the rate does not allow or that has no bin, a window longer than the
            sample or shorter than the patch.
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

    def compute(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch patch target"]:
        """Log power of the bins, channel fastest."""
        windows = x[..., self.inside]
        power = power_spectrum(windows - windows.mean(-1, keepdim=True), self.taper)[..., self.bins]
        power = self._reduce_to_patches(power, "mean") + FLOOR
        return rearrange(power, "batch channel ... bin -> batch (...) (bin channel)").log()

    def is_complete(self, valid: Bool[Tensor, "batch channel *others line"]) -> Bool[Tensor, "batch patch"]:
        """Patches whose whole window is valid."""
        complete = valid[..., self.inside].all(-1, keepdim=True).float()
        return reduce(self._reduce_to_patches(complete, "min"), "batch channel ... 1 -> batch (...)", "min") == 1

    def _reduce_to_patches(self, values: Float[Tensor, "batch channel *others patch bin"], how: str) -> Tensor:
        """(batch, channel, *grid, bin): one value for each patch along the other axes, and the axis back in its place."""
        grid = [f"g{i}" for i in range(len(self.patchifier.grid_size))]
        others = [name for i, name in enumerate(grid) if i != self.along]
        sizes = dict(zip(grid, self.patchifier.grid_size, strict=True))
        along = grid[self.along]
        points = " ".join(f"({name} p{name})" for name in others)
        pattern = f"batch channel {points} {along} bin -> batch channel {' '.join(grid)} bin"
        return reduce(values, pattern, how, **{name: sizes[name] for name in others})


def power_spectrum(x: Float[Tensor, "*batch line"], taper: Float[Tensor, "line"]) -> Float[Tensor, "*batch bin"]:
    """One-sided power spectrum along the last axis.

    Scaled so that its sum is the mean square of x, weighted by the square of the taper (Parseval).
    """
    n = x.shape[-1]
    power = torch.fft.rfft(x * taper).abs() ** 2 / (n * (taper**2).sum())
    # Every bin but those of frequency zero and of half the rate stands for two.
    sides = torch.full((power.shape[-1],), 2.0, device=x.device)
    sides[0] = 1
    if n % 2 == 0:
        sides[-1] = 1
    return power * sides
