"""Targets that are the sample itself after a filter: a band of its frequencies, its derivative."""

from __future__ import annotations

from math import ceil, pi
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.core.targets.axis import FilteredTarget, rate_of

if TYPE_CHECKING:
    from maekit.core.patchify import Patchifier

EDGE = 0.1
"""Width of a filter's edges as a share of its band: narrower ones ring longer."""


class BandTarget(FilteredTarget):
    """The part of the sample between two frequencies: what lies outside, however strong, is not asked for.

    Args:
        patchifier: gives the patches, the names of the axes and their rates.
        low, high: cycles per unit of the axis (hertz along a time in seconds); low 0 keeps all that is slow.
        axis: the name of the axis; may be left out when there is only one.

    Raises:
        ValueError: no such axis, no known rate, or a band that the rate does not hold.
    """

    def __init__(self, patchifier: Patchifier, *, low: float, high: float, axis: str | None = None) -> None:
        rate = rate_of(patchifier, axis)
        check_band(low, high, rate)
        self.band = low / rate, high / rate
        # The envelope of the filter's response is a sinc that first vanishes after one over the band.
        super().__init__(patchifier, axis, reach=ceil(rate / (high - low)))

    def filtered(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        return band_pass(x, *self.band)


class DerivativeTarget(FilteredTarget):
    """Central differences along one axis (one-sided at the ends): slow parts count little, fast ones much.

    Args:
        patchifier: gives the patches and the names of the axes.
        axis: the name of the axis; may be left out when there is only one.

    Raises:
        ValueError: no such axis, or one of a single point.
    """

    def __init__(self, patchifier: Patchifier, *, axis: str | None = None) -> None:
        super().__init__(patchifier, axis, reach=1)
        if self.length < 2:
            raise ValueError(f"the {self.axis} axis has one point only, and no derivative")

    def filtered(self, x: Float[Tensor, "batch channel *others line"]) -> Float[Tensor, "batch channel *others line"]:
        return torch.gradient(x, dim=-1)[0]  # type: ignore[no-untyped-call]


def check_band(low: float, high: float, rate: float) -> None:
    """A band that can be told apart at this rate.

    Raises:
        ValueError: it does not rise, or leaves 0 to half the rate.
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(
            f"low={low:g} and high={high:g} must rise, between 0 and {rate / 2:g} (half the rate of the axis)"
        )


def band_pass(x: Float[Tensor, "*batch line"], low: float, high: float) -> Float[Tensor, "*batch line"]:
    """Zero-phase band-pass along the last axis in the Fourier domain, with edges of half a cosine.

    The line is continued at both ends by its odd reflection, so that its ends do not meet in a step.

    Args:
        x: lines.
        low, high: where the gain is a half, in cycles per point; low 0 has no lower edge.
    """
    n = x.shape[-1]
    before, after = 2 * x[..., :1] - x[..., 1:].flip(-1), 2 * x[..., -1:] - x[..., :-1].flip(-1)
    longer = torch.cat([before, x, after], dim=-1)
    frequency = torch.fft.rfftfreq(longer.shape[-1], device=x.device)
    edge = EDGE * (high - low)
    gain = 1 - _rise(frequency, high, edge)
    if low > 0:
        gain = gain * _rise(frequency, low, min(edge, 2 * low))
    return torch.fft.irfft(torch.fft.rfft(longer) * gain, n=longer.shape[-1])[..., n - 1 : 2 * n - 1]


def _rise(frequency: Tensor, at: float, width: float) -> Tensor:
    """From 0 to 1 around a frequency."""
    return (1 - (((frequency - at) / width + 0.5).clamp(0, 1) * pi).cos()) / 2
