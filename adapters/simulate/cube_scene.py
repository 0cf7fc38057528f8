"""Simulated ADC cubes of road users in front of an FMCW radar with several receivers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.simulate.fmcw_scene import CLASSES, CLUTTER_POINTS, KINDS, NEAREST_M, WIDEST_RAD, RoadUser, passing
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.errors import UserError
from maekit.files import write_text

COLUMNS = ("range", "azimuth", "doppler", "class")

CUBE_RADAR = FMCW(
    bandwidth_hz=300e6, samples=64, sample_rate_hz=4e6, chirps=32, chirp_interval_s=60e-6, gain_db=16.0, power_w=0.016
)
"""64 range bins of 0.5 m and 32 Doppler bins of 1 m/s: small cubes, 128 KiB with 8 receivers."""


def simulate_cubes(
    folder: Path,
    *,
    drives: int = 12,
    frames: int = 10,
    users: int = 2,
    receivers: int = 8,
    frame_interval_s: float = 0.1,
    seed: int = 0,
    radar: FMCW = CUBE_RADAR,
) -> Path:
    """Write `cubes.h5` with ADC cubes of moving road users, and its data spec.

    Scenes are those of `simulate_scenes`: one HDF5 group per drive, alternating classes, static clutter, thermal noise. Datasets,
    with one entry per frame:

    - `adc` (receiver, chirp, sample): complex64, volts across one ohm, receivers half a wavelength apart;
    - `objects` (user, column): range in m, azimuth in degrees (positive to the right), radial velocity in m/s (positive
      when receding) and class of the body's centre;
    - `label`: class index of the road user with the strongest echo.

    Args:
        folder: created if missing.
        drives: number of recordings.
        frames: cubes per drive.
        users: road users per drive.
        receivers: number of receivers in a line.
        frame_interval_s: between cubes.
        seed: of all random properties, together with the number of the drive.
        radar: chirp sequence and link budget.

    Returns:
        Path of the data spec.

    Raises:
        UserError: nothing to simulate, or a drive that does not fit into the radar's range.
    """
    if min(drives, frames, users, receivers) < 1:
        raise UserError(
            "nothing to simulate",
            value={"drives": drives, "frames": frames, "users": users, "receivers": receivers},
            expected="at least one of each",
        )
    times = ((np.arange(frames) - (frames - 1) / 2) * frame_interval_s).astype(np.float64)
    with replacing_hdf5(folder / "cubes.h5") as file:
        for drive in range(drives):
            rng = np.random.default_rng((seed, drive))
            names, present = passing(drive, users, frames * frame_interval_s, radar, rng)
            objects = np.empty((frames, users, len(COLUMNS)), dtype=np.float32)
            for frame, time in enumerate(times):
                for row, (user, name) in enumerate(zip(present, names, strict=True)):
                    range_m, velocity_mps = user.range_and_velocity(time)
                    objects[frame, row] = range_m, user.azimuth_deg(time), velocity_mps, CLASSES.index(name)
            sections = np.array([KINDS[name].rcs_m2 for name in names])
            dominant = radar.received_w(objects[..., 0].astype(np.float64), sections).argmax(1)
            record = file.create_group(f"drive_{drive:03d}")
            record.attrs.update({"drive": f"drive{drive:03d}", "frame_rate_hz": 1 / frame_interval_s, **asdict(radar)})
            cubes = receiver_cubes(radar, present, times, rng, receivers=receivers)
            record.create_dataset("adc", data=cubes)
            record.create_dataset("objects", data=objects).attrs["columns"] = COLUMNS
            record.create_dataset("label", data=objects[np.arange(frames), dominant, -1].astype(np.int64))
    spec = folder / "simulated_cubes.yaml"
    write_text(spec, _spec(radar))
    return spec


def receiver_cubes(
    radar: FMCW, users: list[RoadUser], times_s: NDArray[np.float64], rng: np.random.Generator, *, receivers: int
) -> NDArray[np.complex64]:
    """Echoes of road users, static clutter and thermal noise: (frame, receiver, chirp, sample) in volts across one ohm.

    Args:
        radar: chirp sequence and link budget.
        users: road users.
        times_s: middles of the frames.
        rng: source of clutter and noise.
        receivers: number of receivers.
    """
    chirps = (np.arange(radar.chirps) - (radar.chirps - 1) / 2) * radar.chirp_interval_s
    still = rng.uniform(NEAREST_M, radar.max_range_m, CLUTTER_POINTS)[:, None].repeat(radar.chirps, axis=1)
    towards = np.sin(rng.uniform(-WIDEST_RAD, WIDEST_RAD, CLUTTER_POINTS))
    clutter = radar.array_signal(still, towards, rng.exponential(1.0, CLUTTER_POINTS), receivers=receivers)
    sections = np.concatenate([np.full(user.kind.points, user.kind.rcs_m2 / user.kind.points) for user in users])
    cubes = np.empty((len(times_s), *clutter.shape), dtype=np.complex64)
    for frame, time in enumerate(times_s):
        x, y = (
            np.concatenate(places) for places in zip(*(user.places_m(time + chirps) for user in users), strict=True)
        )
        ranges = np.hypot(x, y)
        sines = (x / ranges).mean(-1)
        cubes[frame] = clutter + radar.array_signal(ranges, sines, sections, receivers=receivers)
        cubes[frame] += radar.noise(rng, clutter.shape)
    return cubes


def _spec(radar: FMCW) -> str:
    return f"""\
# The radar's parameters go to the adapter: {{name: adc_cube, carrier_hz: {radar.carrier_hz:.6g}, bandwidth_hz: {radar.bandwidth_hz:.6g}}}
name: simulated_cubes
title: ADC cubes of simulated road users before a {radar.carrier_hz / 1e9:g} GHz FMCW radar
licence: Apache-2.0 (simulated by maekit)
files: "cubes.h5"
records: "/*"
signal:
  path: adc
  axes: [frame, receiver, chirp, sample]
  channels: [echo]
  unit: V
  complex: keep
  steps:
    chirp: {{step: {radar.chirp_interval_s:.6g}, unit: s}}
    sample: {{step: {1 / radar.sample_rate_hz:.6g}, unit: s}}
group: {{attribute: drive}}
label: {{path: label, classes: [{", ".join(CLASSES)}]}}
window: {{axis: frame, length: 1}}
"""
