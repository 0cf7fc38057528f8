"""Simulated chest displacement of a cohort, measured by the phase of an FMCW radar.

The displacement is the sum of respiration, heart beats and body motion. The radar's beat signal is computed from it with
`maekit.adapters.radar.fmcw` (phase 4 pi d / wavelength, radar equation, clutter, thermal noise), and the displacement is
recovered as in practice: range FFT, range bin, circle fit, arctangent, unwrapping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from maekit.adapters.radar import phase
from maekit.adapters.radar.fmcw import FMCW
from maekit.config.data_spec import find_spec
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.files import write_text

Array = NDArray[Any]

_SETTLED = 40.0
"""Durations of a motion after which nothing of it is left in float64."""


def simulate_vital_signs(
    folder: Path,
    *,
    people: int = 24,
    seconds: float = 180.0,
    rate_hz: float = 50.0,
    seed: int = 0,
    snr_db: tuple[float, float] = (5.0, 25.0),
    motion: bool = True,
    radar: FMCW | None = None,
) -> Path:
    """Write `vital_signs.h5` and its data spec, `simulated_vital_signs.yaml`.

    Args:
        folder: created if missing.
        people: number of people, with one recording each; mean heart rates are 55 to 100 bpm.
        seconds: length of a recording.
        rate_hz: frame rate (slow time).
        seed: of all random properties.
        snr_db: lowest and highest signal-to-noise ratio in the range bin, uniform over people; it determines the chest's radar cross
            section by the radar equation.
        motion: add bursts of body motion.
        radar: chirp sequence and link budget.

    Returns:
        Path of the data spec.

    Raises:
        ValueError: no people, or a recording too short or sampled too slowly for heart beats.
    """
    if people < 1 or seconds < 10 or rate_hz < 10:
        raise ValueError(f"at least 1 person, 10 s and 10 frames a second; got {people}, {seconds:g} s, {rate_hz:g} Hz")
    if not snr_db[0] <= snr_db[1]:
        raise ValueError(f"snr_db {snr_db[0]:g} to {snr_db[1]:g} dB, expected the lower first")
    radar = radar or FMCW()
    with replacing_hdf5(folder / "vital_signs.h5") as file:
        for person in range(people):
            rng = np.random.default_rng((seed, person))
            chest_mm, beats_s, breathing_bpm = chest(rng, seconds, rate_hz, motion=motion)
            range_m = round(rng.uniform(0.5, 2.0) / radar.range_resolution_m) * radar.range_resolution_m
            snr = float(rng.uniform(*snr_db))
            iq = slow_time(radar, rng, range_m, chest_mm, snr)
            record = file.create_group(f"person_{person:03d}")
            record.attrs.update(
                {
                    "subject": f"p{person:03d}",
                    "range_m": range_m,
                    "snr_db": snr,
                    "breathing_bpm": breathing_bpm,
                    "heart_bpm": 60 / np.median(np.diff(beats_s)),
                }
            )
            data = record.create_dataset("displacement", data=displacement_mm(iq, radar).astype(np.float32))
            data.attrs.update({"rate_hz": rate_hz, "unit": "mm"})
            record.create_dataset("true_displacement", data=chest_mm.astype(np.float32))
            record.create_dataset("beats", data=beats_s)
    spec = folder / "simulated_vital_signs.yaml"
    write_text(spec, find_spec("simulated_vital_signs").read_text())
    return spec


def chest(rng: np.random.Generator, seconds: float, rate_hz: float, *, motion: bool) -> tuple[Array, Array, float]:
    """Displacement of a chest in mm, the times of its beats in s, and its breathing rate per minute.

    Respiration has 4 to 12 mm peak to peak at 0.15 to 0.35 Hz, two harmonics and a drifting rate. Beats have 0.1 to 0.5 mm: a rise
    and fall of half a second with a damped oscillation; their rate drifts with a time constant of half a minute and with
    respiration (sinus arrhythmia), plus 10 ms of jitter. Motion is a smooth shift of up to 10 mm, every minute and a half on
    average.
    """
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    breathing_hz = rng.uniform(0.15, 0.35)
    phase = 2 * np.pi * np.cumsum(breathing_hz * (1 + 0.1 * _drift(rng, len(time), 10 * rate_hz))) / rate_hz
    breath = sum(
        amplitude * np.sin(n * phase + rng.uniform(0, 2 * np.pi))
        for n, amplitude in ((1, 1.0), (2, rng.uniform(0.05, 0.2)), (3, rng.uniform(0.005, 0.04)))
    )
    x = rng.uniform(2, 6) * np.asarray(breath)
    mean_bpm = rng.uniform(55, 100)
    bpm = mean_bpm + 5 * _drift(rng, len(time), 30 * rate_hz) + rng.uniform(1, 4) * np.sin(phase)
    cycles = rng.random() + np.cumsum(bpm / 60) / rate_hz
    beats_s = np.interp(np.arange(np.ceil(cycles[0]), np.floor(cycles[-1]) + 1), cycles, time)
    beats_s = np.sort(np.clip(beats_s + 0.01 * rng.standard_normal(len(beats_s)), 0, time[-1]))
    strength, ring_hz, damping = rng.uniform(0.1, 0.5), rng.uniform(3, 6), rng.uniform(8, 14)
    for beat in beats_s:
        start = int(beat * rate_hz) + 1
        after = time[start : start + round(0.6 * rate_hz)] - beat
        x[start : start + len(after)] += 0.5 * strength * np.exp(-damping * after) * np.sin(2 * np.pi * ring_hz * after)
        x[start : start + len(after)] += strength * np.sin(np.pi * np.clip(after / 0.5, 0, 1)) ** 2
    if motion:
        moved = np.zeros(len(time) + 1)
        for moment in rng.uniform(0, seconds, rng.poisson(seconds / 90)):
            distance, duration = rng.uniform(-10, 10), rng.uniform(0.1, 0.5)
            first, end = (np.searchsorted(time, moment + side * _SETTLED * duration) for side in (-1, 1))
            x[first:end] += distance * expit((time[first:end] - moment) / duration)
            moved[end] += distance
        x += np.cumsum(moved[:-1])
    return x, beats_s, float(60 * breathing_hz)


def slow_time(
    radar: FMCW, rng: np.random.Generator, range_m: float, chest_mm: Array, snr_db: float
) -> NDArray[np.complex128]:
    """Complex samples of the chest's range bin, one per frame: chest, static clutter and thermal noise.

    There is one chirp per frame. The radar cross section gives `snr_db` in the range bin after the processing gain of the range
    FFT.
    """
    rcs_m2 = _rcs_m2(radar, range_m, snr_db)
    ranges = range_m + chest_mm[None] / 1e3
    # Only this bin of the range FFT is computed; it stays the same, since the chest moves by millimetres.
    steering = np.exp(
        -2j * np.pi * np.arange(radar.samples) * round(range_m / radar.range_resolution_m) / radar.samples
    )
    blocks = np.array_split(ranges, max(1, ranges.shape[1] // 4096), axis=1)
    target = np.concatenate([radar.beat_signal(block, rcs_m2) @ steering for block in blocks]) / np.sqrt(radar.samples)
    level = np.sqrt(np.mean(np.abs(target) ** 2))
    clutter = level * rng.uniform(0.5, 3) * np.exp(2j * np.pi * rng.random())
    return target + clutter + radar.noise(rng, target.shape)


def adc_cube(
    radar: FMCW,
    rng: np.random.Generator,
    range_m: float,
    chest_mm: Array,
    snr_db: float,
    *,
    receivers: int = 4,
    clutter_db: tuple[float, ...] = (20.0, 10.0, 0.0),
) -> NDArray[np.complex64]:
    """Raw samples of a breathing person in a room: (frame, chirp, receiver, sample) in volts across one ohm.

    Receivers are half a wavelength apart in a line; person and clutter have random azimuths within 45 degrees. The clutter is static
    and lies between 0.2 m and half of the radar's range. The chest does not move within the `radar.chirps` chirps of a frame.

    Args:
        radar: chirp sequence and link budget.
        rng: source of clutter and noise.
        range_m: of the chest.
        chest_mm: (frame,) displacement.
        snr_db: of one receiver and one chirp in the range bin, with the processing gain of a rectangular window.
        receivers: number of receivers.
        clutter_db: received power of each static scatterer relative to the chest.
    """
    echo_w = float(radar.received_w(np.array(range_m), _rcs_m2(radar, range_m, snr_db)))
    still_m = rng.uniform(0.2, 0.5 * radar.max_range_m, len(clutter_db))
    strength_w = echo_w * 10 ** (np.array([0.0, *clutter_db]) / 10)
    array_turns = np.arange(receivers) * np.sin(rng.uniform(-np.pi / 4, np.pi / 4, (len(strength_w), 1))) / 2
    cube = radar.noise(rng, (len(chest_mm), radar.chirps, receivers, radar.samples)).astype(np.complex64)
    for ranges, watts, turns in zip(
        [range_m + chest_mm / 1e3, *still_m[:, None]], strength_w, array_turns, strict=True
    ):
        rcs_m2 = watts / radar.received_w(np.array(ranges.mean()), 1.0)
        beat = radar.beat_signal(ranges[None], rcs_m2)
        cube += (beat[:, None, None] * np.exp(2j * np.pi * turns)[:, None]).astype(np.complex64)
    return cube


def displacement_mm(iq: Array, radar: FMCW) -> NDArray[np.float64]:
    """Chest displacement from the samples of a range bin: DC offset by circle fit, arctangent, unwrapping."""
    centre, _ = phase.circle_fit(iq)
    return phase.displacement_mm(phase.demodulated(iq, centre), radar.wavelength_m)


def _rcs_m2(radar: FMCW, range_m: float, snr_db: float) -> float:
    """Radar cross section that gives this signal-to-noise ratio in the range bin, by the radar equation."""
    per_metre2 = float(radar.received_w(np.array(range_m), 1.0)) * radar.samples / radar.noise_w
    return float(10 ** (snr_db / 10) / per_metre2)


def _drift(rng: np.random.Generator, length: int, memory: float) -> Array:
    """Slowly drifting noise: normal draws every `memory` samples, linearly interpolated; standard deviation 0.7 to 1."""
    coarse = rng.standard_normal(int(length / memory) + 3)
    return np.interp(np.arange(length) / memory, np.arange(len(coarse)), coarse)
