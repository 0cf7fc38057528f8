"""Heart-rate estimators that learn nothing: autocorrelation, harmonic sum, spectral peaks as candidates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from maekit.adapters.heart.beats import band_passed, fine_periodogram, parabola_offset

Array = NDArray[Any]

HIGHEST_HZ = 5.0
"""Upper limit of the chest motion by heart beats; higher frequencies are noise."""
BREATHING_HZ = (0.1, 0.6)
BREATHS = 4
"""Breaths that a window must hold for the harmonics of breathing to be separable from the heart beat."""
BREATHING_ORDERS = 4
ORDERS = 3
CANDIDATES = 3


class Lines(NamedTuple):
    """Spectral lines, the strongest first.

    Attributes:
        bpm: (line,) rates.
        line_db: (line,) power in dB over the median of the band.
    """

    bpm: NDArray[np.float64]
    line_db: NDArray[np.float64]


def spectral_peaks(
    displacement: Array,
    rate_hz: float,
    *,
    band_hz: tuple[float, float] = (0.8, 2.0),
    difference: bool = True,
    count: int = CANDIDATES,
) -> Lines:
    """The highest local maxima of the periodogram of `beats.spectral_peak_bpm` inside the band of heart rates.

    Args:
        displacement: (time,) without missing values.
        rate_hz: its sampling rate.
        band_hz: search band of the peaks.
        difference: take differences first, as for radar phase.
        count: largest number of peaks.
    """
    x = band_passed(displacement, rate_hz, band_hz, difference)
    if x is None:
        return Lines(np.zeros(0), np.zeros(0))
    frequency, power = fine_periodogram(x, rate_hz)
    level_db = 10 * np.log10(power + 1e-300)
    inside = (frequency >= band_hz[0]) & (frequency <= band_hz[1])
    tops, _ = dsp.find_peaks(level_db)
    tops = tops[inside[tops]]
    tops = tops[np.argsort(-level_db[tops], kind="stable")][:count]
    places = np.array([top + parabola_offset(level_db, top) for top in tops])
    return Lines(60 * places * frequency[1], level_db[tops] - np.median(level_db[inside]))


def highest_peaks_bpm(displacement: Array, rate_hz: float, **options: Any) -> NDArray[np.float64]:
    """Rates of `spectral_peaks`."""
    return spectral_peaks(displacement, rate_hz, **options).bpm


def highest_peaks_of_two_orders_bpm(
    displacement: Array, rate_hz: float, *, band_hz: tuple[float, float] = (0.8, 2.0), difference: bool = True
) -> NDArray[np.float64]:
    """Rates of `spectral_peaks`, and half the rates of the peaks in twice the band, since the second harmonic is often stronger."""
    twice = (2 * band_hz[0], min(2 * band_hz[1], 0.45 * rate_hz))
    second = spectral_peaks(displacement, rate_hz, band_hz=twice, difference=difference).bpm / 2
    return np.r_[highest_peaks_bpm(displacement, rate_hz, band_hz=band_hz, difference=difference), second]


def autocorrelation_bpm(
    displacement: Array, rate_hz: float, *, band_hz: tuple[float, float] = (0.8, 2.0), difference: bool = True
) -> float:
    """Heart rate of the highest peak of the autocorrelation among the periods of heart rates.

    The biased autocorrelation is used, which prefers the shorter of two equally likely periods, of the signal up to 5 Hz, whose
    harmonics sharpen the peaks; a parabola interpolates each peak. The first four harmonics of breathing are removed first
    (cf. Morgan & Zierdt, Signal Processing 89, 2009) if the window holds four breaths. NaN without a peak.

    Args:
        displacement: (time,) without missing values.
        rate_hz: its sampling rate.
        band_hz: search band of heart rates.
        difference: take differences first, as for radar phase.
    """
    still = without_breathing(displacement, rate_hz)
    x = band_passed(still, rate_hz, (band_hz[0], max(HIGHEST_HZ, band_hz[1])), difference)
    if x is None:
        return float("nan")
    alike = dsp.correlate(x, x, "full", method="fft")[len(x) - 1 :]
    peaks, _ = dsp.find_peaks(alike)
    peaks_hz = rate_hz / np.array([peak + parabola_offset(alike, peak) for peak in peaks])
    possible = (peaks_hz >= band_hz[0]) & (peaks_hz <= band_hz[1])
    if not possible.any():
        return float("nan")
    return float(60 * peaks_hz[possible][np.argmax(alike[peaks[possible]])])


def without_breathing(displacement: Array, rate_hz: float) -> NDArray[np.float64]:
    """Subtract the least-squares fit of the first harmonics of breathing, if the window holds enough breaths."""
    x = np.asarray(displacement, dtype=np.float64)
    breath_hz, seconds = breathing_hz(x, rate_hz), len(x) / rate_hz
    if seconds * breath_hz < BREATHS:
        return x
    turns = 2 * np.pi * breath_hz * np.arange(len(x)) / rate_hz
    orders = range(1, BREATHING_ORDERS + 1)
    waves = np.column_stack([np.ones(len(x)), *(wave(n * turns) for n in orders for wave in (np.sin, np.cos))])
    return np.asarray(x - waves @ np.linalg.lstsq(waves, x, rcond=None)[0])


def breathing_hz(displacement: Array, rate_hz: float) -> float:
    """Frequency of the highest peak of the displacement's spectrum among breathing rates (Hann window)."""
    x = dsp.detrend(np.asarray(displacement, dtype=np.float64))
    frequency, power = fine_periodogram(x * np.hanning(len(x)), rate_hz)
    inside = np.flatnonzero((frequency >= BREATHING_HZ[0]) & (frequency <= BREATHING_HZ[1]))
    return float(frequency[inside[np.argmax(power[inside])]])


def harmonic_sum_bpm(
    displacement: Array, rate_hz: float, *, band_hz: tuple[float, float] = (0.8, 2.0), difference: bool = True
) -> float:
    """Heart rate with the largest sum of levels at its first three harmonics (harmonic sum: Noll, 1969).

    Levels are in dB above the spectrum's trend, a straight line in log frequency, and negative ones count as zero; frequencies
    above 5 Hz are left out. The second harmonic, often the stronger, so counts as much as the first. NaN as in
    `beats.spectral_peak_bpm`.

    Args:
        displacement: (time,) without missing values.
        rate_hz: its sampling rate.
        band_hz: search band of heart rates.
        difference: take differences first, as for radar phase.
    """
    x = band_passed(displacement, rate_hz, (0.9 * band_hz[0], 0.45 * rate_hz), difference)
    if x is None:
        return float("nan")
    frequency, power = fine_periodogram(x, rate_hz)
    inside = (frequency >= band_hz[0]) & (frequency <= min(HIGHEST_HZ, 0.4 * rate_hz))
    log_f, level_db = np.log(frequency[inside]), 10 * np.log10(power[inside] + 1e-300)
    level_db = level_db - np.polyval(np.polyfit(log_f, level_db, 1), log_f)
    level_db = np.maximum(level_db - np.median(level_db), 0)
    rates = frequency[(frequency >= band_hz[0]) & (frequency <= band_hz[1])]
    total = sum(np.interp(order * rates, frequency[inside], level_db, right=0.0) for order in range(1, ORDERS + 1))
    peak = int(np.argmax(total))
    return float(60 * (rates[peak] + parabola_offset(np.asarray(total), peak) * frequency[1]))
