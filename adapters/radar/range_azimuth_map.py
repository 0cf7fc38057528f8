"""Range-azimuth maps from ADC cubes of a line of receivers: conventional and minimum-variance beamforming.

Geometry: receiver m stands at x = m * spacing * wavelength, to the right as seen along boresight. An echo from azimuth theta,
positive to the right, reaches receivers further to the right earlier: its path to receiver m is shorter by
m * spacing * sin(theta) wavelengths. The phase of a beat signal grows with delay (`FMCW`), so the phase of receiver m is

    exp(-2j pi m spacing sin(theta)),

and a beam is the sum over the receivers of w_m exp(+2j pi m spacing sin(theta)) x_m.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from einops import einsum, rearrange
from jaxtyping import Complex, Float
from torch import Tensor

from maekit.adapters.radar.spectra import Window, decibels, in_blocks, on_device, scaled_window

Beamformer = Literal["fft", "capon"]


def fft_sines(count: int, spacing: float = 0.5) -> Float[Tensor, " {count}"]:
    """Sines of the azimuths of an FFT over the receivers, zero-padded to `count`, in rising order.

    Bin `count // 2` is boresight. At a spacing of half a wavelength they start at -1, in steps of 2 / count.
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

    A range FFT is followed by beams whose power is averaged over the chirps. By Parseval's theorem that is the sum over all
    Doppler bins, so a target contributes its power whatever its Doppler, and no Doppler bin has to be selected first.

    Both methods use R, the covariance of the receivers over the chirps of each range bin. `fft` is the conventional beamformer,
    w^H R w. On a grid of `fft_sines` it gives the same numbers as a zero-padded FFT over the receivers with its power averaged
    over the chirps, for a small part of the work; other grids are possible too. `capon` is the minimum-variance beamformer
    (Capon, Proc. IEEE 57, 1969), 1 / (a^H R^-1 a), with forward-backward averaging of R (targets of the same Doppler are
    coherent and would cancel each other; Pillai & Kwon, IEEE Trans. ASSP 37, 1989) and diagonal loading (Carlson, IEEE Trans.
    AES 24, 1988).

    A target on a bin keeps the power that one receiver gets, because weights sum to one. White noise of power n becomes
    n * sum(w^2) / sum(w)^2 in `fft`, for window and taper each.

    Args:
        adc: volts across one ohm.
        sines: of the azimuths, positive to the right (module docstring).
        spacing: of the receivers, in wavelengths; negative where they are numbered from right to left. Beyond 0.5, azimuths are
            ambiguous.
        window: over fast time.
        taper: over the receivers, of `fft` only.
        method: see above.
        loading: of `capon`: added to the diagonal of R, relative to the receivers' mean power. Smaller values resolve more and
            tolerate fewer errors of the array.

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
    """Steering vectors of each azimuth (module docstring); complex128."""
    turns = -2 * torch.pi * spacing * sines.double()[:, None] * torch.arange(receivers, device=sines.device)
    return torch.polar(torch.ones_like(turns), turns)


def _covariance(profiles: Complex[Tensor, "map receiver chirp range"]) -> Complex[Tensor, "map range receiver other"]:
    """Covariance of the receivers over the chirps; double precision, because single precision limits the dynamic range to 70 dB."""
    # Rearranged in memory before they double in size.
    snapshots = rearrange(profiles, "map receiver chirp range -> map range receiver chirp").contiguous()
    doubled = snapshots.to(torch.complex128)
    return doubled @ doubled.mH / doubled.shape[-1]


def _quadratic(
    covariance: Complex[Tensor, "map range receiver other"], weights: Complex[Tensor, "azimuth receiver"]
) -> Float[Tensor, "map range azimuth"]:
    """w^H R w: mean power of each beam over the chirps."""
    pairs = einsum(weights.conj(), weights, "azimuth receiver, azimuth other -> receiver other azimuth")
    formed = rearrange(covariance, "... receiver other -> ... (receiver other)") @ pairs.flatten(0, 1)
    return formed.real.clamp(min=0.0)


def _capon(
    covariance: Complex[Tensor, "map range receiver other"],
    towards: Complex[Tensor, "azimuth receiver"],
    loading: float,
) -> Float[Tensor, "map range azimuth"]:
    covariance = (covariance + covariance.conj().flip(-1, -2)) / 2
    # Relative to the receivers' mean power, so that the inversion is well scaled for microvolts and for empty bins.
    level = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp(min=1e-300)
    unit = torch.eye(towards.shape[1], dtype=towards.dtype, device=towards.device)
    inverse = torch.linalg.inv(covariance / level[..., None, None] + loading * unit)
    return level[..., None] / _quadratic(inverse, towards).clamp(min=1e-12)
