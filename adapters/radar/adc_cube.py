"""ADC cubes of an FMCW radar, which become range-Doppler or range-azimuth maps on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Detector, Front
from maekit.adapters.radar.clutter import Clutter, remove_clutter
from maekit.adapters.radar.drawing import draw_maps, drawn_at
from maekit.adapters.radar.fmcw import FMCW, SPEED_OF_LIGHT
from maekit.adapters.radar.map_detectors import map_detector, settings_of
from maekit.adapters.radar.plane import map_plane
from maekit.adapters.radar.range_azimuth_map import Beamformer, range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.radar.spectra import Window, scaled_window
from maekit.adapters.simulate.cube_scene import simulate_cubes
from maekit.core.patchify import GridPatchifier
from maekit.data.sample import Axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo
    from maekit.metrics.plane import Plane

Array = NDArray[Any]
Valid = NDArray[np.bool_]
View = Literal["range_doppler", "range_azimuth"]
CUBE = ("receiver", "chirp", "sample")


class CubeFront(Front):
    """Computes maps in decibels from ADC samples, batched: clutter removal, windows, transforms, power.

    Args:
        patchifier: of (channel, *map axes).
        view: kind of the map.
        cube_axes: number of axes of a cube: 2 (chirp, sample) or 3 (receiver, chirp, sample).
        clutter: method of clutter removal.
        window: over range, and over Doppler.
        sines: of the azimuths of range-azimuth maps.
        options: further options of `range_azimuth_map`.
        floor_db: lower limit of the levels.
    """

    sines: Tensor

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        view: View,
        cube_axes: int,
        clutter: Clutter,
        window: Window,
        sines: Float[Tensor, " azimuth"],
        options: dict[str, Any],
        floor_db: float,
    ) -> None:
        super().__init__(patchifier)
        self.view, self.cube_axes, self.clutter, self.window = view, cube_axes, clutter, window
        self.options, self.floor_db = options, floor_db
        self.register_buffer("sines", sines, persistent=False)

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, *axes of the cube) -> (batch, channel, *map axes) in dB.

        Every bin of a map depends on every sample of its cube, so a map is valid where all of them are.
        """
        if valid is not None:
            signal = torch.where(valid[:, None], signal, torch.zeros((), dtype=signal.dtype, device=signal.device))
        # Not in float16 or bfloat16, whatever the model runs in: decibels need the range.
        with torch.autocast(signal.device.type, enabled=False):
            if self.view == "range_azimuth":
                adc = remove_clutter(signal, self.clutter)
                maps = range_azimuth_map(adc, sines=self.sines, window=self.window, **self.options)
            else:
                averaged = self.cube_axes == 3
                maps = range_doppler_map(signal, window=self.window, average_receivers=averaged, clutter=self.clutter)
            maps = maps.clamp_(min=self.floor_db)
        if valid is None:
            return maps, None
        whole = valid.flatten(-self.cube_axes).all(-1)
        return maps, whole[..., None, None].expand(maps.shape[0], *maps.shape[2:])


class AdcCubeAdapter(Adapter):
    """Maps of complex cubes with the axes (receiver, chirp, sample) or (chirp, sample), and `frame` before them for clips.

    Args:
        info: of the source.
        view: `range_doppler` (mean power of the receivers) or `range_azimuth` (of a line of receivers).
        patch: extent of a patch in bins: (range, doppler or azimuth), with frames before them for clips.
        clutter: `none`, `mean`, `two_pulse` or `three_pulse`; see `clutter.remove_clutter`.
        window: over fast time, and over slow time for Doppler: `hann`, `hamming`, `blackman`, `none`.
        floor_db: lower limit of the levels.
        method: of range-azimuth maps: `fft` or `capon`; see `range_azimuth_map.range_azimuth_map`.
        taper: over the receivers, of `fft`.
        loading: of `capon`.
        spacing: of the receivers, in wavelengths; negative where they are numbered from right to left.
        azimuth_bins: number of azimuth bins, even in degrees.
        azimuth_deg: outer edges of the first and the last azimuth bin, positive to the right.
        carrier_hz: frequency at the start of a chirp; with the next two options Doppler has the unit m/s, otherwise bins.
        chirp_interval_s: between the starts of two chirps; default the step of the axis `chirp` if the data spec gives it in s.
        bandwidth_hz: swept while samples are taken (slope times samples over sampling rate); with it range has the unit m.

    Raises:
        ValueError: options that do not fit each other or the source's axes.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        view: View = "range_doppler",
        patch: tuple[int, ...] = (8, 8),
        clutter: Clutter = "none",
        window: Window = "hann",
        floor_db: float = -200.0,
        method: Beamformer = "fft",
        taper: Window = "hamming",
        loading: float = 1e-2,
        spacing: float = 0.5,
        azimuth_bins: int = 64,
        azimuth_deg: tuple[float, float] = (-60.0, 60.0),
        carrier_hz: float | None = None,
        chirp_interval_s: float | None = None,
        bandwidth_hz: float | None = None,
    ) -> None:
        names = tuple(axis.name for axis in info.axes)
        clip = names[:1] == ("frame",)
        cube = names[1:] if clip else names
        _check_choices(view, clutter, method)
        _check_cube(info, cube, view)
        low, high = azimuth_deg
        if azimuth_bins < 1 or not -90 <= low < high <= 90:
            raise ValueError(f"azimuth_deg {tuple(azimuth_deg)} goes up from -90 to 90 at most, in azimuth_bins >= 1")
        if spacing == 0 or not loading > 0:
            raise ValueError("spacing is not zero and loading is above it")
        chirps, samples = info.axes[-2:]
        for name, length in ((window, samples.length), (window, chirps.length if view == "range_doppler" else 8)):
            scaled_window(name, length)  # errors are raised here, at the line of the recipe
        if cube == CUBE:
            scaled_window(taper, info.axes[-3].length if view == "range_azimuth" else 8)
        if clutter != "none" and chirps.length < 3:
            raise ValueError(f"clutter {clutter!r} needs three chirps or more, there are {chirps.length}")
        if chirp_interval_s is None and chirps.unit == "s":
            chirp_interval_s = chirps.step
        range_axis, across = _axes(samples.length, chirps.length, carrier_hz, bandwidth_hz, chirp_interval_s)
        if view == "range_azimuth":
            step = (high - low) / azimuth_bins
            across = Axis("azimuth", azimuth_bins, "deg", step, low + step / 2)
        self.map_axes = (*info.axes[: int(clip)], range_axis, across)
        shape = (len(info.channels), *(axis.length for axis in self.map_axes))
        rates = [1 / abs(axis.step) if axis.step else None for axis in self.map_axes]
        patchifier = GridPatchifier(shape, tuple(patch), tuple(axis.name for axis in self.map_axes), rates)
        azimuth = np.radians(across.start + (across.step or 0.0) * np.arange(across.length))
        super().__init__(info, patchifier)
        self.view, self.cube_axes, self.clutter, self.window, self.floor_db = view, len(cube), clutter, window, floor_db
        self.sines = np.sin(azimuth).astype(np.float32)
        self.options = {"method": method, "taper": taper, "loading": loading, "spacing": spacing}
        self.unit = f"dB re 1 {info.unit}" if info.unit else "dB"

    def make_front(self) -> CubeFront:
        """Maps in decibels."""
        return CubeFront(
            self.patchifier,
            view=self.view,
            cube_axes=self.cube_axes,
            clutter=self.clutter,
            window=self.window,
            floor_db=self.floor_db,
            sines=torch.from_numpy(self.sines.copy()),
            options=self.options,
        )

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, *axes of the cube) as read, complex64; missing samples are zero."""
        signal = np.nan_to_num(sample.signal, nan=0.0, posinf=0.0, neginf=0.0)
        return np.ascontiguousarray(signal, dtype=np.complex64), sample.valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw range upward, Doppler or azimuth to the right; see `draw_maps`."""
        draw_maps(axes, x, self.map_axes, unit=self.unit, channels=self.info.channels, title=title)

    def drawn_at(self, where: Array) -> Array:
        """Position in the figure; see `maekit.adapters.radar.drawing`."""
        return drawn_at(self.map_axes, where)

    def plane(self) -> Plane | None:
        """Plane of the maps, if the radar's parameters are given; see `maekit.adapters.radar.plane`."""
        return map_plane(self.map_axes)

    def detectors(self) -> Mapping[str, Detector]:
        """CFAR and clusters on the maps."""
        plane = self.plane()
        settings = settings_of(plane)
        return (
            {}
            if plane is None or settings is None
            else {"CFAR, clusters": map_detector(self.power_db, plane, settings)}
        )

    @torch.no_grad()
    def power_db(self, sample: Sample) -> Float[np.ndarray, "first second"]:
        """Map of a cube in decibels, mean power of its channels; of a clip the last map."""
        adc, valid = self.prepare(sample)
        measured = None if valid is None else torch.from_numpy(valid)[None]
        maps, _ = self.make_front().transform(torch.from_numpy(adc)[None], measured)
        power = 10 ** (maps[0].double().numpy() / 10)
        return np.asarray(10 * np.log10(power.reshape(len(power), -1, *power.shape[-2:])[:, -1].mean(0)))

    simulate = staticmethod(simulate_cubes)


def _check_choices(view: str, clutter: str, method: str) -> None:
    for option, value, choices in (("view", view, View), ("clutter", clutter, Clutter), ("method", method, Beamformer)):
        if value not in get_args(choices):
            raise ValueError(f"{option} {value!r}, expected one of {', '.join(get_args(choices))}")


def _check_cube(info: SignalInfo, cube: tuple[str, ...], view: View) -> None:
    names = tuple(axis.name for axis in info.axes)
    if cube not in (CUBE, CUBE[1:]):
        raise ValueError(
            f"a cube has the axes (receiver, chirp, sample) or (chirp, sample), the data spec gives {names}; `rearrange` in a "
            "stream of `convert` puts axes in this order (`sample chirp receiver -> receiver chirp sample`) and joins others with "
            "receiver"
        )
    if not info.complex:
        raise ValueError("an ADC cube is complex, but the data spec gives real values (`signal.complex`: keep, pairs)")
    if view == "range_azimuth" and (cube != CUBE or info.axes[-3].length < 2):
        raise ValueError(f"range_azimuth needs an axis receiver of two or more, the data spec gives {names}")


def _axes(
    samples: int, chirps: int, carrier_hz: float | None, bandwidth_hz: float | None, chirp_interval_s: float | None
) -> tuple[Axis, Axis]:
    """Range and Doppler axes, in m and m/s where the radar's parameters are known, otherwise in bins.

    Raises:
        ValueError: a parameter that is not positive.
    """
    for name, value in {
        "carrier_hz": carrier_hz,
        "bandwidth_hz": bandwidth_hz,
        "chirp_interval_s": chirp_interval_s,
    }.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} {value!r} must be positive")
    metres = (
        Axis("range", samples)
        if bandwidth_hz is None
        else Axis("range", samples, "m", SPEED_OF_LIGHT / (2 * bandwidth_hz))
    )
    if carrier_hz is None or bandwidth_hz is None or chirp_interval_s is None:
        return metres, Axis("doppler", chirps)
    radar = FMCW(
        carrier_hz=carrier_hz,
        bandwidth_hz=bandwidth_hz,
        samples=samples,
        chirps=chirps,
        chirp_interval_s=chirp_interval_s,
    )
    step = radar.velocity_resolution_mps
    return metres, Axis("doppler", chirps, "m/s", step, -(chirps // 2) * step)
