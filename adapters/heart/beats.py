"""Heart beats: R peaks of an ECG, heart rate from beat times, and heart rate from a spectral peak."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

Array = NDArray[Any]

SLOWEST_BPM, FASTEST_BPM = 30.0, 220.0


def r_peaks(ecg: Array, rate_hz: float) -> NDArray[np.float64]:
    """Times of R peaks in seconds, after Pan & Tompkins (IEEE Trans. Biomed. Eng. 32, 1985).

    5-15 Hz band-pass, derivative, squaring and 150 ms integration, followed by peaks above an adaptive threshold (0.3 of the
    local maximum, which is at least a twentieth of the recording's median maximum), at least 250 ms apart. Each peak is moved to
    the largest excursion of the band-passed signal within 100 ms. Polarity does not matter. Stretches of NaN or of one constant
    value for half a second or longer (lead off, amplifier saturated) give no beats.

    Args:
        ecg: (time,) or (time, leads), of which the first is used, in any unit.
        rate_hz: at least 40 Hz.

    Raises:
        ValueError: a sampling rate too low for the band.
    """
    if rate_hz < 40:
        raise ValueError(
            f"an ECG at {rate_hz:g} Hz does not hold the 5-15 Hz band of QRS complexes; 40 Hz or more does"
        )
    ecg = np.asarray(ecg, dtype=np.float64)
    if len(ecg) < 2 * rate_hz:
        return np.zeros(0)
    ecg = ecg.reshape(len(ecg), -1)[:, 0]
    silent = ~np.isfinite(ecg)
    if silent.all():
        return np.zeros(0)
    at = np.arange(len(ecg))
    ecg = np.interp(at, at[~silent], ecg[~silent])
    silent |= _constant(ecg, round(0.5 * rate_hz))
    if silent.all():
        return np.zeros(0)
    band = dsp.sosfiltfilt(dsp.butter(2, (5, min(15, 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos"), ecg)
    width = max(1, round(0.15 * rate_hz))
    energy = np.convolve(np.gradient(band) ** 2, np.ones(width) / width, mode="same")
    energy[silent] = 0
    level = dsp.medfilt(_block_maximum(energy, int(2 * rate_hz)), 3)
    level = np.maximum(level, 0.05 * np.median(level[level > 0])) if (level > 0).any() else level + energy.max()
    level = np.interp(np.arange(len(ecg)), (np.arange(len(level)) + 0.5) * int(2 * rate_hz), level)
    found, _ = dsp.find_peaks(energy, height=0.3 * level, distance=max(1, round(0.25 * rate_hz)))
    reach = round(0.1 * rate_hz)
    sign = _polarity(band, found, reach)
    peaks = [low + int(np.argmax(sign * band[low : p + reach + 1])) for p in found for low in [max(0, p - reach)]]
    peaks = [p for p in sorted(set(peaks)) if not silent[p]]
    return np.array(peaks, dtype=np.float64) / rate_hz


def beat_rate_bpm(times_s: Array, seconds: float) -> float:
    """Heart rate from the beats inside a window, 60 / median interval in beats per minute.

    NaN with fewer than three beats, with intervals that cover less than 60 % of the window, with a gap of more than 2.5 median
    intervals (several missed beats; a single one does not change the median), or outside of 30 to 220 bpm.
    """
    intervals = np.diff(np.asarray(times_s, dtype=np.float64))
    if len(intervals) < 2 or intervals.sum() < 0.6 * seconds or intervals.max() > 2.5 * np.median(intervals):
        return float("nan")
    rate = 60.0 / float(np.median(intervals))
    return rate if SLOWEST_BPM <= rate <= FASTEST_BPM else float("nan")


def spectral_peak_bpm(
    displacement: Array, rate_hz: float, *, band_hz: tuple[float, float] = (0.8, 2.0), difference: bool = True
) -> float:
    """Heart rate from the highest peak of the periodogram inside the band of heart rates.

    Rectangular window, second-order zero-phase band-pass, zero-padded to a grid finer than 1 bpm, and a parabola
    through the logarithm of the peak. NaN for a signal that never changes or is shorter than one period.

    Args:
        displacement: (time,) without missing values.
        rate_hz: its sampling rate.
        band_hz: search band of the peak.
        difference: take differences first, as for radar phase, where breathing is far larger than the heart.
    """
    x = band_passed(displacement, rate_hz, band_hz, difference)
    if x is None:
        return float("nan")
    frequency, power = fine_periodogram(x, rate_hz)
    inside = np.flatnonzero((frequency >= band_hz[0]) & (frequency <= band_hz[1]))
    peak = int(inside[np.argmax(power[inside])])
    return 60.0 * (peak + parabola_offset(np.log(power + 1e-300), peak)) * frequency[1]


def band_passed(
    displacement: Array, rate_hz: float, band_hz: tuple[float, float], difference: bool
) -> NDArray[np.float64] | None:
    """Band-pass the signal, or its differences, with a second-order zero-phase filter.

    None for a signal that never changes or is shorter than one period of the lower frequency.
    """
    x = np.diff(displacement) if difference else np.asarray(displacement)
    if len(x) < rate_hz / band_hz[0] or np.ptp(x) <= 1e-12 * np.abs(displacement).max():
        return None
    sos = dsp.butter(2, (band_hz[0], min(band_hz[1], 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos")
    return np.asarray(dsp.sosfiltfilt(sos, x - x.mean()), dtype=np.float64)


def fine_periodogram(x: Array, rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in Hz on a grid finer than 1 / minute, and the power there (rectangular window, zero-padded)."""
    size = int(2 ** np.ceil(np.log2(max(len(x), 64 * rate_hz))))
    frequency, power = dsp.periodogram(x, rate_hz, nfft=size)
    return frequency, power


def parabola_offset(values: Array, peak: int) -> float:
    """Offset of the vertex of the parabola through a peak and its neighbours, in samples."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    left, middle, right = values[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0


def _block_maximum(x: Array, size: int) -> Array:
    whole = len(x) // size * size
    return x[:whole].reshape(-1, size).max(axis=1) if whole else np.array([x.max()])


def _constant(x: Array, shortest: int) -> NDArray[np.bool_]:
    """Mask of samples inside runs of one constant value of at least `shortest` samples."""
    still = np.diff(x) == 0
    edges = np.flatnonzero(np.diff(np.r_[False, still, False])).reshape(-1, 2)
    inside = np.zeros(len(x), dtype=np.bool_)
    for start, stop in edges[np.ptp(edges, axis=1) >= shortest]:
        inside[start : stop + 1] = True
    return inside


def _polarity(band: Array, found: Array, reach: int) -> float:
    """Sign of the QRS complexes over the whole recording: 1 upward, -1 downward."""
    ups = [band[max(0, p - reach) : p + reach + 1].max(initial=0.0) for p in found]
    downs = [-band[max(0, p - reach) : p + reach + 1].min(initial=0.0) for p in found]
    return 1.0 if np.sum(ups) >= np.sum(downs) else -1.0
