"""Simulated range-Doppler maps of pedestrians, cyclists and cars in front of an FMCW radar."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.simulate.road_users import CLASSES, KINDS, Body, Kind
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.errors import UserError
from maekit.files import write_text

Array = NDArray[Any]

BOX_COLUMNS = ("range_m", "velocity_mps", "class")

STREET_RADAR = FMCW(
    bandwidth_hz=300e6, samples=128, sample_rate_hz=4e6, chirps=64, chirp_interval_s=60e-6, gain_db=16.0, power_w=0.016
)
"""Maps of 128 range bins of 0.5 m and 64 Doppler bins of 0.5 m/s, to 64 m and to 16 m/s either way."""

NEAREST_M = 3.0
WIDEST_RAD = np.pi / 3
CLUTTER_POINTS = 12


class RoadUser:
    """A road user on a straight line that stays in the radar's view for the whole drive.

    The radar stands at the origin and looks along y. Time zero is the middle of the drive.

    Args:
        kind: class of the road user.
        rng: source of all random properties.
        duration_s: of the drive.
        farthest_m: largest range; the smallest is 3 m, and the azimuth stays within 60 degrees.

    Raises:
        ValueError: no such line was found in 1000 attempts.
    """

    def __init__(self, kind: Kind, rng: np.random.Generator, duration_s: float, farthest_m: float) -> None:
        self.kind = kind
        when = np.linspace(-duration_s / 2, duration_s / 2, 65)
        for _ in range(1000):
            heading = rng.uniform(0, 2 * np.pi)
            self.direction = np.array([np.cos(heading), np.sin(heading)])
            self.speed_mps = rng.uniform(*kind.speed_mps)
            self.middle = farthest_m * np.array([rng.uniform(-0.5, 0.5), rng.uniform(0, 1)])
            x, y = self._centre(when)
            distance = np.hypot(x, y)
            if (
                distance.min() > NEAREST_M
                and distance.max() < farthest_m
                and (np.arctan2(abs(x), y) < WIDEST_RAD).all()
            ):
                break
        else:
            raise ValueError(f"nobody at {kind.speed_mps} m/s stays within {farthest_m:g} m for {duration_s:g} s")
        self.body = Body(kind, rng)

    def ranges_m(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(scatterer, time) ranges in m."""
        return np.hypot(*self.places_m(time_s))

    def places_m(self, time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions in m to the right of the radar and ahead of it, (scatterer, time) each."""
        return self.body.positions(self._centre(time_s), self.direction, time_s)

    def range_and_velocity(self, time_s: float) -> tuple[float, float]:
        """Range in m and radial velocity in m/s (positive receding) of the body's centre."""
        centre = self._centre(np.array([time_s]))[:, 0]
        distance = float(np.hypot(*centre))
        return distance, float(self.speed_mps * (self.direction @ centre) / distance)

    def azimuth_deg(self, time_s: float) -> float:
        """Azimuth of the body's centre, positive to the right."""
        x, y = self._centre(np.array([time_s]))[:, 0]
        return float(np.degrees(np.arctan2(x, y)))

    def _centre(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.middle[:, None] + self.speed_mps * self.direction[:, None] * time_s


def passing(
    drive: int, users: int, seconds: float, radar: FMCW, rng: np.random.Generator
) -> tuple[list[str], list[RoadUser]]:
    """Classes and road users of a drive: the class of the first alternates over the drives, others have a random class.

    Raises:
        UserError: a road user that does not stay within the radar's range for the duration.
    """
    names = [CLASSES[drive % len(CLASSES)], *rng.choice(CLASSES, users - 1)]
    try:
        return names, [RoadUser(KINDS[name], rng, seconds, 0.9 * radar.max_range_m) for name in names]
    except ValueError as error:
        raise UserError(str(error), hint="Give fewer `frames` or a shorter `frame_interval_s`.") from error


def simulate_scenes(
    folder: Path,
    *,
    drives: int = 12,
    frames: int = 40,
    users: int = 1,
    frame_interval_s: float = 0.1,
    seed: int = 0,
    radar: FMCW = STREET_RADAR,
) -> Path:
    """Write `scenes.h5` with range-Doppler maps of moving road users, and its data spec.

    There is one HDF5 group per drive, which is also the group of splits. The class of the first road user alternates over the
    drives; others have a random class. Each drive has its own static clutter. Datasets, with one entry per frame:

    - `map` (range, doppler): power in dB re 1 W, zero Doppler in bin chirps // 2, receding above it;
    - `label`: class index of the road user with the strongest echo by the radar equation;
    - `boxes` (user, 3): range_m and velocity_mps of the body's centre, and the class.

    Args:
        folder: created if missing.
        drives: number of recordings.
        frames: maps per drive.
        users: road users per drive.
        frame_interval_s: between maps.
        seed: of all random properties, together with the number of the drive.
        radar: chirp sequence and link budget.

    Returns:
        Path of the data spec.

    Raises:
        UserError: nothing to simulate, or a drive that does not fit into the radar's range.
    """
    if min(drives, frames, users) < 1:
        raise UserError(
            "nothing to simulate",
            value={"drives": drives, "frames": frames, "users": users},
            expected="at least one of each",
        )
    with replacing_hdf5(folder / "scenes.h5") as file:
        for drive in range(drives):
            rng = np.random.default_rng((seed, drive))
            names, present = passing(drive, users, frames * frame_interval_s, radar, rng)
            times = (np.arange(frames) - (frames - 1) / 2) * frame_interval_s
            boxes = np.array(
                [
                    [
                        (*user.range_and_velocity(t), CLASSES.index(name))
                        for user, name in zip(present, names, strict=True)
                    ]
                    for t in times
                ]
            )
            cross_sections = np.array([KINDS[name].rcs_m2 for name in names])
            dominant = radar.received_w(boxes[..., 0], cross_sections).argmax(1)
            maps = range_doppler_map(torch.from_numpy(adc_cubes(radar, present, times.astype(np.float64), rng)))
            record = file.create_group(f"drive_{drive:03d}")
            record.attrs.update({"drive": f"drive{drive:03d}", "frame_interval_s": frame_interval_s, **asdict(radar)})
            record.create_dataset("map", data=maps.numpy())
            record.create_dataset("label", data=boxes[np.arange(frames), dominant, 2].astype(np.int64))
            record.create_dataset("boxes", data=boxes.astype(np.float32)).attrs["columns"] = BOX_COLUMNS
    spec = folder / "simulated_scenes.yaml"
    write_text(spec, _spec(radar))
    return spec


def adc_cubes(
    radar: FMCW, users: list[RoadUser], times_s: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.complex64]:
    """Echoes of road users, static clutter and thermal noise: (frame, chirp, sample) in volts across one ohm.

    Args:
        radar: chirp sequence and link budget.
        users: road users.
        times_s: middles of the frames.
        rng: source of clutter and noise.
    """
    chirps = (np.arange(radar.chirps) - (radar.chirps - 1) / 2) * radar.chirp_interval_s
    still = rng.uniform(NEAREST_M, radar.max_range_m, CLUTTER_POINTS)[:, None].repeat(radar.chirps, axis=1)
    clutter = radar.beat_signal(still, rng.exponential(1.0, (CLUTTER_POINTS, 1)))
    adc = np.empty((len(times_s), radar.chirps, radar.samples), dtype=np.complex64)
    for frame, time in enumerate(times_s):
        echoes = clutter + radar.noise(rng, clutter.shape)
        for user in users:
            echoes += radar.beat_signal(user.ranges_m(time + chirps), user.kind.rcs_m2 / user.kind.points)
        adc[frame] = echoes
    return adc


def _spec(radar: FMCW) -> str:
    velocity = radar.velocity_resolution_mps
    return f"""\
name: simulated_scenes
title: Simulated road users before a {radar.carrier_hz / 1e9:g} GHz FMCW radar
licence: Apache-2.0 (simulated by maekit)
files: "scenes.h5"
records: "/*"
signal:
  path: map
  axes: [frame, range, doppler]
  channels: [power]
  unit: dB re 1 W
  steps:
    range: {{step: {radar.range_resolution_m:.6g}, unit: m}}
    doppler: {{step: {velocity:.6g}, unit: m/s, start: {-(radar.chirps // 2) * velocity:.6g}}}
group: {{attribute: drive}}
label: {{path: label, classes: [{", ".join(CLASSES)}]}}
window: {{axis: frame, length: 1}}
"""
