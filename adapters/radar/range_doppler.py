"""Radar maps: range-Doppler, range-azimuth, or clips of them over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Detector, Front, Transformation
from maekit.adapters.radar.detector import lit_detector, map_detector, settings_of
from maekit.adapters.radar.drawing import draw_maps, drawn_at
from maekit.adapters.radar.plane import map_plane
from maekit.adapters.radar.public_sets import TRANSFORMATIONS
from maekit.adapters.simulate.fmcw_scene import simulate_scenes
from maekit.core.patchify import GridPatchifier
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.random import Generator

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Axis, Sample, SignalInfo
    from maekit.metrics.plane import Plane

Array = NDArray[Any]
Valid = NDArray[np.bool_]
Scale = Literal["complex", "magnitude", "power", "db", "log10", "level"]
LINEAR = ("complex", "magnitude", "power")
TOP_LEVEL = 255.0


class MapFront(Front):
    """Whatever a map is stored in, to decibels (or picture levels), not below a floor."""

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
        """Decibels; see `RangeDopplerAdapter` for what becomes of each scale."""
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

    `scale` says what the stored numbers are, and is never guessed. To decibels re 1 of the stored unit they go by

    - `complex`, `magnitude`: 20 log10 of the magnitude; `power`: 10 log10;
    - `db`: as they are; `log10` (of a magnitude): times 20;
    - `level` (0 to 255 of a picture): linearly over `level_range_db`; without it they stay levels, for the decibels
      that a picture was coloured by are not in it.

    Nothing is cropped: a patch that does not divide its axis is refused. There is no flip of range and no crop and
    resize, because near and far differ in power and in what a bin covers.

    Args:
        info: of the source.
        patch: extent of a patch along each axis, in bins.
        scale: see above.
        floor_db: smaller values are lifted to this; needed for linear scales, where zero has no decibels.
        level_range_db: decibels of levels 0 and 255.
        notch_bins: Doppler bins to either side of zero that are set to the map's median: static clutter.
        gain_jitter_db: augmentation: the whole map up or down by at most this much.
        noise_re_median_db: augmentation: receiver noise is added to the echo in every bin, of this mean power
            relative to the map's median.
        mirror_doppler: augmentation: half of the maps have approaching and receding swapped; right only where the
            label does not depend on it.

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
        gain_jitter_db: float = 0.0,
        noise_re_median_db: float | None = None,
        mirror_doppler: bool = False,
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
        if self.in_levels and (floor_db is not None or gain_jitter_db or noise_re_median_db is not None):
            raise ValueError(
                "floor_db, gain_jitter_db and noise_re_median_db are in decibels, which levels of a picture have not: "
                "give level_range_db, or leave them out"
            )
        if gain_jitter_db < 0 or (notch_bins is not None and notch_bins < 0):
            raise ValueError("gain_jitter_db and notch_bins are not below zero")
        rates = [1 / abs(axis.step) if axis.step else None for axis in info.axes]
        patchifier = GridPatchifier(info.shape, tuple(patch), names, rates)
        super().__init__(info, patchifier)
        self.floor_db = floor_db
        self.scale, self.level_range_db, self.notch_bins = scale, level_range_db, notch_bins
        self.gain_jitter_db, self.noise_re_median_db = gain_jitter_db, noise_re_median_db
        self.mirror_doppler = mirror_doppler
        if notch_bins is not None or mirror_doppler:
            if "doppler" not in names:
                raise ValueError(f"notch_bins and mirror_doppler need an axis called doppler; there are {names}")
            self.doppler = names.index("doppler")
            self.twice_zero = twice_zero(info.axes[self.doppler])
            if mirror_doppler and abs(self.twice_zero - (info.axes[self.doppler].length - 1)) > 1:
                raise ValueError(
                    f"mirror_doppler needs zero Doppler in the middle of the map, it is at bin {self.twice_zero / 2:g} "
                    f"of {info.axes[self.doppler].length}"
                )
        self.unit = "level" if self.in_levels else _decibels(info.unit, scale)

    def make_front(self) -> MapFront:
        """Decibels, or levels of a picture."""
        return MapFront(self.patchifier, scale=self.scale, floor_db=self.floor_db, level_range_db=self.level_range_db)

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, *axes) as stored, static clutter notched out.

        Raises:
            UserError: values that the stated scale does not have.
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

    def augment(self, signal: Array, valid: Valid | None, rng: Generator) -> tuple[Array, Valid | None]:
        """Receiver noise, gain, and (where asked for) Doppler mirroring."""
        if self.noise_re_median_db is not None:
            signal = self._with_noise(signal, valid, rng, self.noise_re_median_db)
        if self.gain_jitter_db:
            signal = self._amplified(signal, self.gain_jitter_db * rng.uniform(-1, 1))
        if self.mirror_doppler and rng.random() < 0.5:
            # Bins wrap: of an even number, the lowest stands for both ends of the unambiguous interval.
            length = self.info.axes[self.doppler].length
            mirrored = (self.twice_zero - np.arange(length)) % length
            signal = signal.take(mirrored, axis=self.doppler + 1)
            valid = None if valid is None else valid.take(mirrored, axis=self.doppler)
        return np.ascontiguousarray(signal, dtype=np.complex64 if self.info.complex else np.float32), valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Range upward, Doppler or azimuth to the right; see `draw_maps`."""
        draw_maps(axes, x, self.info.axes, unit=self.unit, channels=self.info.channels, title=title)

    def drawn_at(self, where: Array) -> Array:
        """See `maekit.adapters.radar.drawing`."""
        return drawn_at(self.info.axes, where)

    def plane(self) -> Plane | None:
        """See `maekit.adapters.radar.plane`."""
        return map_plane(self.info.axes)

    def detectors(self) -> Mapping[str, Detector]:
        """Where the axes have steps: of powers CFAR and clusters, of levels over range and azimuth clusters of the cells above zero."""
        plane = self.plane()
        if plane is None or (self.in_levels and plane.angle is None):
            return {}
        if self.in_levels:
            return {"cells above 0, clusters": lit_detector(self.levels, plane)}
        settings = settings_of(plane)
        if settings is None:
            return {}
        return {"CFAR, clusters": map_detector(self.power_db, plane, settings)}

    def power_db(self, sample: Sample) -> Float[np.ndarray, "first second"]:
        """The map of a sample in decibels (of a clip the last, which labels are of), channels as their mean power; what was not
        measured has the median.
        """
        signal, valid = self.prepare(sample)
        power = np.abs(signal).astype(np.float64) ** 2 if self.info.complex else self._power(signal)
        chart, there = self._last(power, valid)
        chart = np.where(there, chart, np.median(chart[there]) if there.any() else 1.0)
        return 10 * np.log10(np.maximum(chart, 1e-30))

    def levels(self, sample: Sample) -> Float[np.ndarray, "first second"]:
        """The map of a sample in levels, 0 where nothing was measured; of clips and channels as `power_db`."""
        chart, there = self._last(*self.prepare(sample))
        return np.where(there, chart, 0.0)

    def _last(self, x: Array, valid: Valid | None) -> tuple[Array, Valid]:
        chart = x.reshape(len(x), -1, *x.shape[-2:])[:, -1].mean(0)
        there = np.ones(chart.shape, dtype=bool) if valid is None else valid.reshape(-1, *valid.shape[-2:])[-1]
        return chart, there

    simulate = staticmethod(simulate_scenes)

    def _with_noise(self, signal: Array, valid: Valid | None, rng: Generator, re_median_db: float) -> Array:
        """Complex white noise added to every bin's complex amplitude.

        Where only the power P is known, |sqrt(P) e^(i phi) + n|^2 has the same distribution for every phase phi,
        because n is circular, so phi = 0 will do.
        """
        amplitude = signal if self.info.complex else np.sqrt(self._power(signal))
        power = np.abs(amplitude) ** 2
        medians = [np.median(p if valid is None else p[valid]) if valid is None or valid.any() else 0.0 for p in power]
        level = np.array(medians).reshape(-1, *[1] * (signal.ndim - 1)) * 10 ** (re_median_db / 10)
        real, imaginary = rng.standard_normal((2, *signal.shape))
        noisy = amplitude + np.sqrt(level / 2) * (real + 1j * imaginary)
        return noisy if self.info.complex else self._stored(np.abs(noisy) ** 2)

    def _amplified(self, signal: Array, gain_db: float) -> Array:
        if self.scale == "db":
            return signal + gain_db
        if self.scale == "log10":
            return signal + gain_db / 20
        if self.level_range_db is not None:
            return np.clip(
                signal + gain_db * TOP_LEVEL / (self.level_range_db[1] - self.level_range_db[0]), 0, TOP_LEVEL
            )
        return signal * 10 ** (gain_db / (10 if self.scale == "power" else 20))

    def _power(self, stored: Array) -> Array:
        x = stored.astype(np.float64)
        if self.level_range_db is not None:
            low, high = self.level_range_db
            return 10 ** ((low + x * (high - low) / TOP_LEVEL) / 10)
        if self.scale == "magnitude":
            return np.square(x)
        return 10 ** (x / 10) if self.scale == "db" else 10 ** (2 * x) if self.scale == "log10" else x

    def _stored(self, power: Array) -> Array:
        if self.scale == "power":
            return power
        if self.scale == "magnitude":
            return np.sqrt(power)
        db = 10 * np.log10(np.maximum(power, 1e-300))
        if self.level_range_db is not None:
            low, high = self.level_range_db
            return np.clip((db - low) * TOP_LEVEL / (high - low), 0, TOP_LEVEL)
        return db / 20 if self.scale == "log10" else db


def twice_zero(axis: Axis) -> int:
    """Two times the bin of an axis' zero (no velocity, straight ahead), which may lie between two bins; the middle where no step is known.

    Raises:
        ValueError: zero is not on the axis.
    """
    if axis.step is None:
        return 2 * (axis.length // 2)
    twice = round(-2 * axis.start / axis.step)
    if not 0 <= twice <= 2 * (axis.length - 1):
        raise ValueError(
            f"zero {axis.name} is not on the map: {axis.length} bins of {axis.step:g} {axis.unit} from {axis.start:g}; correct "
            f"`signal.steps.{axis.name}` of the data spec"
        )
    return twice


def _decibels(stored_unit: str, scale: Scale) -> str:
    if scale in LINEAR and stored_unit:
        return f"dB re 1 {stored_unit}"
    return stored_unit if stored_unit.startswith("dB") else "dB"
