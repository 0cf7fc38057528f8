"""From ADC cubes of several receivers to maps over range and azimuth, and clutter taken out before any map.

The array: receiver m stands at x = m * spacing * wavelength, to the right along the line of receivers as one looks along
boresight. An echo from azimuth theta, positive to the right, reaches the receivers further to the right earlier: its way
to receiver m is shorter by m * spacing * sin(theta) wavelengths. The phase of a beat signal grows with delay (`FMCW`), so

    receiver m turns by exp(-2j pi m spacing sin(theta)),

and a beam is the sum over the receivers of w_m exp(+2j pi m spacing sin(theta)) x_m.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from einops import einsum, rearrange
from jaxtyping import Complex, Float
from torch import Tensor

from maekit.adapters.radar.radar_spectra import Window, decibels, in_blocks, on_device, scaled_window

Clutter = Literal["none", "mean", "two_pulse", "three_pulse"]
Beamformer = Literal["fft", "capon"]


def remove_clutter(
    adc: Complex[Tensor, "*batch chirp sample"], method: Clutter
) -> Complex[Tensor, "*batch left sample"]:
    """Take out of a frame what does not move (Richards, Scheer & Holm, 2010, chapter 17: moving target indication).

    Args:
        adc: (..., chirp, sample).
        method: `mean`: the mean over the chirps is subtracted: exactly zero Doppler goes, what is within one Doppler bin
            is weakened; as many chirps as before. `two_pulse`: each chirp less the one before, one chirp fewer, power
            of a target at Doppler f times 4 sin^2(pi f T), T from chirp to chirp. `three_pulse`: the same twice, two
            chirps fewer, 16 sin^4(pi f T). Both weaken slow targets and multiply the power of white noise by 2 and 6.

    Raises:
        ValueError: no such method, or no chirp would be left.
    """
    if method not in get_args(Clutter):
        raise ValueError(f"clutter {method!r}, expected one of {', '.join(get_args(Clutter))}")
    order = {"two_pulse": 1, "three_pulse": 2}.get(method, 0)
    if adc.shape[-2] <= order:
        raise ValueError(f"clutter {method!r} needs more than {order} chirps, there are {adc.shape[-2]}")
    if method == "mean":
        return adc - adc.mean(dim=-2, keepdim=True)
    return torch.diff(adc, n=order, dim=-2) if order else adc


def fft_sines(count: int, spacing: float = 0.5) -> Float[Tensor, " {count}"]:
    """Sines of the azimuths of an FFT over the receivers, zero-padded to `count`: even in the sine, rising.

    Bin `count // 2` looks ahead. At half a wavelength they go from -1, in steps of 2 / count.
    """
    return (torch.arange(count, dtype=torch.float64) - count // 2).div(count * spacing).to(torch.float32)


def range_azimuth_map(
    adc: Complex[Tensor, "*batch receiver chirp sample"],
    *,
    sines: Float[Tensor, " azimuth"],
    spacing: float = 0.5,
    window: Window = "hann",
    taper: Window = "hamming",
    method: Beamformer = "fft",
    loading: float = 1e-2,
) -> Float[Tensor, "*batch range azimuth"]:
    """ADC cubes of a uniform line array to range-azimuth maps.

    Range FFT, then beams, in each of which power is averaged over the chirps. That is the sum over all Doppler bins
    (Parseval), so a target counts with its power wherever its Doppler is, and no Doppler need be looked for first.

    Both methods read it from R, the covariance of the receivers over the chirps of each range bin. `fft` is the
    conventional beamformer, w^H R w: on a grid of `fft_sines` the same numbers as a zero-padded FFT over the receivers,
    its power averaged over the chirps, for a small part of the work, and on any other grid as good. `capon` is the
    minimum-variance beamformer (Capon, Proc. IEEE 57, 1969), 1 / (a^H R^-1 a), with R averaged forward and backward
    (targets of the same Doppler are coherent, and cancel each other otherwise; Pillai & Kwon, IEEE Trans. ASSP 37,
    1989) and loaded on its diagonal (Carlson, IEEE Trans. AES 24, 1988).

    A target on a bin keeps the power at which one receiver gets it: weights sum to one. White noise of power n comes
    out of `fft` as n * sum(w^2) / sum(w)^2 of window and taper each.

    Args:
        adc: volts across one ohm.
        sines: of the azimuths, positive to the right (module docstring).
        spacing: of the receivers, in wavelengths; below zero where they are numbered from the right to the left. Beyond
            0.5 azimuths are ambiguous.
        window: over fast time.
        taper: over the receivers, of `fft` only.
        method: see above.
        loading: of `capon`: added to the diagonal of R, relative to the receivers' mean power. Less resolves more and
            forgives less an array that is not quite as stated.

    Returns:
        Power in dB re 1 W, not below -300.

    Raises:
        ValueError: an unknown window or method; no spacing; loading that is not positive.
    """
    if method not in get_args(Beamformer):
        raise ValueError(f"method {method!r}, expected one of {', '.join(get_args(Beamformer))}")
    if spacing == 0 or not loading > 0:
        raise ValueError(f"spacing {spacing!r} must not be zero and loading {loading!r} must be positive")
    *batch, receivers, chirps, samples = adc.shape
    towards = directions(sines.to(adc.device), receivers, spacing)
    weights = towards * on_device(scaled_window(taper, receivers), towards)
    fast = on_device(scaled_window(window, samples), adc)

    def decibel_map(cubes: Complex[Tensor, "map receiver chirp sample"]) -> Float[Tensor, "map range azimuth"]:
        covariance = _covariance(torch.fft.fft(cubes * fast))
        watts = _capon(covariance, towards, loading) if method == "capon" else _quadratic(covariance, weights)
        return decibels(watts).to(adc.real.dtype)

    maps = in_blocks(decibel_map, adc.reshape(-1, receivers, chirps, samples))
    return maps.view(*batch, samples, len(sines))


def directions(sines: Float[Tensor, " azimuth"], receivers: int, spacing: float) -> Complex[Tensor, "azimuth receiver"]:
    """How an echo of each azimuth turns from receiver to receiver (module docstring); complex128."""
    turns = -2 * torch.pi * spacing * sines.double()[:, None] * torch.arange(receivers, device=sines.device)
    return torch.polar(torch.ones_like(turns), turns)


def _covariance(profiles: Complex[Tensor, "map receiver chirp range"]) -> Complex[Tensor, "map range receiver other"]:
    """Of the receivers, over the chirps; in double precision, or what a strong target hides would be 70 dB below it."""
    snapshots = rearrange(profiles.to(torch.complex128), "map receiver chirp range -> map range receiver chirp")
    return snapshots @ snapshots.mH / snapshots.shape[-1]


def _quadratic(
    covariance: Complex[Tensor, "map range receiver other"], weights: Complex[Tensor, "azimuth receiver"]
) -> Float[Tensor, "map range azimuth"]:
    """w^H R w: the power that each beam has over the chirps."""
    pairs = einsum(weights.conj(), weights, "azimuth receiver, azimuth other -> receiver other azimuth")
    formed = rearrange(covariance, "... receiver other -> ... (receiver other)") @ pairs.flatten(0, 1)
    return formed.real.clamp(min=0.0)


def _capon(
    covariance: Complex[Tensor, "map range receiver other"],
    towards: Complex[Tensor, "azimuth receiver"],
    loading: float,
) -> Float[Tensor, "map range azimuth"]:
    covariance = (covariance + covariance.conj().flip(-1, -2)) / 2
    # In units of the receivers' mean power, so that neither microvolts nor a silent bin upset the solver.
    level = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp(min=1e-300)
    unit = torch.eye(towards.shape[1], dtype=towards.dtype, device=towards.device)
    inverse = torch.linalg.inv(covariance / level[..., None, None] + loading * unit)
    return level[..., None] / _quadratic(inverse, towards).clamp(min=1e-12)
