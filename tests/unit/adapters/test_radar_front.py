"""From raw radar to displacement: each step on known truth, the whole on a simulated person and on real recordings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as dsp

from maekit.adapters.heart.beats import spectral_peak_bpm
from maekit.adapters.radar import phase
from maekit.adapters.radar.chest_displacement import ChestDisplacement, chest_displacement, profile_displacement
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.range_profile import (
    bins_within,
    combined,
    image_side_db,
    most_variable_bin,
    noise_between_bins,
    range_axis_m,
    range_profile,
    without_static,
)
from maekit.adapters.simulate.vital_signs import adc_cube, chest
from maekit.errors import UserError

RADAR = FMCW(chirps=1)
RATE_HZ = 50.0
NEAR = (0.3, 2.0)


def scene(seed: int, *, snr_db: float = 10.0, receivers: int = 4, seconds: float = 60.0, radar: FMCW = RADAR) -> Any:
    """(cube, true displacement, distance, breaths per minute, times of beats) of somebody who sits still."""
    rng = np.random.default_rng((3, seed))
    truth_mm, beats_s, breathing_bpm = chest(rng, seconds, RATE_HZ, motion=False)
    at_m = rng.uniform(0.5, 1.5)
    cube = adc_cube(radar, rng, at_m, truth_mm, snr_db, receivers=receivers)
    return cube, truth_mm - truth_mm.mean(), at_m, breathing_bpm, beats_s


def error(found: ChestDisplacement, truth_mm: Any) -> float:
    """RMS error against the RMS of the truth, means apart."""
    difference = found.displacement_mm - truth_mm
    return float(np.nanstd(difference) / np.std(truth_mm))


def peak_hz(x: Any, rate_hz: float, band: tuple[float, float]) -> tuple[float, float]:
    """The highest line of the spectrum inside a band, and how far it stands over the band's median."""
    frequency, power = dsp.periodogram(dsp.detrend(x), rate_hz, window="hann", nfft=1 << 15)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    return float(frequency[inside][power[inside].argmax()]), float(power[inside].max() / np.median(power[inside]))


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.2, 0.9),
    st.floats(0, 6.28),
    st.floats(0.1, 10),
    st.complex_numbers(max_magnitude=100),
    st.integers(4, 99),
)
def test_a_circle_is_found_from_a_fifth_of_it(arc: float, start: float, radius: float, centre: complex, n: int) -> None:
    iq = centre + radius * np.exp(1j * (start + 2 * np.pi * arc * np.linspace(0, 1, n)))
    found, length = phase.circle_fit(np.r_[iq, np.nan])
    assert abs(found - centre) < 1e-4 * radius + 1e-6 * abs(centre)
    assert length == pytest.approx(radius, rel=1e-4, abs=1e-6 * abs(centre))


def test_no_circle_through_a_point() -> None:
    with pytest.raises(ValueError, match="no circle"):
        phase.circle_fit(np.full(50, 3 - 2j))
    with pytest.raises(ValueError, match="no circle"):
        phase.circle_fit(np.full(50, np.nan))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.5), st.integers(0, 60))
def test_any_phase_that_turns_slowly_is_got_back(seed: int, steepest: float, lost: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.cumsum(rng.uniform(-steepest, steepest, 300))
    iq = 5 - 2j + np.exp(1j * truth)
    iq[100 : 100 + lost] = np.nan
    found = phase.demodulated(iq, 5 - 2j)
    assert np.array_equal(np.isnan(found), np.isnan(iq))
    turns = (found - truth) / (2 * np.pi)
    assert np.ptp(turns[:100]) < 1e-9
    after = turns[100 + lost :]
    assert np.ptp(after) < 1e-9
    assert abs(after[0] - turns[0] - round(after[0] - turns[0])) < 1e-9, "over a pause, nothing but whole turns"
    assert not phase.steep_steps(found).any()


def test_half_a_wavelength_is_a_turn() -> None:
    assert np.ptp(phase.displacement_mm(np.array([0, np.nan, 2 * np.pi]), 4e-3)[[0, 2]]) == pytest.approx(2.0)
    assert phase.steep_steps(np.array([0, 1.5, 3.2, np.nan, 9])).tolist() == [False, True, False, False]


@pytest.mark.parametrize("window", ["hann", "boxcar"])
@pytest.mark.parametrize("real", [False, True])
def test_a_target_keeps_its_amplitude_and_its_bin(window: str, real: bool) -> None:
    turns = np.exp(2j * np.pi * 20 * np.arange(128) / 128 + 1j)
    profile = range_profile(2 * turns.real if real else turns, window)
    assert profile.shape == ((65,) if real else (128,))
    assert np.abs(profile).argmax() == 20
    assert np.abs(profile[20]) == pytest.approx(1.0, abs=1e-6)
    assert range_axis_m(RADAR, 128)[20] == pytest.approx(20 * RADAR.range_resolution_m)
    assert range_profile(turns.astype(np.complex64), window).dtype == np.complex64


def test_what_stands_still_goes_and_what_moves_is_chosen() -> None:
    rng = np.random.default_rng(0)
    profile = 1e-3 * (rng.standard_normal((200, 2, 30)) + 1j * rng.standard_normal((200, 2, 30)))
    profile[:, :, 4] += 100  # a wall
    profile[:, 0, 9] += np.exp(1j * np.sin(np.arange(200) / 9))  # a person, seen by one receiver
    profile[:, :, 25] += 5 * np.exp(1j * np.arange(200))[:, None]  # a fan behind
    profile[50] = np.nan
    assert np.nanmax(np.abs(without_static(profile)[:, :, 4])) < 0.01
    axis = np.arange(30) * 0.1
    assert most_variable_bin(profile, bins_within(axis, (0.0, 2.0))) == 9
    assert most_variable_bin(profile, bins_within(axis, (0.0, 3.0))) == 25
    with pytest.raises(UserError, match=r"no range bin.*0\.00 to 2\.90 m"):
        bins_within(axis, (3.5, 4))
    with pytest.raises(UserError, match="nothing moves"):
        most_variable_bin(np.ones((20, 2, 30), dtype=complex), bins_within(axis, (0, 3)))


def test_noise_of_neighbouring_bins_is_as_said() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60_000, 32)) + 1j * rng.standard_normal((60_000, 32))
    bins = range_profile(noise)[:, 7:12]
    assert np.cov(bins.T) / np.var(bins[:, 0]) == pytest.approx(noise_between_bins(32, 5), abs=0.02)


@pytest.mark.parametrize(("at", "lost_db"), [(20.0, 0.8), (20.3, 1.1), (20.5, 1.4)])
def test_receivers_and_bins_add_up_to_nearly_all_of_the_energy(at: float, lost_db: float) -> None:
    """Four receivers, each at 10 dB behind a rectangular window. The chosen Hann bin alone loses 1.8 to 3.2 dB."""
    rng = np.random.default_rng(0)
    angle = np.exp(1j * rng.uniform(0, 2 * np.pi, 4))
    moving = np.exp(2j * np.pi * np.arange(3000) / 150)
    tone = np.exp(2j * np.pi * at * np.arange(128) / 128)
    noise = np.sqrt(128 / 20) * (rng.standard_normal((3000, 4, 128)) + 1j * rng.standard_normal((3000, 4, 128)))
    profile = range_profile(moving[:, None, None] * angle[:, None] * tone + noise)
    iq = combined(profile[:, :, 18:23], noise_between_bins(128, 5))
    share = abs(np.vdot(moving, iq)) ** 2 / np.vdot(moving, moving).real / np.vdot(iq, iq).real
    assert 16.02 - lost_db < 10 * np.log10(share / (1 - share)) < 16.1


@pytest.mark.parametrize("receivers", [1, 4])
@pytest.mark.parametrize("person", range(4))
def test_a_person_at_10_db_is_got_back_within_5_percent(person: int, receivers: int) -> None:
    cube, truth_mm, at_m, breathing_bpm, _ = scene(person, receivers=receivers)
    found = chest_displacement(cube, RADAR, within_m=NEAR)
    assert error(found, truth_mm) < 0.05
    assert found.range_m == pytest.approx(at_m, abs=RADAR.range_resolution_m)
    assert found.missing_frames == 0
    assert found.snr_db == pytest.approx(10 * np.log10(10 * receivers), abs=1.2)
    assert 60 * peak_hz(found.displacement_mm, RATE_HZ, (0.1, 0.6))[0] == pytest.approx(breathing_bpm, abs=2)
    if receivers == 4:
        assert found.findings == ()
        true_bpm = spectral_peak_bpm(truth_mm, RATE_HZ)
        assert spectral_peak_bpm(found.displacement_mm, RATE_HZ) == pytest.approx(true_bpm, abs=1.0)


def test_a_heart_that_shows_in_the_truth_shows_in_what_is_got_back() -> None:
    """Of eight people, those whose true chest gives their heart away within 3 bpm."""
    read = 0
    for person in range(8):
        cube, truth_mm, _, _, beats_s = scene(person)
        bpm = 60 / np.median(np.diff(beats_s))
        if abs(spectral_peak_bpm(truth_mm, RATE_HZ) - bpm) < 3:
            read += 1
            found = chest_displacement(cube, RADAR, within_m=NEAR)
            assert spectral_peak_bpm(found.displacement_mm, RATE_HZ) == pytest.approx(bpm, abs=3)
    assert read >= 3


def test_chirps_of_a_frame_are_averaged_and_real_samples_are_taken() -> None:
    cube, truth_mm, *_ = scene(0, snr_db=4.0, receivers=1, seconds=20, radar=replace(RADAR, chirps=4))
    assert error(chest_displacement(cube, replace(RADAR, chirps=4), within_m=NEAR), truth_mm) < 0.05
    cube, truth_mm, *_ = scene(0, snr_db=20.0, receivers=2, seconds=20)
    assert error(chest_displacement(cube.real, RADAR, within_m=NEAR), truth_mm) < 0.05


def test_swapped_quadratures_are_named() -> None:
    cube, truth_mm, *_ = scene(0, seconds=20)
    swapped = cube.imag + 1j * cube.real
    assert image_side_db(range_profile(swapped)) > 15
    with pytest.raises(UserError, match=r"I and Q seem to be swapped.*iq_order"):
        chest_displacement(swapped, RADAR, within_m=NEAR)
    farther = chest_displacement(swapped, RADAR, within_m=(2.5, RADAR.max_range_m))
    assert np.corrcoef(farther.displacement_mm, truth_mm)[0, 1] < -0.99, "asked for, the mirror image is taken"


def test_what_was_not_measured_stays_missing() -> None:
    cube, *_ = scene(1, snr_db=20.0, seconds=20)
    whole = chest_displacement(cube, RADAR, within_m=NEAR)
    cube[200:230, 0, 2, 5] = np.nan
    cube[600:603, 0, 1] = 0
    cube[:, :, 3] = 0  # a receiver that is off
    found = chest_displacement(cube, RADAR, within_m=NEAR)
    missing = np.isnan(found.displacement_mm)
    assert np.flatnonzero(missing).tolist() == [*range(200, 230), *range(600, 603)]
    assert found.missing_frames == 33
    assert np.nanstd(found.displacement_mm[:200] - whole.displacement_mm[:200]) < 0.02
    assert any("zeros only" in text and "3 of 1000" in text for text in found.findings)
    assert any("2 stretches, the first at frame 200" in text for text in found.findings)
    with pytest.raises(UserError, match="too few frames"):
        chest_displacement(np.full_like(cube, np.nan), RADAR, within_m=NEAR)


def test_a_converter_at_its_rails_is_named() -> None:
    cube, *_ = scene(2, seconds=20)
    rail = float(np.abs(cube.real).max())
    cube[300:320] *= 4
    cube.real, cube.imag = np.clip(cube.real, -rail, rail), np.clip(cube.imag, -rail, rail)
    found = chest_displacement(cube, RADAR, within_m=NEAR, full_scale=rail)
    assert np.flatnonzero(np.isnan(found.displacement_mm)).tolist() == list(range(300, 320))
    assert any("full scale" in text for text in found.findings)


def test_frames_too_rare_for_the_motion_are_named() -> None:
    time = np.arange(500) / 5.0
    iq = np.exp(4j * np.pi * 6e-3 * np.sin(2 * np.pi * 0.3 * time) / RADAR.wavelength_m)
    found = profile_displacement(iq[:, None, None], np.array([1.0]), RADAR.wavelength_m, within_m=NEAR)
    assert found.steep_steps > 100
    assert any("unwrapping is ambiguous" in text for text in found.findings)


def test_noise_is_no_person() -> None:
    rng = np.random.default_rng(0)
    found = chest_displacement(RADAR.noise(rng, (1000, 1, 4, 128)).astype(np.complex64), RADAR, within_m=NEAR)
    assert found.snr_db < 6
    assert any("no clear circle" in text for text in found.findings)


@pytest.mark.parametrize("shape", [(10, 4, 128), (10, 1, 4, 64)])
def test_another_cube_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"not a cube.*receiver, 128"):
        chest_displacement(np.ones(shape, dtype=complex), RADAR, within_m=NEAR)
