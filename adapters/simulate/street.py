"""Simulated streets with an FMCW radar and a camera at the same position: maps, pictures, depth and objects.

Radar echoes and pictures come from the same scene (`street_world`, `street_traffic`): static echoes come from the walls, poles,
trees and ground of the picture, and limbs swing with the same phase in both. Simplifications: the radar scene is
two-dimensional, there is no multipath, and the antenna gain is the same in all directions.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from maekit.adapters.radar.clutter import Clutter, remove_clutter
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.range_azimuth_map import range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.simulate.road_users import CLASSES
from maekit.adapters.simulate.street_camera import FARTHEST_M, SURFACES, Camera, CameraView, look, semantic_depth
from maekit.adapters.simulate.street_rendering import render
from maekit.adapters.simulate.street_traffic import BEHIND_DB, WIDEST_DEG, Seen, Traveller, in_view, traffic
from maekit.adapters.simulate.street_world import Street, hidden
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.errors import UserError
from maekit.files import write_text

Array = NDArray[Any]

ARRAY_RADAR = FMCW(
    bandwidth_hz=570e6, samples=128, sample_rate_hz=4e6, chirps=64, chirp_interval_s=65e-6, gain_db=11.0, power_w=0.016
)
"""Maps of 128 range bins of 0.263 m to 33.7 m, and of 64 Doppler bins of 0.47 m/s to 14.9 m/s either way."""

COLUMNS = (
    "range",
    "azimuth",
    "doppler",
    "class",
    "length",
    "track",
    "range_extent",
    "azimuth_extent",
    "doppler_extent",
)
MARGIN_M = 1.0
"""Distance from the end of the radar's range within which objects are not listed."""
WIND_MPS = 0.15
SPACING = 0.5
FINER = 4
GRAIN = 2.0
"""Standard deviation of the camera's noise, of 255."""
BLOCK = 8
QUANTISATION_DB = 1 / 64
"""Quantisation of stored maps, far below their noise, which lets them compress."""


def simulate_street(
    folder: Path,
    *,
    drives: int = 12,
    frames: int = 100,
    users: int = 5,
    frame_interval_s: float = 0.1,
    image: tuple[int, int] | None = (64, 128),
    clutter: Clutter = "none",
    receivers: int = 8,
    azimuth_bins: int = 64,
    seed: int = 0,
    radar: FMCW = ARRAY_RADAR,
) -> Path:
    """Write `street.h5` and the data specs `simulated_street.yaml` and `simulated_street_doppler.yaml`.

    There is one HDF5 group per drive, with its own street, light and traffic around the static radar and camera. The attribute
    `sequence` is the group of splits. Datasets:

    - `range_azimuth` (frame, range, azimuth): power in dB re 1 W, azimuth even in its sine from -60 to 60 degrees,
      positive to the right;
    - `range_doppler` (frame, range, doppler): power in dB re 1 W, mean of the receivers, zero in bin chirps // 2,
      receding above it; clutter is never removed from these;
    - `image` (frame, height, width, channel): RGB of a pinhole camera with a horizontal field of view of 120 degrees along the boresight;
    - `depth` (channel, height, width): of the street without road users: depth in m along the optical axis (100 in the sky),
      then 0 or 1 for each kind of surface;
    - `objects` (frame, object, column): road users in view, NaN in unused rows; the attribute `columns` has the names:
      position of the body's centre, radial speed, class, length, number of the track, and along each axis twice the distance from
      the centre to the farthest scatterer, at least one bin.

    A road user is in view at ranges from 2 m to 1 m before the end of the range, within 60 degrees of azimuth, unless a building
    hides its centre. An object behind a car stays in view: its echo is 10 dB weaker, and the picture shows the part above the car.
    A radial speed beyond the unambiguous one is listed as it is in `objects` and is aliased in the map.

    Echoes follow the radar equation, with the cross section of a class divided among its scatterers. Cross sections of road users
    are exponentially distributed and independent between frames (Swerling 2), those of the street are drawn once per drive, and
    crowns of trees sway. The anti-aliasing filter is ideal: nothing is received from beyond the range.

    Args:
        folder: created if missing.
        drives: number of recordings.
        frames: per drive.
        users: largest number of road users in view at a time; rarely there is none.
        frame_interval_s: between frames.
        image: height and width in pixels; none for no camera, without `image` and `depth`.
        clutter: method of clutter removal of the range-azimuth maps, see `maekit.adapters.radar.clutter.remove_clutter`.
        receivers: number of receivers in a line, half a wavelength apart.
        azimuth_bins: of the range-azimuth maps.
        seed: of all random properties, together with the number of the drive.
        radar: chirp sequence and link budget; on the command line, all that differs from the defaults of `FMCW`.

    Returns:
        Path of the data spec of the range-azimuth maps.

    Raises:
        UserError: nothing to simulate, or options out of their range.
    """
    _check(drives, frames, users, frame_interval_s, image, clutter, receivers, azimuth_bins, radar)
    camera = None if image is None else Camera(*image)
    sines = azimuth_sines(azimuth_bins)
    with replacing_hdf5(folder / "street.h5") as file:
        for drive in range(drives):
            record = file.create_group(f"drive_{drive:03d}")
            record.attrs.update(
                {
                    "sequence": f"drive{drive:03d}",
                    "frame_rate_hz": 1 / frame_interval_s,
                    "receivers": receivers,
                    "spacing": SPACING,
                    **asdict(radar),
                }
            )
            rng = np.random.default_rng((seed, drive))
            _record(record, rng, radar, camera, np.arange(frames) * frame_interval_s, users, sines, receivers, clutter)
    spec = folder / "simulated_street.yaml"
    write_text(spec, _spec(radar, sines, camera))
    write_text(folder / "simulated_street_doppler.yaml", _doppler_spec(radar, camera))
    return spec


def azimuth_sines(bins: int) -> NDArray[np.float64]:
    """Sines of the azimuths of the bins, from -60 to 60 degrees."""
    return np.linspace(-1, 1, bins) * np.sin(np.deg2rad(WIDEST_DEG))


def _record(
    record: h5py.Group,
    rng: np.random.Generator,
    radar: FMCW,
    camera: Camera | None,
    times_s: Array,
    users: int,
    sines: Array,
    receivers: int,
    clutter: Clutter,
) -> None:
    """Simulate and write one drive."""
    frames, farthest = len(times_s), radar.max_range_m - MARGIN_M
    street = Street(rng)
    present = traffic(street, times_s, users, farthest, rng)
    echo = Echo(street, present, radar, receivers, rng)
    objects = np.full((frames, users, len(COLUMNS)), np.nan, dtype=np.float32)
    cubes = np.empty((min(BLOCK, frames), receivers, radar.chirps, radar.samples), dtype=np.complex64)

    def dataset(name: str, shape: tuple[int, ...], kind: type) -> h5py.Dataset:
        return record.create_dataset(name, (frames, *shape), kind)

    azimuth_maps = dataset("range_azimuth", (radar.samples, len(sines)), np.float32)
    doppler_maps = dataset("range_doppler", (radar.samples, radar.chirps), np.float32)
    for start in range(0, frames, BLOCK):
        block = times_s[start : start + BLOCK]
        for location, time in enumerate(block):
            cubes[location] = echo.cube(float(time), rng)
        adc = torch.from_numpy(cubes[: len(block)])
        still = remove_clutter(adc, clutter)
        beams = range_azimuth_map(still, sines=torch.from_numpy(sines).float(), spacing=SPACING)
        azimuth_maps[start : start + BLOCK] = _quantised(beams)
        doppler_maps[start : start + BLOCK] = _quantised(range_doppler_map(adc, average_receivers=True))
    for frame, time in enumerate(times_s):
        rows = [row for track, user in enumerate(present) if (row := _object(user, track, time, street, radar, sines))]
        objects[frame, : len(rows)] = rows or np.empty((0, len(COLUMNS)))
    record.create_dataset("objects", data=objects).attrs["columns"] = COLUMNS
    if camera is not None:
        record.attrs["field_of_view_deg"] = camera.field_deg
        record.attrs["camera_above_ground_m"] = camera.above_ground_m
        record.create_dataset("depth", data=semantic_depth(look(street, camera)))
        pictures = dataset("image", (camera.height, camera.width, 3), np.uint8)
        fine = look(street, camera.finer(FINER))
        for frame, time in enumerate(times_s):
            pictures[frame] = picture(fine, camera, street, present, time, rng)


def picture(
    fine: CameraView, camera: Camera, street: Street, users: list[Traveller], time_s: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Picture of the camera, (height, width, 3): rendered at four times the resolution, averaged, with noise."""
    drawn = np.asarray(render(fine, camera.finer(FINER), street.light, users, time_s).reduce(FINER), dtype=np.float32)
    return np.clip(drawn + GRAIN * rng.standard_normal(drawn.shape, dtype=np.float32), 0, 255).astype(np.uint8)


class Echo:
    """Radar echoes of a street and its road users at a line of receivers.

    Args:
        street: its static clutter is drawn once, in the constructor.
        users: road users of the drive.
        radar: chirp sequence and link budget.
        receivers: number of receivers, half a wavelength apart.
        rng: source of the clutter.
    """

    def __init__(
        self, street: Street, users: list[Traveller], radar: FMCW, receivers: int, rng: np.random.Generator
    ) -> None:
        self.street, self.users, self.radar, self.receivers = street, users, radar, receivers
        self.chirps_s = (np.arange(radar.chirps) - (radar.chirps - 1) / 2) * radar.chirp_interval_s
        found = street.clutter(rng, radar.max_range_m - MARGIN_M / 2)
        still, moved = found.places[~found.sways], found.places[found.sways]
        at = np.hypot(*still.T)
        # Static echoes are the same in all chirps: one is computed.
        self.still = replace(radar, chirps=1).array_signal(
            at[:, None], still[:, 0] / at, found.rcs_m2[~found.sways], receivers=receivers, spacing=SPACING
        )
        self.leaves_m = np.hypot(*moved.T)
        self.leaves_sine, self.leaves_m2 = moved[:, 0] / self.leaves_m, found.rcs_m2[found.sways]

    def cube(self, time_s: float, rng: np.random.Generator) -> NDArray[np.complex64]:
        """Echoes and thermal noise of one frame: (receiver, chirp, sample) in volts across one ohm."""
        shape = (self.receivers, self.radar.chirps, self.radar.samples)
        noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        noise *= np.float32(np.sqrt(self.radar.noise_w / 2))
        noise += self.still
        leaf = rng.normal(0, WIND_MPS, (2, len(self.leaves_m), 1))
        ranges = [self.leaves_m[:, None] + 0.1 * leaf[0] + leaf[1] * self.chirps_s]
        sines, cross_sections = [self.leaves_sine], [self.leaves_m2]
        outlines = [(user, user.footprint(time_s)) for user in self.users if user.name == "car"]
        for user in self.users:
            seen = user.seen(time_s)
            rcs = self._lit(user, seen, time_s, outlines) * rng.exponential(1.0, len(seen.range_m))
            if rcs.any():
                lit = rcs > 0
                ranges.append(seen.range_m[lit, None] + seen.velocity_mps[lit, None] * self.chirps_s)
                sines.append(seen.sine[lit])
                cross_sections.append(rcs[lit])
        noise += self.radar.array_signal(
            np.concatenate(ranges),
            np.concatenate(sines),
            np.concatenate(cross_sections),
            receivers=self.receivers,
            spacing=SPACING,
        )
        return noise

    def _lit(self, user: Traveller, seen: Seen, time_s: float, outlines: list[tuple[Traveller, Array]]) -> Array:
        """(scatterer,) mean cross sections in m2 after occlusion; zero for scatterers that are not received."""
        received = (
            (seen.range_m < self.radar.max_range_m - MARGIN_M / 2) & (seen.range_m > 0.5) & (seen.places[:, 1] > 0)
        )
        if not received.any():
            return np.zeros(len(received))
        rcs = user.kind.rcs_m2 / user.kind.points * user.shown(time_s, seen)
        for other, corners in outlines:
            if other is not user:
                sides = np.stack([corners, np.roll(corners, -1, axis=0)], 1)
                rcs = rcs * np.where(hidden(seen.places, sides), 10 ** (BEHIND_DB / 10), 1.0)
        return rcs * (received & ~hidden(seen.places, self.street.walls))


def _object(
    user: Traveller, track: int, time_s: float, street: Street, radar: FMCW, sines: Array
) -> tuple[float, ...] | None:
    """A row of `objects`; None if the road user is not in view."""
    centre = user.centre(np.array([time_s]))[:, 0]
    if not in_view(centre, street, radar.max_range_m - MARGIN_M):
        return None
    distance = float(np.hypot(*centre))
    sine = float(centre[0] / distance)
    velocity = float(user.speed_mps * user.direction(np.array([time_s]))[:, 0] @ centre / distance)
    seen = user.seen(time_s)
    azimuth = np.degrees(np.arcsin(sine))
    bin_deg = np.degrees((sines[1] - sines[0]) / np.sqrt(1 - sine**2))
    extents = (
        max(radar.range_resolution_m, 2 * float(np.abs(seen.range_m - distance).max())),
        max(bin_deg, 2 * float(np.abs(np.degrees(np.arctan2(*seen.places.T)) - azimuth).max())),
        max(radar.velocity_resolution_mps, 2 * float(np.abs(seen.velocity_mps - velocity).max())),
    )
    return (distance, azimuth, velocity, user.label, user.length_m, track, *extents)


def _quantised(maps: torch.Tensor) -> Array:
    return (torch.round(maps / QUANTISATION_DB) * QUANTISATION_DB).numpy()


def _check(
    drives: int,
    frames: int,
    users: int,
    frame_interval_s: float,
    image: tuple[int, int] | None,
    clutter: str,
    receivers: int,
    azimuth_bins: int,
    radar: FMCW,
) -> None:
    if min(drives, frames, users) < 1:
        raise UserError(
            "nothing to simulate",
            value={"drives": drives, "frames": frames, "users": users},
            expected="at least one of each",
        )
    if not 0 < frame_interval_s < np.inf:
        raise UserError("no time from frame to frame", value=frame_interval_s, expected="`frame_interval_s` in seconds")
    if image is not None and min(image) < 8:
        raise UserError("a picture too small to show a street", value=image, expected="`image` of 8 x 8 pixels or more")
    if clutter not in get_args(Clutter):
        raise UserError(
            "no such way to take out clutter", value=clutter, expected=f"one of {', '.join(get_args(Clutter))}"
        )
    if receivers < 2 or azimuth_bins < 2:
        raise UserError(
            "no azimuth to map",
            value={"receivers": receivers, "azimuth_bins": azimuth_bins},
            expected="at least two of each",
        )
    if not 10 <= radar.max_range_m <= FARTHEST_M / 2:
        raise UserError(
            "a radar that does not fit the street",
            value=f"{radar.max_range_m:.3g} m of range",
            expected="10 to 50 m",
            hint="Change `bandwidth_hz` or `samples` of `radar`.",
        )


def _spec(radar: FMCW, sines: Array, camera: Camera | None) -> str:
    return _head(
        "simulated_street",
        radar,
        "range_azimuth",
        "azimuth",
        camera,
        f"""\
    azimuth: {{step: {sines[1] - sines[0]:.6g}, unit: deg, start: {sines[0]:.6g}, spacing: sine}}
""",
    )


def _doppler_spec(radar: FMCW, camera: Camera | None) -> str:
    velocity = radar.velocity_resolution_mps
    return _head(
        "simulated_street_doppler",
        radar,
        "range_doppler",
        "doppler",
        camera,
        f"""\
    doppler: {{step: {velocity:.6g}, unit: m/s, start: {-(radar.chirps // 2) * velocity:.6g}}}
""",
    )


def _head(name: str, radar: FMCW, path: str, axis: str, camera: Camera | None, step: str) -> str:
    auxiliary = (
        ""
        if camera is None
        else f"""\
auxiliary:
  image: {{path: image, axes: [frame, height, width, channel], channels: [red, green, blue]}}
  depth: {{path: depth, axes: [channel, height, width], channels: [depth, {", ".join(SURFACES)}], unit: m}}
"""
    )
    # A beam is wider in azimuth than most road users, so boxes over azimuth would be those of beams.
    extents = ", range_extent, doppler_extent" if axis == "doppler" else ""
    return f"""\
# Default output of the simulator; see adapters/simulate/street.py for its contents.
name: {name}
title: Simulated streets before a {radar.carrier_hz / 1e9:g} GHz FMCW radar and a camera
licence: Apache-2.0 (simulated by maekit)
files: "street.h5"
records: "/*"
signal:
  path: {path}
  axes: [frame, range, {axis}]
  channels: [power]
  unit: dB re 1 W
  steps:
    range: {{step: {radar.range_resolution_m:.6g}, unit: m}}
{step}{auxiliary}group: {{attribute: sequence}}
label: {{path: objects, objects: [range, {axis}, class, length{extents}], classes: [{", ".join(CLASSES)}]}}
window: {{axis: frame, length: 1}}
"""
