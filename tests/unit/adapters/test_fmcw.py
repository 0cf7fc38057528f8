"""The radar's parameters, its beat signal, and chests seen through it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.heart.beats import beat_rate_bpm, spectral_peak_bpm
from maekit.adapters.radar.fmcw import BOLTZMANN, FMCW, SPEED_OF_LIGHT
from maekit.adapters.simulate.vital_signs import chest, displacement_mm, simulate_vital_signs, slow_time

RADAR = FMCW(carrier_hz=77e9, bandwidth_hz=1e9, samples=64, sample_rate_hz=2e6, chirps=32, chirp_interval_s=50e-6)


def test_resolutions() -> None:
    assert RADAR.range_resolution_m == pytest.approx(0.149896, rel=1e-5)
    assert RADAR.max_range_m == pytest.approx(64 * RADAR.range_resolution_m)
    assert RADAR.max_velocity_mps == pytest.approx(RADAR.chirps / 2 * RADAR.velocity_resolution_mps)
    assert RADAR.wavelength_m == pytest.approx(SPEED_OF_LIGHT / (77e9 + 1e9 * 63 / 128))


@pytest.mark.parametrize(
    "wrong", [{"carrier_hz": 0}, {"samples": -1}, {"power_w": float("nan")}, {"bandwidth_hz": -1e9}]
)
def test_impossible_radars_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .* must be positive"):
        FMCW(**wrong)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(range_bin=st.integers(4, 60), doppler_bin=st.integers(-15, 15))
def test_a_scatterer_appears_in_its_range_and_doppler_bin(range_bin: int, doppler_bin: int) -> None:
    """Receding is positive; the range is that in the middle of the frame."""
    time = (np.arange(RADAR.chirps) - (RADAR.chirps - 1) / 2) * RADAR.chirp_interval_s
    ranges = range_bin * RADAR.range_resolution_m + doppler_bin * RADAR.velocity_resolution_mps * time
    cube = RADAR.beat_signal(ranges[None], 1.0)
    assert cube.shape == (RADAR.chirps, RADAR.samples)
    spectrum = np.abs(np.fft.fft(np.fft.fft(cube, axis=1), axis=0))
    row, column = np.unravel_index(int(spectrum.argmax()), spectrum.shape)
    assert (int(row), int(column)) == (doppler_bin % RADAR.chirps, range_bin)


def test_power_follows_the_radar_equation() -> None:
    near, far = (np.abs(RADAR.beat_signal(np.array([[r]]), 1.0)[0, 0]) for r in (2.0, 6.0))
    assert near / far == pytest.approx(9.0)  # volts fall with the square of range, power with its fourth power
    gain = 10 ** (RADAR.gain_db / 10)
    watts = RADAR.power_w * gain**2 * RADAR.wavelength_m**2 / ((4 * np.pi) ** 3 * 2.0**4)
    assert near**2 == pytest.approx(watts)
    assert np.abs(RADAR.beat_signal(np.array([[2.0]]), 4.0)[0, 0]) == pytest.approx(2 * near)


def test_noise_is_thermal() -> None:
    noise = RADAR.noise(np.random.default_rng(0), (400, 400))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(BOLTZMANN * 290 * 2e6 * 10**1.4, rel=0.02)
    assert np.abs(np.mean(noise**2)) < 0.02 * RADAR.noise_w  # circular: both quadratures alike and independent


@pytest.mark.parametrize("bandwidth_hz", [1e8, 3.6e9])
def test_phase_is_four_pi_displacement_over_wavelength(bandwidth_hz: float) -> None:
    """The wavelength at the start of the sweep would be wrong by 2.3 % for the wider one."""
    radar = FMCW(bandwidth_hz=bandwidth_hz)
    true_mm = 3 * np.sin(2 * np.pi * 0.25 * np.arange(500) / 50)
    at_m = 40 * radar.range_resolution_m
    found = displacement_mm(slow_time(radar, np.random.default_rng(0), at_m, true_mm, snr_db=60.0), radar)
    assert np.polyfit(true_mm, found, 1)[0] == pytest.approx(1.0, abs=1e-3)


def test_signal_to_noise_ratio_is_the_one_asked_for() -> None:
    radar, still = FMCW(), np.zeros(20_000)
    at_m = 24 * radar.range_resolution_m
    iq = slow_time(radar, np.random.default_rng(1), at_m, still, snr_db=10.0)
    # A chest at rest and clutter are one constant; what varies is the receiver's noise.
    assert np.var(iq) == pytest.approx(radar.noise_w, rel=0.03)
    # Four whole turns of phase, so that the echo's mean is zero, and far less way than a range bin.
    turning_mm = np.linspace(-1, 1, 20_000) * radar.wavelength_m * 1e3
    moving = slow_time(radar, np.random.default_rng(1), at_m, turning_mm, 10.0)
    assert np.var(moving) / radar.noise_w == pytest.approx(11.0, rel=0.03)


@pytest.mark.parametrize("person", range(6))
def test_displacement_is_got_back_at_20_db(person: int) -> None:
    rng = np.random.default_rng((7, person))
    true_mm, _, _ = chest(rng, 60.0, 50.0, motion=False)
    radar = FMCW()
    found = displacement_mm(slow_time(radar, rng, 20 * radar.range_resolution_m, true_mm, snr_db=20.0), radar)
    error = found - (true_mm - true_mm.mean())
    assert np.sqrt(np.mean((error - error.mean()) ** 2)) < 0.05 * true_mm.std()


def test_a_chest_is_physiological() -> None:
    for person in range(12):
        x, beats_s, breathing_bpm = chest(np.random.default_rng(person), 60.0, 50.0, motion=False)
        intervals = np.diff(beats_s)
        assert 0.4 < intervals.min() <= intervals.max() < 1.4
        assert 0 <= beats_s[0] < 1.4  # neither the first nor the last beat is left out
        assert 60 - 1.4 < beats_s[-1] < 60
        assert 9 <= breathing_bpm <= 21
        assert 3 < np.ptp(x) < 17


def test_spectral_peak_finds_the_heart_of_a_still_chest() -> None:
    """Breathing is left out: then nothing but the heart is in the band."""
    rate_hz, bpm = 50.0, 72.0
    time = np.arange(1000) / rate_hz
    x = 0.3 * np.sin(2 * np.pi * bpm / 60 * time) + 0.1 * np.sin(4 * np.pi * bpm / 60 * time)
    assert spectral_peak_bpm(x, rate_hz) == pytest.approx(bpm, abs=0.7)


def test_spectral_peak_on_clean_people(tmp_path: Path) -> None:
    """Most clean, still people are read within 2 bpm; some hide behind harmonics of their breathing, which is physics."""
    simulate_vital_signs(tmp_path, people=12, seconds=60, snr_db=(30.0, 30.0), motion=False)
    errors = []
    with h5py.File(tmp_path / "vital_signs.h5") as file:
        for record in file.values():
            beats, x = record["beats"][()], record["displacement"][()].astype(float)
            for start in range(0, 45, 5):
                inside = beats[(beats >= start) & (beats < start + 15)]
                errors.append(
                    abs(spectral_peak_bpm(x[start * 50 : start * 50 + 750], 50.0) - beat_rate_bpm(inside, 15.0))
                )
    assert np.median(errors) < 1.5
    assert np.mean(np.array(errors) < 2) > 0.6


def test_cohorts_are_a_function_of_the_seed(tmp_path: Path) -> None:
    def read(folder: str, **size: int) -> dict[str, np.ndarray]:
        spec = simulate_vital_signs(tmp_path / folder, seconds=20, **size)
        assert spec.is_file()
        with h5py.File(spec.parent / "vital_signs.h5") as file:
            assert {record.attrs["subject"] for record in file.values()} == {f"p{i:03d}" for i in range(len(file))}
            assert all(record["displacement"].attrs["rate_hz"] == 50.0 for record in file.values())
            return {name: record["displacement"][()] for name, record in file.items()}

    first, again, more, other = (
        read("a", people=2),
        read("b", people=2),
        read("c", people=3),
        read("d", people=2, seed=1),
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(np.array_equal(first[name], more[name]) for name in first)  # a larger cohort holds the smaller one
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_nobody_is_not_a_cohort(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 person"):
        simulate_vital_signs(tmp_path / "none", people=0)
    assert not (tmp_path / "none").exists()
