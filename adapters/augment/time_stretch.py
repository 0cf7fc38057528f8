"""A recording that plays faster or slower, and a rate as its label that goes with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maekit.adapter import SampleAugmentation

if TYPE_CHECKING:
    from numpy.random import Generator

    from maekit.adapter import Adapter
    from maekit.data.sample import Sample


class TimeStretch(SampleAugmentation):
    """States another sampling rate for the values that were read, before anything is filtered.

    So a band-pass stays in hertz and a derivative per second, and `prepare` resamples without aliasing. A label that is a value
    (a rate) is multiplied by the speed. How much of a window is used does not depend on the speed, so that the missing part
    does not reveal the label: of a window that is not `share` longer than the adapter's sample, only a part is used, at a
    random position in the sample, and the rest is missing.

    Args:
        adapter: of a signal over time that it resamples (`resampled_s`).
        share: largest change of the speed.

    Raises:
        ValueError: an adapter that does not resample, or a share out of range.
    """

    changes_label = True

    def __init__(self, adapter: Adapter, *, share: float) -> None:
        if not 0 <= share <= 0.5:
            raise ValueError(f"share {share:g}, expected 0 to 0.5")
        if adapter.resampled_s is None or adapter.rate_hz is None:
            raise ValueError("it needs an adapter that resamples recordings over time, such as heart_rate")
        self.share, self.seconds, self.rate_hz = share, adapter.resampled_s, adapter.rate_hz

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample at another speed."""
        # In hundredths, so that the ratio of resampling has small numbers, which is fast.
        speed = round(1 + self.share * rng.uniform(-1, 1), 2)
        rate, length = sample.rate_hz or self.rate_hz, sample.signal.shape[-1]
        points = math.ceil(self.seconds * rate * speed - 1e-6)
        used = min(points, length, math.ceil(length / (1 + self.share) * speed + 1e-6))
        start, at = int(rng.integers(0, length - used + 1)), int(rng.integers(0, points - used + 1))
        valid = np.zeros(points, dtype=bool)
        valid[at : at + used] = True if sample.valid is None else sample.valid[start : start + used]
        signal = np.pad(sample.signal[:, start : start + used], ((0, 0), (at, points - used - at)), mode="edge")
        label = sample.label * speed if isinstance(sample.label, float) else sample.label
        return replace(sample, signal=signal, valid=None if valid.all() else valid, label=label, rate_hz=rate * speed)
