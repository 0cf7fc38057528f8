"""One-dimensional signals with heart beats: radar phase, PPG, ECG, accelerometer; any number of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from maekit.adapter import Adapter, Candidates, Derivation, Estimator, Reducer, Transformation
from maekit.adapters.heart import beats
from maekit.adapters.heart import estimators as heart_estimators
from maekit.adapters.heart import quality as signal_quality
from maekit.adapters.radar.conversions import cube_displacement, dca1000_displacement, profiles_displacement
from maekit.adapters.radar.phase import despiked, difference
from maekit.adapters.simulate.vital_signs import simulate_vital_signs
from maekit.core.patchify import GridPatchifier
from maekit.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]


class HeartRateAdapter(Adapter):
    """Windows of a 1-D signal at one rate, optionally differenced, filtered and standardised.

    Args:
        info: of the source; one axis, `time`.
        patch_s: length of a patch in seconds; a whole number of samples.
        channels: names of the channels of the source to use, in this order; default all.
        rate_hz: resample to this rate; required where recordings have different rates.
        window_s: length of a sample, at most the source's window, which is the default.
        difference: use the derivative in unit/s (first difference times rate): for radar phase, where breathing is a hundred
            times larger than the heart beat (phase difference of Xiang et al., Sensors 23, 2023, 7869).
        band_hz: zero-phase Butterworth band-pass of order 2.
        per_window: standardise each window by its own mean and standard deviation, where the amplitude carries no information
            (it depends on distance, contact pressure or the device).
        despike: limit values to this many robust standard deviations from the window's median (Hampel), before the band-pass,
            which would ring after a spike.
        estimate_band_hz: band of heart rates for the estimators of `Baselines`.
        estimate_difference: the estimators take differences first: right for displacement or phase, wrong for a PPG.

    Raises:
        ValueError: axes other than `time`; a missing rate or length; a patch that is no whole number of samples; a band that
            exceeds half of the rate.
    """

    reducers: Mapping[str, Reducer] = {"beat_rate_bpm": beats.beat_rate_bpm}  # type: ignore[misc]
    # No heart that beats is slower or faster, from athletes asleep to arrhythmia of newborns.
    label_ranges: Mapping[str, tuple[float, float]] = {"bpm": (20.0, 320.0)}  # type: ignore[misc]
    derivations: Mapping[str, Derivation] = {"r_peaks": beats.r_peaks}  # type: ignore[misc]
    transformations: Mapping[str, Transformation] = {  # type: ignore[misc]
        "cube_displacement": cube_displacement,
        "dca1000_displacement": dca1000_displacement,
        "profiles_displacement": profiles_displacement,
    }

    def __init__(
        self,
        info: SignalInfo,
        *,
        channels: tuple[str, ...] | None = None,
        patch_s: float = 0.4,
        rate_hz: float | None = None,
        window_s: float | None = None,
        difference: bool = False,
        band_hz: tuple[float, float] | None = None,
        per_window: bool = False,
        despike: float | None = None,
        estimate_band_hz: tuple[float, float] = (0.8, 2.0),
        estimate_difference: bool = True,
    ) -> None:
        if [axis.name for axis in info.axes] != ["time"]:
            raise ValueError(f"heart_rate takes one axis, time; the data spec gives {[a.name for a in info.axes]}")
        selected = channels if channels is not None else info.channels
        if not selected or not set(selected) <= set(info.channels):
            raise ValueError(f"channels {', '.join(selected) or 'none'}: expected some of {', '.join(info.channels)}")
        self.indices = [info.channels.index(name) for name in selected]
        info = replace(info, channels=tuple(selected))
        rate = rate_hz or info.rate_hz
        if rate is None:
            raise ValueError("recordings differ in sampling rate: give rate_hz, to which all are resampled")
        seconds = window_s or (info.axes[0].length / info.rate_hz if info.rate_hz else None)
        if seconds is None:
            raise ValueError("recordings differ in sampling rate: give window_s, the length of a sample")
        if info.rate_hz and seconds > info.axes[0].length / info.rate_hz + 1 / info.rate_hz:
            window = info.axes[0].length / info.rate_hz
            raise ValueError(f"window_s {seconds:g} is longer than the window of the data, {window:g} s")
        if not isfinite(seconds * rate):
            raise ValueError(f"window_s {seconds:g} at {rate:g} Hz has no end")
        if not isfinite(patch_s * rate):
            raise ValueError(f"patch_s {patch_s:g} at {rate:g} Hz has no end")
        points = round(seconds * rate)
        patch = round(patch_s * rate)
        if abs(patch - patch_s * rate) > 1e-6 or patch < 1:
            near = " or ".join(f"{n / rate:g}" for n in (int(patch_s * rate), int(patch_s * rate) + 1) if n)
            raise ValueError(f"patch_s {patch_s} is no whole number of samples at {rate:g} Hz; {near} is")
        for name, band in (("band_hz", band_hz), ("estimate_band_hz", estimate_band_hz)):
            if band is not None and not 0 < band[0] < band[1] < rate / 2:
                raise ValueError(f"{name} {tuple(band)} must rise, between 0 and {rate / 2:g} Hz (half of rate_hz)")
        super().__init__(info, GridPatchifier((len(info.channels), points), (patch,), ("time",), (rate,)))
        self.rate_hz: float = rate
        self.points, self.resampled_s = points, points / rate
        self.difference, self.band_hz, self.per_window, self.despike = difference, band_hz, per_window, despike
        self.estimate_band_hz, self.estimate_difference = estimate_band_hz, estimate_difference
        unit = f"{info.unit}/s" if difference else info.unit
        self.unit = f"SD of the window ({unit})" if per_window else unit

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """Difference, limit, filter, resample and standardise: (channel, point). Missing stretches stay marked as missing.

        Raises:
            UserError: a recording too short, or of a rate too low for `band_hz`.
        """
        return self._prepare(self._interpolated(sample), sample.valid, sample.rate_hz or self.rate_hz, sample.location)

    def prepare_batch(self, samples: Sequence[Sample]) -> list[tuple[Array, Valid | None]]:
        """See `Adapter.prepare_batch`: complete samples of one rate and length are filtered as one array."""
        prepared: dict[int, tuple[Array, Valid | None]] = {}
        alike: dict[Any, list[int]] = {}
        for i, sample in enumerate(samples):
            if sample.valid is None:
                alike.setdefault((sample.rate_hz, sample.signal.shape), []).append(i)
            else:
                prepared[i] = self.prepare(sample)
        for members in alike.values():
            first = samples[members[0]]
            x = np.stack([np.asarray(samples[i].signal, dtype=np.float64)[self.indices] for i in members])
            signals, valid = self._prepare(x, None, first.rate_hz or self.rate_hz, first.location)
            prepared |= {i: (signal, valid) for i, signal in zip(members, signals, strict=True)}
        return [prepared[i] for i in range(len(samples))]

    def _prepare(self, x: Array, valid: Valid | None, rate: float, location: str) -> tuple[Array, Valid | None]:
        """Signals (..., channel, time) as `prepare` gives them; `valid` (time,) holds for all."""
        if self.difference:
            x, valid = difference(x, rate, valid)
        if self.despike is not None:
            x = despiked(x, valid, self.despike)
        if self.band_hz is not None:
            if self.band_hz[1] >= rate / 2:
                raise UserError(
                    "a sampling rate too low for the adapter's band_hz",
                    location=location,
                    value=f"{rate:g} Hz",
                    expected=f"more than {2 * self.band_hz[1]:g} Hz",
                    hint="Lower `band_hz` or leave the recording out.",
                )
            x = dsp.sosfiltfilt(
                _band_pass(*self.band_hz, rate), x, axis=-1, padlen=min(x.shape[-1] - 1, round(2 * rate))
            )
        x, valid = self._resampled(x, valid, rate, location)
        if self.per_window:
            measured = _measured(x, valid)
            x = (x - measured.mean(axis=-1, keepdims=True)) / (measured.std(axis=-1, keepdims=True) + 1e-9)
        return np.ascontiguousarray(x, dtype=np.float32), valid

    def estimators(self) -> Mapping[str, Estimator]:
        """Heart rates in beats per minute, from the first channel as it was read."""
        functions = {
            "spectral peak": beats.spectral_peak_bpm,
            "autocorrelation": heart_estimators.autocorrelation_bpm,
            "harmonic sum": heart_estimators.harmonic_sum_bpm,
        }
        return {name: partial(self._of_first_channel, function) for name, function in functions.items()}

    def candidates(self) -> Mapping[str, Candidates]:
        """Rates of the highest spectral peaks, and of these with those whose second harmonic is a peak."""
        functions = {
            "highest spectral peaks": heart_estimators.highest_peaks_bpm,
            "highest spectral peaks of two orders": heart_estimators.highest_peaks_of_two_orders_bpm,
        }
        return {name: partial(self._of_first_channel, function) for name, function in functions.items()}

    def _of_first_channel(self, function: Callable[..., Any], sample: Sample) -> Any:
        """Apply `function` to the first channel, with missing stretches interpolated, and the options of the estimators."""
        x = self._interpolated(sample)
        rate, band, difference = sample.rate_hz or self.rate_hz, self.estimate_band_hz, self.estimate_difference
        return function(x[0], rate, band_hz=band, difference=difference)

    def quality(self, sample: Sample) -> Mapping[str, float]:
        """Body motion and, for a displacement that is sampled fast enough, the presence of a person."""
        x = self._interpolated(sample)
        rate = sample.rate_hz or self.rate_hz
        quality = {"motion": -max(signal_quality.relative_move(line, rate) for line in x)}
        if self.estimate_difference and rate >= 2.5 * signal_quality.NOISE_HZ:
            quality["nobody there"] = float(np.max([signal_quality.body_over_noise_db(line, rate) for line in x]))
        return quality

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw time in seconds to the right and the unit upward, one line a channel."""
        seconds = np.arange(x.shape[-1]) / self.rate_hz
        for name, line in zip(self.info.channels, x, strict=True):
            axes.plot(seconds, line, linewidth=1.2, label=name.replace("$", r"\$"))
        axes.set_xlim(0, seconds[-1])
        axes.set_xlabel("time [s]")
        axes.set_ylabel(self.unit.replace("$", r"\$"))
        axes.set_title(title)
        if len(x) > 1:
            axes.legend(frameon=False, fontsize="small")

    simulate = staticmethod(simulate_vital_signs)

    def _interpolated(self, sample: Sample) -> Array:
        """(channel, time) of the selected channels, missing stretches linearly interpolated."""
        x = np.asarray(sample.signal, dtype=np.float64)[self.indices]
        return x if sample.valid is None else _interpolate(x, sample.valid)

    def _resampled(self, x: Array, valid: Valid | None, rate: float, location: str) -> tuple[Array, Valid | None]:
        """Resample to `rate_hz` (polyphase, anti-aliased) and cut to `points`; a short end is padded and marked as missing."""
        if abs(rate - self.rate_hz) > 1e-6 * rate:
            ratio = Fraction(self.rate_hz / rate).limit_denominator(1000)
            x = dsp.resample_poly(x, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
            if valid is not None:
                at = np.minimum(np.arange(x.shape[-1]) * rate / self.rate_hz, len(valid) - 1).astype(int)
                valid = valid[at] & valid[np.minimum(at + 1, len(valid) - 1)]
        short = self.points - x.shape[-1]
        if short > 0.1 * self.points:
            raise UserError(
                "a window shorter than the adapter takes",
                location=location,
                value=f"{x.shape[-1] / self.rate_hz:.2f} s",
                expected=f"{self.points / self.rate_hz:.2f} s",
                hint="Make `window` and `window_s` agree.",
            )
        if short > 0:
            valid = np.r_[np.ones(x.shape[-1], bool) if valid is None else valid, np.zeros(short, bool)]
            x = np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, short)], mode="edge")
        return x[..., : self.points], None if valid is None else valid[: self.points]


@lru_cache(maxsize=16)
def _band_pass(low_hz: float, high_hz: float, rate_hz: float) -> Array:
    """Butterworth band-pass of order 2 in second-order sections; cached, because its design takes longer than filtering a window."""
    return dsp.butter(2, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos")


def _measured(x: Array, valid: Valid | None) -> Array:
    return x if valid is None or not valid.any() else x[..., valid]


def _interpolate(x: Array, valid: Valid) -> Array:
    """Interpolate missing values linearly, so that filters do not ring; the mask still marks them."""
    if not valid.any():
        return np.zeros_like(x)
    at = np.arange(x.shape[-1])
    return np.stack([np.interp(at, at[valid], line[valid]) for line in x])
