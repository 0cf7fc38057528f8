"""Radar maps over range and azimuth, in which objects are places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapters.range_doppler import RangeDopplerAdapter

if TYPE_CHECKING:
    from numpy.random import Generator

    from maekit.data.sample import Sample, SignalInfo


class RangeAzimuthAdapter(RangeDopplerAdapter):
    """Maps over (range, azimuth), or clips of them with `time` or `frame` first; see `RangeDopplerAdapter` for scales.

    Args:
        info: of the source.
        mirror_azimuth: augmentation: half of the samples have left and right swapped, their objects too, and every signal beside
            them along its last axis (what looks along the same boresight, such as a camera). Right only where a street
            does not tell left from right.
        options: of `RangeDopplerAdapter`.

    Raises:
        ValueError: other axes, or an azimuth that is not as far to the left as to the right.
    """

    def __init__(self, info: SignalInfo, *, mirror_azimuth: bool = False, **options: Any) -> None:
        names = tuple(axis.name for axis in info.axes)
        if set(names[-2:]) != {"range", "azimuth"}:
            raise ValueError(f"the last two axes are range and azimuth, but the data spec gives {names}")
        super().__init__(info, **options)
        self.mirror_azimuth = mirror_azimuth
        self.azimuth = names.index("azimuth")
        points = info.axes[self.azimuth].points()
        if mirror_azimuth and not np.allclose(points, -points[::-1], atol=abs(points[1] - points[0])):
            raise ValueError(
                f"mirror_azimuth needs as much azimuth to the left as to the right, but it goes from {points[0]:g} to {points[-1]:g}"
            )

    def vary(self, sample: Sample, rng: Generator) -> Sample:
        """Left and right swapped in every second sample, where asked for."""
        if not self.mirror_azimuth or rng.random() < 0.5:
            return sample
        label = sample.label
        if isinstance(label, np.ndarray):
            label = label.copy()
            label[:, self.info.objects.index("azimuth")] *= -1
        beside = {
            name: replace(
                other, signal=other.signal[..., ::-1], valid=None if other.valid is None else other.valid[..., ::-1]
            )
            for name, other in sample.beside.items()
        }
        valid = None if sample.valid is None else np.flip(sample.valid, self.azimuth)
        return replace(sample, signal=np.flip(sample.signal, self.azimuth + 1), valid=valid, label=label, beside=beside)
