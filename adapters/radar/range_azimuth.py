"""Radar maps over range and azimuth, in which objects are places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.adapters.radar.range_doppler import RangeDopplerAdapter, twice_zero
from maekit.adapters.simulate.street import simulate_street

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from maekit.adapter import Adapter
    from maekit.data.sample import Sample, SignalInfo


class RangeAzimuthAdapter(RangeDopplerAdapter):
    """Maps over (range, azimuth), or clips of them with `time` or `frame` first; see `RangeDopplerAdapter` for scales.

    Args:
        info: of the source.
        mirror_azimuth: augmentation: half of the samples have left and right swapped, their objects and the pictures beside them too
            (of a camera that looks along the same boresight). Right only where a street does not tell left from right.
        shift: augmentation: the map and its objects are moved by up to so many cells along its last two axes, in their order, what leaves
            at one end coming in at the other. Over the sine of azimuth an array's picture of a target only moves with it, along
            range its power is then that of another distance. Not with signals beside, which would stay where they are.
        options: of `RangeDopplerAdapter`.

    Raises:
        ValueError: other axes, axes without steps, or an azimuth that is not as far to the left as to the right.
    """

    def __init__(
        self, info: SignalInfo, *, mirror_azimuth: bool = False, shift: tuple[int, int] = (0, 0), **options: Any
    ) -> None:
        names = tuple(axis.name for axis in info.axes)
        if set(names[-2:]) != {"range", "azimuth"}:
            raise ValueError(f"the last two axes are range and azimuth, but the data spec gives {names}")
        super().__init__(info, **options)
        self.mirror_azimuth, self.shift = mirror_azimuth, tuple(shift)
        self.azimuth = names.index("azimuth")
        lengths = tuple(axis.length for axis in info.axes[-2:])
        if len(shift) != 2 or any(not 0 <= by < length for by, length in zip(shift, lengths, strict=True)):
            raise ValueError(
                f"shift={list(shift)}, expected numbers of cells from 0 and below {lengths} along {names[-2:]}"
            )
        if (mirror_azimuth or (any(shift) and info.objects)) and any(axis.step is None for axis in info.axes[-2:]):
            raise ValueError(
                f"mirror_azimuth={mirror_azimuth} and shift={list(shift)} need the `steps` of range and azimuth in the data spec"
            )
        if any(shift) and info.objects:
            self.plane()  # what it refuses is refused here, at the line of the recipe
        if mirror_azimuth:
            axis = info.axes[self.azimuth]
            self.twice_ahead = twice_zero(axis)
            if abs(self.twice_ahead - (axis.length - 1)) > 1:
                points = axis.points()
                raise ValueError(
                    f"mirror_azimuth needs as much azimuth to the left as to the right, but it goes from {points[0]:g} to {points[-1]:g}"
                )

    def check_auxiliary(self, others: Mapping[str, Adapter]) -> None:
        """See `Adapter`; what is moved or mirrored must still be what the other signals show."""
        if others and any(self.shift):
            raise ValueError(
                f"shift={list(self.shift)} moves the map alone, but {', '.join(others)} is read beside it: set it to [0, 0]"
            )
        for name, other in others.items():
            last = other.info.axes[-1].name
            if self.mirror_azimuth and last != "width":
                raise ValueError(
                    f"mirror_azimuth=True also swaps left and right of what is read beside the map, but the last axis of {name} is "
                    f"{last}, not the width of a picture: set it to false"
                )

    def augment_sample(self, sample: Sample, rng: Generator) -> Sample:
        """Left and right swapped in every second sample, then moved, where asked for."""
        if self.mirror_azimuth and rng.random() >= 0.5:
            sample = self._mirrored(sample)
        if not any(self.shift):
            return sample
        return self._moved(sample, [int(rng.integers(-by, by + 1)) for by in self.shift])

    def _mirrored(self, sample: Sample) -> Sample:
        label = sample.label
        if isinstance(label, np.ndarray):
            label = label.copy()
            label[:, self.info.objects.index("azimuth")] *= -1
        auxiliary = {
            name: replace(
                other, signal=other.signal[..., ::-1], valid=None if other.valid is None else other.valid[..., ::-1]
            )
            for name, other in sample.auxiliary.items()
        }
        # Bins wrap: of an even number from -90 degrees on, the first stands for both ends.
        length = self.info.axes[self.azimuth].length
        mirrored = (self.twice_ahead - np.arange(length)) % length
        valid = None if sample.valid is None else sample.valid.take(mirrored, axis=self.azimuth)
        signal = sample.signal.take(mirrored, axis=self.azimuth + 1)
        return replace(sample, signal=signal, valid=valid, label=label, auxiliary=auxiliary)

    def _moved(self, sample: Sample, by: list[int]) -> Sample:
        label, plane = sample.label, self.plane()
        if isinstance(label, np.ndarray) and plane is not None:
            columns = [self.info.objects.index(name) for name in plane.axes]
            before = plane.cells(torch.from_numpy(label[:, columns]).double())
            there = torch.where(plane.within(before)[:, None], before, torch.nan)
            after = (there + torch.tensor(by) + 0.5) % torch.tensor(plane.shape) - 0.5
            label = label.copy()
            label[:, columns] = plane.at(after).numpy()
            for axis, name in enumerate(plane.axes):
                if (extent := f"{name}_extent") in self.info.objects:
                    label[:, self.info.objects.index(extent)] *= (plane.sizes(after) / plane.sizes(there))[
                        :, axis
                    ].numpy()
        valid = None if sample.valid is None else np.roll(sample.valid, by, (-2, -1))
        return replace(sample, signal=np.roll(sample.signal, by, (-2, -1)), valid=valid, label=label)

    simulate = staticmethod(simulate_street)
