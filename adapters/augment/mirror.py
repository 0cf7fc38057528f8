"""Left and right, or approaching and receding, swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maekit.adapter import SampleAugmentation
from maekit.adapters.radar.axes import twice_zero

if TYPE_CHECKING:
    from numpy.random import Generator

    from maekit.adapter import Adapter
    from maekit.data.sample import Sample


class Mirror(SampleAugmentation):
    """Mirrors every second sample at the zero of an axis, with its objects; across azimuth also the pictures read with it.

    Right only where the label does not tell the two sides apart otherwise than by the objects' coordinates: a street may look
    alike to the left and the right; a gesture towards the radar is not one away from it.

    Args:
        adapter: of maps with the axis.
        axis: name of the axis, such as `azimuth` or `doppler`; its zero lies in the middle of the map.

    Raises:
        ValueError: no such axis, or a zero that is not in its middle.
    """

    changes_label = True

    def __init__(self, adapter: Adapter, *, axis: str) -> None:
        names = [each.name for each in adapter.info.axes]
        if axis not in names:
            raise ValueError(f"axis {axis!r}, expected one of {', '.join(names)}")
        self.axis, self.index = axis, names.index(axis)
        self.column = adapter.info.objects.index(axis) if axis in adapter.info.objects else None
        mirrored = adapter.info.axes[self.index]
        if mirrored.step is None and axis == "azimuth":
            raise ValueError(f"mirroring needs the `steps` of {axis} in the data spec")
        doubled = twice_zero(mirrored)
        if abs(doubled - (mirrored.length - 1)) > 1:
            points = mirrored.points()
            raise ValueError(
                f"mirroring needs zero {axis} in the middle of the map, but it goes from {points[0]:g} to {points[-1]:g} "
                f"and zero is at bin {doubled / 2:g} of {mirrored.length}"
            )
        # Bins wrap: of an even number, the first stands for both ends of the axis.
        self.bins = (doubled - np.arange(mirrored.length)) % mirrored.length

    def check_auxiliary(self, others: Mapping[str, Adapter]) -> None:
        """Refuse signals that show the axis and cannot be mirrored with it."""
        for name, other in others.items():
            names = [axis.name for axis in other.info.axes]
            if (self.axis == "azimuth" and names[-1] != "width") or (self.axis != "azimuth" and self.axis in names):
                raise ValueError(
                    f"mirroring {self.axis} also swaps the sides of the auxiliary signals, but the last axis of {name} is "
                    f"{names[-1]}, not the width of a picture: leave it out"
                )

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The sample, mirrored half of the time."""
        if rng.random() >= 0.5:
            return sample
        label = sample.label
        if isinstance(label, np.ndarray) and self.column is not None:
            label = label.copy()
            label[:, self.column] *= -1
        auxiliary = sample.auxiliary
        if self.axis == "azimuth":
            auxiliary = {name: _flipped(other) for name, other in auxiliary.items()}
        valid = None if sample.valid is None else sample.valid.take(self.bins, axis=self.index)
        signal = sample.signal.take(self.bins, axis=self.index + 1)
        return replace(sample, signal=signal, valid=valid, label=label, auxiliary=auxiliary)


def _flipped(picture: Sample) -> Sample:
    valid = None if picture.valid is None else picture.valid[..., ::-1]
    return replace(picture, signal=picture.signal[..., ::-1], valid=valid)
