"""Radar maps: range-Doppler, range-azimuth, or clips of them over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Detector, Front, Transformation
from maekit.adapters.radar.axes import twice_zero
from maekit.adapters.radar.drawing import draw_maps, drawn_at
from maekit.adapters.radar.map_amplitude import TOP_LEVEL, MapAmplitude, Scale
from maekit.adapters.radar.map_detectors import map_detector, occupancy_detector, settings_of
from maekit.adapters.radar.plane import map_plane
from maekit.adapters.radar.public_sets import TRANSFORMATIONS
from maekit.adapters.simulate.fmcw_scene import simulate_scenes
from maekit.core.patchify import GridPatchifier
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo
    from maekit.metrics.plane import Plane

Array = NDArray[Any]
Valid = NDArray[np.bool_]
LINEAR = ("complex", "magnitude", "power")


class MapFront(Front):
    """Converts stored values to decibels, or to levels, with a lower limit."""

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        scale: Scale,
        floor_db: float | None,
        level_range_db: tuple[float, float] | None,
    ) -> None:
        super().__init__(patchifier)
        self.scale, self.floor_db, self.level_range_db = scale, floor_db, level_range_db

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """Decibels (or levels); see `RangeDopplerAdapter` for the scales."""
        if self.scale in ("complex", "magnitude"):
            signal = 20 * torch.log10(signal.abs())
        elif self.scale == "power":
            signal = 10 * torch.log10(signal)
        elif self.scale == "log10":
            signal = 20 * signal
        elif self.scale == "level" and self.level_range_db is not None:
            low, high = self.level_range_db
            signal = low + signal * ((high - low) / TOP_LEVEL)
        return signal if self.floor_db is None else signal.clamp(min=self.floor_db), valid


class RangeDopplerAdapter(Adapter):
    """Maps over named axes: (range, doppler), (range, azimuth), or a clip with `time` or `frame` first.

    `scale` states what the stored numbers are. They are converted to decibels re 1 of the stored unit by

    - `complex`, `magnitude`: 20 log10 of the magnitude; `power`: 10 log10;
    - `db`: as they are; `log10` (of a magnitude): times 20;
    - `level` (0 to 255 of a picture): linearly over `level_range_db`; without it they stay levels, because a picture does not
      contain the decibels of its colours.

    Maps are not cropped: a patch that does not divide its axis is refused.

    Args:
        info: of the source.
        patch: extent of a patch along each axis, in bins.
        scale: of the stored numbers, see above.
        floor_db: lower limit of the levels; required for linear scales, where zero has no decibels.
        level_range_db: decibels of the levels 0 and 255.
        notch_bins: Doppler bins to either side of zero, with static clutter, that are set to the map's median.

    Raises:
        ValueError: options that do not fit each other or the source's axes.
    """

    transformations: Mapping[str, Transformation] = TRANSFORMATIONS  # type: ignore[misc]

    def __init__(
        self,
        info: SignalInfo,
        *,
        patch: tuple[int, ...] = (8, 8),
        scale: Scale = "db",
        floor_db: float | None = None,
        level_range_db: tuple[float, float] | None = None,
        notch_bins: int | None = None,
    ) -> None:
        names = tuple(axis.name for axis in info.axes)
        if scale not in get_args(Scale):
            raise ValueError(f"scale {scale!r}, expected one of {', '.join(get_args(Scale))}")
        if (scale == "complex") != info.complex:
            raise ValueError(f"scale {scale!r}, but the data spec gives {'complex' if info.complex else 'real'} maps")
        if len(names) not in (2, 3):
            raise ValueError(f"a map has two axes and a clip of maps three, but the data spec gives {names}")
        if scale in LINEAR and floor_db is None:
            raise ValueError(f"scale {scale!r} needs a floor_db, because zero has no decibels")
        if level_range_db is not None and (scale != "level" or level_range_db[0] >= level_range_db[1]):
            raise ValueError("level_range_db goes with scale 'level' and is (decibels of level 0, larger ones of 255)")
        self.in_levels = scale == "level" and level_range_db is None
        if self.in_levels and floor_db is not None:
            raise ValueError(
                "floor_db is in decibels, which levels of a picture have not: give level_range_db, or leave it out"
            )
        if notch_bins is not None and notch_bins < 0:
            raise ValueError("notch_bins is not below zero")
        rates = [1 / abs(axis.step) if axis.step else None for axis in info.axes]
        patchifier = GridPatchifier(info.shape, tuple(patch), names, rates)
        super().__init__(info, patchifier)
        self.floor_db = floor_db
        self.scale, self.level_range_db, self.notch_bins = scale, level_range_db, notch_bins
        self.amplitude = None if self.in_levels else MapAmplitude(scale, level_range_db)
        if notch_bins is not None:
            if "doppler" not in names:
                raise ValueError(f"notch_bins needs an axis called doppler; there are {names}")
            self.doppler = names.index("doppler")
            self.twice_zero = twice_zero(info.axes[self.doppler])
        self.unit = "level" if self.in_levels else _decibels(info.unit, scale)

    def make_front(self) -> MapFront:
        """Decibels, or levels of a picture."""
        return MapFront(self.patchifier, scale=self.scale, floor_db=self.floor_db, level_range_db=self.level_range_db)

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, *axes) as stored, with the Doppler notch.

        Raises:
            UserError: values outside of the stated scale.
        """
        x = np.array(sample.signal, dtype=np.complex64 if self.info.complex else np.float32)
        measured = x if sample.valid is None else x[:, sample.valid]
        if self.scale in ("magnitude", "power", "level") and measured.size:
            low, high = float(measured.min()), float(measured.max())
            if low < 0 or (self.scale == "level" and high > TOP_LEVEL):
                raise UserError(
                    f"values that are no {self.scale}",
                    location=sample.location,
                    value=(low, high),
                    expected="0 to 255" if self.scale == "level" else "none below zero",
                    hint="Set the adapter's `scale` to what is stored; 'db' and 'log10' may be negative.",
                )
        if self.notch_bins is not None:
            bins = np.arange(x.shape[self.doppler + 1])
            static = np.abs(2 * bins - self.twice_zero) <= 2 * self.notch_bins + 1
            lines = np.moveaxis(x, self.doppler + 1, -1)
            for channel, line in enumerate(lines):
                values = np.abs(measured[channel]) if self.info.complex else measured[channel]
                if values.size:
                    line[..., static] = np.median(values)
        return x, sample.valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw range upward, Doppler or azimuth to the right; see `draw_maps`."""
        draw_maps(axes, x, self.info.axes, unit=self.unit, channels=self.info.channels, title=title)

    def drawn_at(self, where: Array) -> Array:
        """Position in the figure; see `maekit.adapters.radar.drawing`."""
        return drawn_at(self.info.axes, where)

    def plane(self) -> Plane | None:
        """Plane of the last two axes, if they have steps; see `maekit.adapters.radar.plane`."""
        return map_plane(self.info.axes)

    def detectors(self) -> Mapping[str, Detector]:
        """CFAR and clusters on powers, clusters of occupied cells on levels over range and azimuth; none without steps of the axes."""
        plane = self.plane()
        if plane is None or (self.in_levels and plane.angle is None):
            return {}
        if self.in_levels:
            return {"cells above 0, clusters": occupancy_detector(self.levels, plane)}
        settings = settings_of(plane)
        if settings is None:
            return {}
        return {"CFAR, clusters": map_detector(self.power_db, plane, settings)}

    def power_db(self, sample: Sample) -> Float[np.ndarray, "first second"]:
        """Map of a sample in decibels, mean power of its channels; missing cells have the median.

        Of a clip the last map is used, to which the labels belong.
        """
        signal, valid = self.prepare(sample)
        power = MapAmplitude(self.scale, self.level_range_db).powers(signal)
        chart, there = self._last(power, valid)
        chart = np.where(there, chart, np.median(chart[there]) if there.any() else 1.0)
        return 10 * np.log10(np.maximum(chart, 1e-30))

    def levels(self, sample: Sample) -> Float[np.ndarray, "first second"]:
        """Map of a sample in levels, 0 in missing cells; clips and channels as in `power_db`."""
        chart, there = self._last(*self.prepare(sample))
        return np.where(there, chart, 0.0)

    def _last(self, x: Array, valid: Valid | None) -> tuple[Array, Valid]:
        chart = x.reshape(len(x), -1, *x.shape[-2:])[:, -1].mean(0)
        there = np.ones(chart.shape, dtype=bool) if valid is None else valid.reshape(-1, *valid.shape[-2:])[-1]
        return chart, there

    simulate = staticmethod(simulate_scenes)


def _decibels(stored_unit: str, scale: Scale) -> str:
    if scale in LINEAR and stored_unit:
        return f"dB re 1 {stored_unit}"
    return stored_unit if stored_unit.startswith("dB") else "dB"
