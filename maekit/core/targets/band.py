"""A band of the sample's frequencies as the target."""

from __future__ import annotations

from math import ceil, pi
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.core.targets.axis import check_band, rate_of
from maekit.core.targets.filtered import FilteredTarget

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

EDGE = 0.1
"""Width of a filter's edges as a share of its band: narrower ones ring longer."""


class BandTarget(FilteredTarget):
    """The part of the sample between two frequencies; what lies outside the band, however strong, need not be predicted.

    Args:
        patchifier: gives the patches, the names of the axes and their rates.
        low, high: cycles per unit of the axis (hertz along a time in seconds); with low 0 there is no lower edge.
        axis: name of the axis; optional when there is only one.

    Raises:
        ValueError: no such axis, no rate, or a band that the rate does not allow.
    """

    def __init__(self, patchifier: Patchifier, *, low: float, high: float, axis: str | None = None) -> None:
        rate = rate_of(patchifier, axis)
        check_band(low, high, rate)
        self.band = low / rate, high / rate
        # The envelope of the filter's response is a sinc whose first zero is at one over the bandwidth.
        super().__init__(patchifier, axis, support=ceil(rate / (high - low)))

    def filter(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        """Band-pass along the last axis."""
        return band_pass(x, *self.band)


def band_pass(x: Float[Tensor, "*batch line"], low: float, high: float) -> Float[Tensor, "*batch line"]:
    """Zero-phase band-pass along the last axis in the Fourier domain, with raised-cosine edges.

    The line is extended at both ends by its odd reflection, so that there is no step between its ends.

    Args:
        x: lines.
        low: frequency where the gain is one half, in cycles per point; 0: there is no lower edge.
        high: the same at the upper edge.
    """
    n = x.shape[-1]
    before, after = 2 * x[..., :1] - x[..., 1:].flip(-1), 2 * x[..., -1:] - x[..., :-1].flip(-1)
    extended = torch.cat([before, x, after], dim=-1)
    frequency = torch.fft.rfftfreq(extended.shape[-1], device=x.device)
    edge = EDGE * (high - low)
    gain = 1 - _rise(frequency, high, edge)
    if low > 0:
        gain = gain * _rise(frequency, low, min(edge, 2 * low))
    return torch.fft.irfft(torch.fft.rfft(extended) * gain, n=extended.shape[-1])[..., n - 1 : 2 * n - 1]


def _rise(frequency: Tensor, centre: float, width: float) -> Tensor:
    """From 0 to 1 around a frequency."""
    return (1 - (((frequency - centre) / width + 0.5).clamp(0, 1) * pi).cos()) / 2
