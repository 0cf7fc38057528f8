"""A map and its objects moved along range and azimuth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from maekit.adapter import SampleAugmentation

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.adapter import Adapter
    from maekit.data.sample import Sample


class Shift(SampleAugmentation):
    """Moves a map circularly along its last two axes, with its objects; what leaves at one end comes in at the other.

    Over the sine of azimuth, the response of an array to a target only moves with it; along range its power is then that of
    another distance. Auxiliary signals would stay where they are, and are refused.

    Args:
        adapter: of maps; where there are objects, it knows the plane that they lie on.
        bins: largest number of bins along each of the last two axes.

    Raises:
        ValueError: numbers that the map does not have, or objects on an unknown plane.
    """

    changes_label = True

    def __init__(self, adapter: Adapter, *, bins: tuple[int, int]) -> None:
        axes = adapter.info.axes[-2:]
        names, lengths = tuple(axis.name for axis in axes), tuple(axis.length for axis in axes)
        if (
            len(axes) != 2
            or len(bins) != 2
            or any(not 0 <= n < length for n, length in zip(bins, lengths, strict=True))
        ):
            raise ValueError(f"bins={list(bins)}, expected numbers of bins from 0 and below {lengths} along {names}")
        self.bins, self.objects, self.plane = tuple(bins), adapter.info.objects, None
        if any(bins) and self.objects:
            self.plane = adapter.plane()
            if self.plane is None:
                raise ValueError(f"bins={list(bins)} needs the `steps` of {' and '.join(names)} in the data spec")

    def check_auxiliary(self, others: Mapping[str, Adapter]) -> None:
        """Refuse any: the varied map would no longer show the same scene."""
        if others and any(self.bins):
            raise ValueError(
                f"bins={list(self.bins)} moves the map alone, but {', '.join(others)} is read beside it: leave it out"
            )

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The moved map with its label."""
        by = [int(rng.integers(-largest, largest + 1)) for largest in self.bins]
        label = self._moved(sample.label, by) if isinstance(sample.label, np.ndarray) else sample.label
        valid = None if sample.valid is None else np.roll(sample.valid, by, (-2, -1))
        return replace(sample, signal=np.roll(sample.signal, by, (-2, -1)), valid=valid, label=label)

    def _moved(self, label: NDArray[np.float32], by: list[int]) -> NDArray[np.float32]:
        """(object, column) with coordinates and extents at the new bins; what lay outside of the map becomes NaN."""
        plane = self.plane
        if plane is None:
            return label
        columns = [self.objects.index(name) for name in plane.axes]
        before = plane.cells(torch.from_numpy(label[:, columns]).double())
        before = torch.where(plane.within(before)[:, None], before, torch.nan)
        after = (before + torch.tensor(by) + 0.5) % torch.tensor(plane.shape) - 0.5
        label = label.copy()
        label[:, columns] = plane.at(after).numpy()
        ratio = (plane.sizes(after) / plane.sizes(before)).numpy()
        for axis, name in enumerate(plane.axes):
            if (extent := f"{name}_extent") in self.objects:
                label[:, self.objects.index(extent)] *= ratio[:, axis]
        return label
