"""From ADC samples to the range bin that a person is in: range FFT, static clutter, choice of bin, receivers.

Range FFT and its scale as in Richards, Scheer & Holm, Principles of Modern Radar (2010); mean subtraction and the
search for the bin that varies most as in Xiang et al., Sensors 23 (2023), 7869.
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
    """Range FFT over the last axis, scaled by the window's sum: a target on a bin keeps its amplitude.

    Args:
        adc: (..., sample) complex, or real.
        window: a name that `scipy.signal.get_window` knows; Hann keeps strong clutter out of bins from the third on.

    Returns:
        (..., bin) complex: as many bins as complex samples, of which the upper half stands for negative beat
        frequencies too; of real samples the half that is no mirror.
    """
    shape = dsp.get_window(window, adc.shape[-1]).astype(np.float32 if adc.dtype.itemsize <= 8 else np.float64)
    transform = fft.fft if np.iscomplexobj(adc) else fft.rfft
    return transform(adc * (shape / shape.sum()), axis=-1)


def range_axis_m(radar: FMCW, bins: int) -> NDArray[np.float64]:
    """Distances of range bins: c / 2B from one to the next."""
    return np.arange(bins) * radar.range_resolution_m


def without_static(profile: Array) -> Array:
    """What does not move goes: the mean over frames (axis 0) is subtracted. Frames of NaN stay so."""
    return profile - np.nanmean(profile, axis=0, keepdims=True)


def bins_within(range_m: Array, within_m: tuple[float, float]) -> NDArray[np.bool_]:
    """The bins of a distance mask.

    Raises:
        UserError: none lies inside.
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


def liveliest_bin(profile: Array, inside: NDArray[np.bool_]) -> int:
    """The bin inside the mask whose samples vary most over frames, summed over receivers.

    Args:
        profile: (frame, receiver, bin) complex; frames of NaN are left out.
        inside: (bin,).

    Raises:
        UserError: nothing varies there.
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
    """(bins, bins): how a window makes white noise alike in neighbouring bins (Harris, Proc. IEEE 66, 1978)."""
    power = fft.fft(dsp.get_window(window, samples) ** 2)
    apart = np.subtract.outer(np.arange(bins), np.arange(bins))
    return np.asarray(power[apart % samples] / power[0].real, dtype=np.complex128)


def combined(channels: Array, noise: Array) -> Array:
    """One stream of all receivers and of the bins that an echo spreads over, so that what moves adds up.

    Maximal-ratio combining (Brennan, Proc. IRE 47, 1959) with weights from the data: the first eigenvector of the
    covariance of what moves, against that of the noise. Its free angle is set so that the strongest channel does not
    turn.

    Args:
        channels: (frame, receiver, bin) complex, all measured.
        noise: (bin, bin) covariance of the noise, any scale; that of receivers is taken as independent.
    """
    receivers = channels.shape[1]
    flat = channels.reshape(len(channels), -1).astype(np.complex128)
    moving = without_static(flat)
    weights = linalg.eigh(moving.T @ moving.conj(), np.kron(np.eye(receivers), noise))[1][:, -1].conj()
    strongest = weights[np.abs(weights).argmax()]
    return flat @ (weights * abs(strongest) / strongest)


def image_side_db(profile: Array) -> float:
    """Energy at negative beat frequencies against that at positive ones, in dB, above the noise.

    An echo's beat frequency is positive where I and Q are what they say; with the two swapped (or the sign of Q) the
    whole picture stands mirrored. As echoes fall with the fourth power of distance, the strong ones lie in the near
    half. The bins next to zero and those at the fold, where either side leaks into the other, do not count.

    Args:
        profile: (..., bin) of complex samples.
    """
    energy = np.nanmean(np.abs(profile.reshape(-1, profile.shape[-1])) ** 2, axis=0)
    noise = float(np.median(energy))
    half, above = len(energy) // 2, np.maximum(energy - noise, 0)
    return float(10 * np.log10((above[half + 2 : -2].sum() + noise) / (above[3 : half - 1].sum() + noise)))
