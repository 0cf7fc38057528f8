"""Range profiles from ADC samples, and the range bin of a person: range FFT, static clutter, bin selection, combining.

The range FFT and its scale follow Richards, Scheer & Holm, Principles of Modern Radar (2010); mean subtraction and selection of
the bin with the largest variance follow Xiang et al., Sensors 23 (2023), 7869.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg
from scipy import signal as dsp

from maekit.adapters.radar.fmcw import FMCW
from maekit.errors import UserError

Array = NDArray[Any]


def range_profile(adc: Array, window: str = "hann") -> Array:
    """Range FFT over the last axis, divided by the window's sum, so that a target on a bin keeps its amplitude.

    Args:
        adc: (..., sample) complex, or real.
        window: a window of `scipy.signal.get_window`; Hann suppresses strong clutter from the third bin on.

    Returns:
        (..., bin) complex: as many bins as complex samples, the upper half of which are also the negative beat frequencies; of
        real samples the non-negative frequencies.
    """
    shape = dsp.get_window(window, adc.shape[-1]).astype(np.float32 if adc.dtype.itemsize <= 8 else np.float64)
    transform = fft.fft if np.iscomplexobj(adc) else fft.rfft
    return transform(adc * (shape / shape.sum()), axis=-1)


def range_axis_m(radar: FMCW, bins: int) -> NDArray[np.float64]:
    """Ranges of the bins in m, c / 2B apart."""
    return np.arange(bins) * radar.range_resolution_m


def without_static(profile: Array) -> Array:
    """Subtract the mean over frames (axis 0), which removes static clutter. Frames of NaN stay NaN."""
    return profile - np.nanmean(profile, axis=0, keepdims=True)


def bins_within(range_m: Array, within_m: tuple[float, float]) -> NDArray[np.bool_]:
    """Mask of the range bins within two ranges.

    Raises:
        UserError: there is none.
    """
    inside = (range_m >= within_m[0]) & (range_m <= within_m[1])
    if not inside.any():
        raise UserError(
            "no range bin lies within the distances asked for",
            location="within_m",
            value=tuple(within_m),
            expected=f"distances of {range_m[0]:.2f} to {range_m[-1]:.2f} m, {range_m[1] - range_m[0]:.3g} m apart",
        )
    return inside


def most_variable_bin(profile: Array, inside: NDArray[np.bool_]) -> int:
    """The bin inside the mask with the largest variance over frames, summed over receivers.

    Args:
        profile: (frame, receiver, bin) complex; frames of NaN are left out.
        inside: (bin,) mask.

    Raises:
        UserError: there is no variance.
    """
    variance = np.where(inside, np.nanvar(profile, axis=0).sum(axis=0), -1.0)
    best = int(variance.argmax())
    if not variance[best] > 1e-14 * np.nanmean(np.abs(profile) ** 2):
        raise UserError(
            "nothing moves within the distances asked for",
            value=f"variance {max(variance[best], 0):.3g}",
            hint="Widen `within_m`; are these samples of a radar that was running?",
        )
    return best


def noise_between_bins(samples: int, bins: int, window: str = "hann") -> NDArray[np.complex128]:
    """(bins, bins) correlation of white noise between neighbouring bins after a window (Harris, Proc. IEEE 66, 1978)."""
    power = fft.fft(dsp.get_window(window, samples) ** 2)
    apart = np.subtract.outer(np.arange(bins), np.arange(bins))
    return np.asarray(power[apart % samples] / power[0].real, dtype=np.complex128)


def combined(channels: Array, noise: Array) -> Array:
    """Combine all receivers and the bins that an echo spreads over into one signal.

    Maximal-ratio combining (Brennan, Proc. IRE 47, 1959) with weights from the data: the principal generalised eigenvector of the
    covariance of the moving part against that of the noise. Its free phase is set so that the strongest channel keeps its own.

    Args:
        channels: (frame, receiver, bin) complex, without missing values.
        noise: (bin, bin) covariance of the noise at any scale; noise of receivers is assumed independent.
    """
    receivers = channels.shape[1]
    flat = channels.reshape(len(channels), -1).astype(np.complex128)
    moving = without_static(flat)
    weights = linalg.eigh(moving.T @ moving.conj(), np.kron(np.eye(receivers), noise))[1][:, -1].conj()
    strongest = weights[np.abs(weights).argmax()]
    return flat @ (weights * abs(strongest) / strongest)


def image_side_db(profile: Array) -> float:
    """Energy at negative over positive beat frequencies in dB, above the noise.

    Echoes have positive beat frequencies if I and Q are right; with the two swapped (or the sign of Q inverted) the spectrum is
    mirrored. Echo power falls with the fourth power of range, so the strong echoes lie in the near half. Bins next to zero and at
    the Nyquist frequency, where the sides leak into each other, are left out.

    Args:
        profile: (..., bin) of complex samples.
    """
    energy = np.nanmean(np.abs(profile.reshape(-1, profile.shape[-1])) ** 2, axis=0)
    noise = float(np.median(energy))
    half, above = len(energy) // 2, np.maximum(energy - noise, 0)
    return float(10 * np.log10((above[half + 2 : -2].sum() + noise) / (above[3 : half - 1].sum() + noise)))
