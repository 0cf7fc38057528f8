"""Pedestrians, cyclists and cars before an FMCW radar: their scatterers, their echoes, their range-Doppler maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapters.fmcw import FMCW

Array = NDArray[Any]

CLASSES = ("pedestrian", "cyclist", "car")

STREET_RADAR = FMCW(bandwidth_hz=300e6, samples=64, sample_rate_hz=2e6, chirps=64, chirp_interval_s=60e-6,
                    gain_db=16.0, power_w=0.016)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a road user: walking or driving speed, extent, and how it scatters.

    Args:
        speed_mps: lowest and highest.
        length_m: along its heading.
        points: scatterers on the body.
        rcs_m2: of all of them together (order of magnitude as measured at 77 GHz, e.g. Yamada et al., 2005).
        swing_mps: peak velocity of limbs or pedals against the body.
        stride_hz: of the swing.
    """

    speed_mps: tuple[float, float]
    length_m: float
    points: int
    rcs_m2: float
    swing_mps: float
    stride_hz: tuple[float, float]


KINDS = {
    "pedestrian": Kind((0.7, 2.0), 0.4, 4, 0.3, 2.5, (0.8, 1.1)),
    "cyclist": Kind((3.0, 7.0), 1.7, 6, 1.0, 1.5, (1.0, 1.5)),
    "car": Kind((4.0, 14.0), 4.3, 12, 10.0, 0.0, (1.0, 1.0)),
}


def simulate_scenes(
    folder: Path, *, drives: int = 12, frames: int = 40, frame_interval_s: float = 0.1, seed: int = 0, radar: FMCW = STREET_RADAR
) -> Path:
    """Write `scenes.h5` with range-Doppler maps in dB re 1 W and their labels, and the data spec beside it.

    Every drive has one road user of a class of its own choosing moving on a straight line through the view, among
    static clutter. For each frame: `map` (range, doppler), `label` (class) and `box` (range_m, velocity_mps of the
    body's centre).

    Args:
        folder: made when missing.
        drives: recordings; classes take turns.
        frames: maps a drive.
        frame_interval_s: between maps.
        seed: everything is a function of it.
        radar: chirps and link budget.

    Returns:
        The data spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "scenes.h5", "w") as file:
        for drive in range(drives):
            rng = np.random.default_rng((seed, drive))
            name = CLASSES[drive % len(CLASSES)]
            adc, boxes = drive_through(radar, rng, KINDS[name], frames, frame_interval_s)
            maps = range_doppler_map(torch.from_numpy(adc))
            record = file.create_group(f"drive_{drive:03d}")
            record.attrs.update({"drive": f"drive{drive:03d}", "label": name})
            record.create_dataset("map", data=maps.numpy().astype(np.float32), chunks=(1, *maps.shape[1:]))
            record.create_dataset("box", data=boxes.astype(np.float32))
    spec = folder / "simulated_scenes.yaml"
    spec.write_text(_spec(radar))
    return spec


def drive_through(
    radar: FMCW, rng: np.random.Generator, kind: Kind, frames: int, frame_interval_s: float
) -> tuple[NDArray[np.complex64], Array]:
    """ADC cubes (frame, chirp, sample) of one road user on a straight line, and (frame, 2) of range and velocity."""
    speed = rng.uniform(*kind.speed_mps)
    heading = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    middle = np.array([rng.uniform(-4, 4), rng.uniform(0.35, 0.6) * radar.max_range_m])
    offsets = rng.uniform(-0.5, 0.5, kind.points) * kind.length_m
    swing_phase = rng.uniform(0, 2 * np.pi, kind.points)
    stride = rng.uniform(*kind.stride_hz)
    swings = np.where(rng.random(kind.points) < 0.5, kind.swing_mps, 0.0)
    clutter_m = rng.uniform(2, radar.max_range_m, 12)[:, None].repeat(radar.chirps, axis=1)
    clutter_rcs = rng.exponential(1.0, (12, 1))
    adc = np.empty((frames, radar.chirps, radar.samples), dtype=np.complex64)
    boxes = np.empty((frames, 2))
    for frame in range(frames):
        time = (frame - frames / 2) * frame_interval_s + np.arange(radar.chirps) * radar.chirp_interval_s
        along = speed * time + offsets[:, None]
        swing = swings[:, None] / (2 * np.pi * stride) * np.sin(2 * np.pi * stride * time + swing_phase[:, None])
        position = middle[:, None, None] + direction[:, None, None] * (along + swing)
        ranges = np.maximum(np.hypot(*position), 1.0)
        adc[frame] = (
            radar.beat_signal(ranges, kind.rcs_m2 / kind.points)
            + radar.beat_signal(clutter_m, clutter_rcs)
            + radar.noise(rng, (radar.chirps, radar.samples))
        )
        centre = middle[:, None] + direction[:, None] * speed * time[[0, -1]]
        distance = np.hypot(*centre)
        boxes[frame] = distance.mean(), (distance[1] - distance[0]) / (time[-1] - time[0])
    return adc, boxes


def range_doppler_map(adc: Tensor) -> Tensor:
    """ADC cubes to range-Doppler maps (Richards et al., Principles of Modern Radar, 2010, chapter 17).

    Hann windows over fast and slow time, scaled so that a tone in noise keeps its power and white noise gets the
    windows' processing loss only; FFTs; zero Doppler in the middle, receding targets above it.

    Args:
        adc: (..., chirp, sample) complex.

    Returns:
        (..., range, doppler) power in dB re 1 W.
    """
    chirps, samples = adc.shape[-2:]
    fast = torch.hann_window(samples, periodic=False, dtype=torch.float64, device=adc.device)
    slow = torch.hann_window(chirps, periodic=False, dtype=torch.float64, device=adc.device)
    x = adc * (fast / fast.sum()) * (slow / slow.sum())[:, None]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=-2).transpose(-1, -2)
    return 10 * torch.log10(spectrum.abs().square() + 1e-30)


def _spec(radar: FMCW) -> str:
    return f"""\
name: simulated_scenes
title: Simulated road users before a 77 GHz FMCW radar
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
    doppler: {{step: {radar.velocity_resolution_mps:.6g}, unit: m/s, start: {-radar.chirps // 2 * radar.velocity_resolution_mps:.6g}}}
group: {{attribute: drive}}
label: {{attribute: label, classes: [{", ".join(CLASSES)}]}}
window: {{axis: frame, length: 1}}
"""
