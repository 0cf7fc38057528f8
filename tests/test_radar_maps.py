"""Range-Doppler and range-azimuth maps of simulated targets: where they are, what they are worth, what keeps two apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.fmcw import FMCW
from maekit.adapters.radar_maps import directions, fft_sines, range_azimuth_map, remove_clutter
from maekit.adapters.radar_spectra import in_blocks, power, scaled_window
from maekit.adapters.range_doppler_map import range_doppler_map

RADAR = FMCW(bandwidth_hz=300e6, samples=64, sample_rate_hz=4e6, chirps=32, chirp_interval_s=60e-6)
RECEIVERS = 8
WINDOWS = ["hann", "hamming", "blackman", "none"]


def echoes(
    range_m: float, velocity_mps: float = 0.0, sine: float = 0.0, *, radar: FMCW = RADAR, receivers: int = RECEIVERS
) -> torch.Tensor:
    """Of one target of unit power: (receiver, chirp, sample)."""
    time = (np.arange(radar.chirps) - (radar.chirps - 1) / 2) * radar.chirp_interval_s
    volts = np.sqrt(radar.received_w(np.array(range_m), 1.0))
    cube = radar.array_signal((range_m + velocity_mps * time)[None], np.array([sine]), 1.0, receivers=receivers)
    return torch.from_numpy(cube / np.float32(volts))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return torch.from_numpy(values.astype(np.complex64))


def peak(chart: torch.Tensor) -> tuple[int, int]:
    row, column = np.unravel_index(int(chart.argmax()), chart.shape)
    return int(row), int(column)


def dip_db(line: torch.Tensor) -> float:
    """How deep the deepest valley between two peaks is, against the lower of both: 0 where there is one peak."""
    highest_left, highest_right = line.cummax(0).values, line.flip(0).cummax(0).values.flip(0)
    return float((torch.minimum(highest_left, highest_right) - line).max())


def test_the_array_signal_is_the_beat_signal_of_a_scatterer_at_rest() -> None:
    ranges = np.random.default_rng(0).uniform(5, 25, (12, 1)).repeat(RADAR.chirps, axis=1)
    sections = np.random.default_rng(1).uniform(0.1, 3, 12)
    cube = RADAR.array_signal(ranges, np.linspace(-0.9, 0.9, 12), sections, receivers=3)
    exact = RADAR.beat_signal(ranges, sections[:, None])
    assert cube.shape == (3, RADAR.chirps, RADAR.samples)
    assert np.abs(cube[0] - exact).max() < 1e-5 * np.abs(exact).max()


def test_the_array_signal_of_a_slow_scatterer_is_nearly_exact() -> None:
    """Walking speed: 2 mm of way within a frame, against range bins of half a metre."""
    time = (np.arange(RADAR.chirps) - (RADAR.chirps - 1) / 2) * RADAR.chirp_interval_s
    ranges = (12.0 + 1.5 * time)[None]
    exact = RADAR.beat_signal(ranges, 1.0)
    assert np.abs(RADAR.array_signal(ranges, np.zeros(1), 1.0, receivers=1)[0] - exact).max() < 0.02 * np.abs(exact).max()


def test_the_array_signal_takes_frames_at_once_and_follows_the_geometry() -> None:
    """Against delays by Pythagoras to receivers that stand on a line; far away, both agree."""
    rng = np.random.default_rng(3)
    ranges = rng.uniform(8, 25, (2, 5, 1)) + rng.uniform(-5, 5, (2, 5, 1)) * np.arange(RADAR.chirps) * 6e-5
    sines = rng.uniform(-0.8, 0.8, (2, 5))
    both = RADAR.array_signal(ranges, sines, 1.0, receivers=4)
    assert both.shape == (2, 4, RADAR.chirps, RADAR.samples)
    for frame in range(2):
        alone = RADAR.array_signal(ranges[frame], sines[frame], 1.0, receivers=4)
        assert np.allclose(both[frame], alone, atol=1e-6 * np.abs(alone).max())
    distance, sine = 4000.0, 0.4
    x = distance * sine
    y = distance * np.sqrt(1 - sine**2)
    to_receiver = np.hypot(x - 0.5 * RADAR.wavelength_m * np.arange(4), y)
    way = (distance + to_receiver - 2 * distance) / RADAR.wavelength_m
    turned = RADAR.array_signal(np.full((1, RADAR.chirps), 10.0), np.array([sine]), 1.0, receivers=4)[:, 0, 0]
    assert np.allclose(turned / turned[0], np.exp(2j * np.pi * way), atol=1e-3)
    assert np.allclose(directions(torch.tensor([sine]), 4, 0.5)[0].numpy(), turned / turned[0], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(range_m=st.floats(3, 28), velocity=st.floats(-14, 14), sine=st.floats(-0.9, 0.9), window=st.sampled_from(WINDOWS))
def test_a_target_is_within_half_a_bin(range_m: float, velocity: float, sine: float, window: str) -> None:
    cube = echoes(range_m, velocity, sine)
    along, doppler = peak(range_doppler_map(cube, window=window, average_receivers=True))  # type: ignore[arg-type]
    assert abs(along * RADAR.range_resolution_m - range_m) <= 0.51 * RADAR.range_resolution_m
    found = (doppler - RADAR.chirps // 2) * RADAR.velocity_resolution_mps
    assert abs(found - velocity) <= 0.51 * RADAR.velocity_resolution_mps
    for method in ("fft", "capon"):
        sines = fft_sines(64)
        along, column = peak(range_azimuth_map(cube, sines=sines, window=window, method=method))  # type: ignore[arg-type]
        assert abs(along * RADAR.range_resolution_m - range_m) <= 0.51 * RADAR.range_resolution_m
        assert abs(float(sines[column]) - sine) <= 0.51 * 2 / 64


@pytest.mark.parametrize("chirps", [16, 17])
@pytest.mark.parametrize("window", WINDOWS)
def test_maps_are_the_windowed_fft(chirps: int, window: str) -> None:
    """Against NumPy's FFT with its shift, also of an odd number of chirps."""
    cube = noise(3, chirps, 10)
    slow, fast = (scaled_window(window, n) for n in (chirps, 10))  # type: ignore[arg-type]
    spectrum = np.fft.fftshift(np.fft.fft2(cube.numpy() * slow[:, None] * fast), axes=-2)
    expected = np.abs(spectrum).swapaxes(-1, -2) ** 2
    found = range_doppler_map(cube, window=window)  # type: ignore[arg-type]
    assert np.allclose(10 ** (found.numpy() / 10), expected, rtol=1e-3, atol=1e-7)
    mean = range_doppler_map(cube, window=window, average_receivers=True)  # type: ignore[arg-type]
    assert np.allclose(10 ** (mean.numpy() / 10), expected.mean(0), rtol=1e-3, atol=1e-7)
    double = range_doppler_map(cube.to(torch.complex128), window=window)  # type: ignore[arg-type]
    assert double.dtype == torch.float64
    assert np.allclose(10 ** (double.numpy() / 10), expected)


@pytest.mark.parametrize("taper", ["hamming", "none"])
def test_azimuth_is_the_zero_padded_fft(taper: str) -> None:
    """With the sines of its grid: the power of an FFT over the receivers, averaged over the chirps."""
    cube = noise(2, 6, 5, 16).to(torch.complex128)
    weights = scaled_window(taper, 6)  # type: ignore[arg-type]
    profiles = np.fft.fft(cube.numpy() * scaled_window("hann", 16)) * weights[:, None, None]
    beams = np.fft.fftshift(np.fft.ifft(profiles, n=32, axis=1, norm="forward"), axes=1)
    expected = (np.abs(beams) ** 2).mean(2).swapaxes(1, 2)
    found = range_azimuth_map(cube, sines=fft_sines(32), taper=taper)  # type: ignore[arg-type]
    assert found.shape == (2, 16, 32)
    assert np.allclose(10 ** (found.numpy() / 10), expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_target_keeps_its_power_and_noise_gets_the_processing_gain(window: str) -> None:
    on_bin = 20 * RADAR.range_resolution_m
    cube = echoes(on_bin, 4 * RADAR.velocity_resolution_mps, 0.25)
    at = range_doppler_map(cube, window=window)[0].max()  # type: ignore[arg-type]
    assert at == pytest.approx(0.0, abs=0.05)
    for method in ("fft", "capon"):
        towards = range_azimuth_map(cube, sines=fft_sines(64), window=window, taper=window, method=method)  # type: ignore[arg-type]
        assert towards.max() == pytest.approx(0.0, abs=0.06)  # 1 % of loading of the diagonal is 0.04 dB
    gain = {n: float((scaled_window(window, n) ** 2).sum()) for n in (RADAR.chirps, RADAR.samples, RECEIVERS)}  # type: ignore[arg-type]
    snow = noise(60, RECEIVERS, RADAR.chirps, RADAR.samples)
    mean = (10 ** (range_doppler_map(snow, window=window) / 10)).mean()  # type: ignore[arg-type]
    assert mean == pytest.approx(gain[RADAR.chirps] * gain[RADAR.samples], rel=0.02)
    formed = range_azimuth_map(snow, sines=fft_sines(16), window=window, taper=window)  # type: ignore[arg-type]
    assert (10 ** (formed / 10)).mean() == pytest.approx(gain[RADAR.samples] * gain[RECEIVERS], rel=0.02)


def test_two_ranges_are_told_apart_from_the_resolution_on() -> None:
    """c / 2B and more are two peaks, half of it one, whatever the phase between both is (here in quadrature)."""
    for bins, two in ((0.5, False), (1.0, False), (2.0, True), (4.0, True)):
        near, far = 20.0 * RADAR.range_resolution_m, (20.0 + bins) * RADAR.range_resolution_m
        one, other = echoes(near), echoes(far)
        quadrature = 1j * torch.exp(1j * (one[0, 0, 32].angle() - other[0, 0, 32].angle()))
        padded = torch.nn.functional.pad((one + quadrature * other)[0], (0, 15 * RADAR.samples))
        line = range_doppler_map(padded, window="none")[19 * 16 : 26 * 16, RADAR.chirps // 2]
        assert (dip_db(line[: int((bins + 2) * 16)]) > 0.5) == two, (bins, dip_db(line))
