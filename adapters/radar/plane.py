"""Coordinates of the cells of a map, from its axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from maekit.metrics.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.data.sample import Axis

RADIANS = {"deg": np.pi / 180, "rad": 1.0}


def map_plane(map_axes: Sequence[Axis]) -> Plane | None:
    """The plane of the last two axes; range and azimuth are a distance and an angle. None where an axis has no step.

    Raises:
        ValueError: coordinates that fall, an azimuth in no unit of angle, or one of more than a full turn.
    """
    axes = map_axes[-2:]
    if any(axis.step is None for axis in axes):
        return None
    for axis in axes:
        if axis.points()[-1] < axis.points()[0]:
            raise ValueError(
                f"the coordinates along {axis.name} fall from {axis.points()[0]:g} to {axis.points()[-1]:g}: reverse the axis of the maps "
                "and give a `step` above 0 (while converting: `through: {adapter: range_doppler, function: oriented}`, as in raddet.yaml)"
            )
    names = (axes[0].name, axes[1].name)
    angle = names.index("azimuth") if set(names) == {"range", "azimuth"} else None
    radians = 1.0
    if angle is not None:
        unit, largest = axes[angle].unit, float(np.abs(axes[angle].points()).max())
        if unit not in RADIANS:
            raise ValueError(
                f"azimuth is in {unit!r}, expected deg or rad: correct `unit` of its `steps` in the data spec"
            )
        radians = RADIANS[unit]
        if radians * largest > 2 * np.pi + 1e-3:
            raise ValueError(
                f"azimuth reaches {largest:g} {unit}, more than a turn: correct its `steps` in the data spec"
            )
    first, second = (torch.from_numpy(axis.points()).float() for axis in axes)
    return Plane(names, (first, second), angle, radians, (axes[0].unit, axes[1].unit))
