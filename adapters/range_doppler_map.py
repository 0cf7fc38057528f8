"""From the samples of a frame of chirps to a map over range and velocity."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor


def range_doppler_map(adc: Complex[Tensor, "*batch chirp sample"]) -> Float[Tensor, "*batch range doppler"]:
    """ADC cubes to range-Doppler maps (Richards, Scheer & Holm, Principles of Modern Radar, 2010, chapter 17).

    Hann windows over fast and slow time and a two-dimensional FFT, scaled by the windows' sums, so that a target on
    a bin keeps the power it was received with, and white noise of power n comes out as n * sum(w^2) / sum(w)^2 of
    each window: the processing gain. Zero Doppler is in bin `chirps // 2`; a target that recedes, whose phase turns
    forward from chirp to chirp, lies above it.

    Args:
        adc: volts across one ohm.

    Returns:
        Power in dB re 1 W, not below -300.
    """
    chirps, samples = adc.shape[-2:]
    fast, slow = (torch.hann_window(n, periodic=False, dtype=adc.real.dtype, device=adc.device)
                  for n in (samples, chirps))  # fmt: skip
    windowed = adc * (slow / slow.sum())[:, None] * (fast / fast.sum())
    spectrum = torch.fft.fftshift(torch.fft.fft2(windowed), dim=-2)
    power = rearrange(spectrum.abs().square(), "... doppler range -> ... range doppler")
    return 10 * torch.log10(power.clamp(min=1e-30))
