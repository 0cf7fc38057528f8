"""Range-Doppler maps from ADC cubes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapters.radar.clutter import Clutter, remove_clutter
from maekit.adapters.radar.spectra import Window, decibels, in_blocks, on_device, scaled_window, squared_parts


def range_doppler_map(
    adc: Complex[Tensor, "*batch chirp sample"],
    *,
    window: Window = "hann",
    average_receivers: bool = False,
    clutter: Clutter = "none",
) -> Float[Tensor, "*maps range doppler"]:
    """ADC cubes to range-Doppler maps (Richards, Scheer & Holm, Principles of Modern Radar, 2010, chapter 17).

    Windows over fast and slow time and a two-dimensional FFT, divided by the windows' sums, so that a target on a bin keeps its
    received power, and white noise of power n becomes n * sum(w^2) / sum(w)^2 for each window (processing gain). Zero Doppler is
    in bin `chirps // 2`; receding targets, whose phase increases from chirp to chirp, lie above it.

    Args:
        adc: volts across one ohm.
        window: over both axes.
        average_receivers: average the power over the axis before `chirp` (non-coherent integration over receivers: mean powers of
            target and noise stay, the variance of noise decreases).
        clutter: removed first, see `remove_clutter`; chirps that a canceller consumes are zero-padded, so that the Doppler axis
            stays.

    Returns:
        Power in dB re 1 W, at least -300; without the axis of receivers where they are averaged.

    Raises:
        ValueError: an unknown window or method, or no axis of receivers.
    """
    *batch, chirps, samples = adc.shape
    if average_receivers and not batch:
        raise ValueError(f"average_receivers needs (receiver, chirp, sample), the cube has {tuple(adc.shape)}")
    receivers = batch.pop() if average_receivers else 1
    windows = on_device(_windows(window, chirps, samples, adc.dtype == torch.complex64), adc)

    def decibel_map(cubes: Complex[Tensor, "map receiver chirp sample"]) -> Float[Tensor, "map chirp sample"]:
        left = remove_clutter(cubes, clutter)
        parts = squared_parts(torch.fft.fft2(left * windows[: left.shape[-2]], s=(chirps, samples)))
        # Averaged before both parts are added, since that reads the spectra along memory.
        mean = parts[:, 0] if receivers == 1 else parts.mean(1)
        return decibels(mean[..., 0] + mean[..., 1])

    maps = in_blocks(decibel_map, adc.reshape(-1, receivers, chirps, samples))
    return rearrange(maps.view(*batch, chirps, samples), "... doppler range -> ... range doppler")


@lru_cache(maxsize=16)
def _windows(window: Window, chirps: int, samples: int, single: bool) -> NDArray[np.complexfloating[Any, Any]]:
    """Windows over slow and fast time, times a phase ramp that moves zero Doppler to bin chirps // 2."""
    slow, fast = scaled_window(window, chirps), scaled_window(window, samples)
    both = np.outer(slow * np.exp(2j * np.pi * (chirps // 2) / chirps * np.arange(chirps)), fast)
    return both.astype(np.complex64) if single else both
