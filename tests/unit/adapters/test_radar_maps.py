"""Range-Doppler and range-azimuth maps of simulated targets: where they are, what they are worth, what keeps two apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.radar.clutter import remove_clutter
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.range_azimuth_map import directions, fft_sines, range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.radar.spectra import in_blocks, scaled_window

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


def power(x: torch.Tensor) -> torch.Tensor:
    return x.abs() ** 2


def peak(chart: torch.Tensor) -> tuple[int, int]:
    row, column = np.unravel_index(int(chart.argmax()), chart.shape)
    return int(row), int(column)


def dip_db(line: torch.Tensor) -> float:
    """From the first to the last of these: how far the lowest lies below the lower end. Two peaks have a dip, one none."""
    return float(torch.minimum(line[0], line[-1]) - line.min())


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
    assert (
        np.abs(RADAR.array_signal(ranges, np.zeros(1), 1.0, receivers=1)[0] - exact).max() < 0.02 * np.abs(exact).max()
    )


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
@given(
    range_m=st.floats(3, 28), velocity=st.floats(-14, 14), sine=st.floats(-0.9, 0.9), window=st.sampled_from(WINDOWS)
)
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


FINE = 16


@pytest.mark.parametrize(("apart", "two"), [(0.5, False), (0.75, False), (1.0, True), (2.5, True)])
def test_two_targets_are_told_apart_from_the_resolution_on(apart: float, two: bool) -> None:
    """c / 2B, wavelength / 2 frame times, 1 / (receivers x spacing): two peaks; three quarters and half of it: one.

    The two differ by whole bins along another axis over which power is averaged, so that what is seen does not hang on
    the phase between them. Transforms are zero-padded, or bins would decide.
    """
    sample, chirp = RADAR.range_resolution_m, RADAR.velocity_resolution_mps
    cube = echoes(20 * sample, 0.0, 0.0) + echoes((20 + apart) * sample, 0.0, 0.25)
    cube = torch.nn.functional.pad(cube, (0, (FINE - 1) * RADAR.samples))
    line = range_doppler_map(cube, window="none", average_receivers=True)[:, RADAR.chirps // 2]
    ranges = dip_db(line[20 * FINE : round((20 + apart) * FINE) + 1])

    cube = echoes(20 * sample, 0.0, 0.0) + echoes(20 * sample, apart * chirp, 0.25)
    cube = torch.nn.functional.pad(cube, (0, 0, 0, (FINE - 1) * RADAR.chirps))
    middle = FINE * RADAR.chirps // 2
    line = range_doppler_map(cube, window="none", average_receivers=True)[20]
    velocities = dip_db(line[middle : middle + round(apart * FINE) + 1])

    cube = echoes(20 * sample, 0.0, 0.0) + echoes(20 * sample, 3 * chirp, apart / RECEIVERS / 0.5)
    grid = fft_sines(FINE * RECEIVERS)
    line = range_azimuth_map(cube, sines=grid, window="none", taper="none")[20]
    middle = FINE * RECEIVERS // 2
    sines = dip_db(line[middle : middle + round(apart * FINE) + 1])
    assert [dip > 0.3 for dip in (ranges, velocities, sines)] == [two] * 3, (ranges, velocities, sines)


@pytest.mark.parametrize("doppler_bins", [0.0, 5.0])
def test_capon_resolves_what_the_fft_does_not(doppler_bins: float) -> None:
    """Half a beamwidth apart, at 30 dB over the noise: of other Doppler, and coherent in quadrature."""
    sines = torch.linspace(-0.5, 0.5, 401)
    one, other = -0.0625, 0.0625
    # Equal phase at the middle of the array would make coherent echoes one: a quarter of a turn between them.
    cube = echoes(10.0, 0.0, one) + 1j * echoes(10.0, doppler_bins * RADAR.velocity_resolution_mps, other)
    cube = cube + 10 ** (-30 / 20) * noise(*cube.shape)
    row = round(10.0 / RADAR.range_resolution_m)
    between = (sines >= one - 0.003) & (sines <= other + 0.003)
    dips = {
        method: dip_db(range_azimuth_map(cube, sines=sines, taper="none", method=method, loading=1e-4)[row, between])  # type: ignore[arg-type]
        for method in ("fft", "capon")
    }
    assert dips["fft"] < 0.1
    assert dips["capon"] > 5.0


def test_a_wider_array_sees_the_same_azimuth() -> None:
    """A grid that is no FFT's, receivers 0.7 wavelengths apart."""
    cube = RADAR.array_signal(np.full((1, RADAR.chirps), 10.0), np.array([0.31]), 1.0, receivers=6, spacing=0.7)
    sines = torch.linspace(-0.6, 0.6, 121)
    for method in ("fft", "capon"):
        found = range_azimuth_map(torch.from_numpy(cube), sines=sines, spacing=0.7, method=method)  # type: ignore[arg-type]
        assert float(sines[peak(found)[1]]) == pytest.approx(0.31, abs=0.006)
        turned = range_azimuth_map(torch.from_numpy(cube[::-1].copy()), sines=sines, spacing=-0.7, method=method)  # type: ignore[arg-type]
        torch.testing.assert_close(turned, found, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("method", ["fft", "capon"])
def test_silence_is_finite(method: str) -> None:
    cube = torch.zeros(4, 8, 16, dtype=torch.complex64)
    assert (range_azimuth_map(cube, sines=fft_sines(8), method=method) <= -290).all()  # type: ignore[arg-type]
    assert (range_doppler_map(cube) == -300).all()


@pytest.mark.parametrize(("method", "left"), [("none", 32), ("mean", 32), ("two_pulse", 31), ("three_pulse", 30)])
def test_clutter_goes_and_a_moving_target_stays(method: str, left: int) -> None:
    """A still target 40 dB stronger than a moving one, which keeps the power that the canceller's formula says."""
    velocity = 5 * RADAR.velocity_resolution_mps
    still, moving = 100 * echoes(10.0), echoes(20.0, velocity, 0.2)
    cleaned = remove_clutter(still + moving, method)  # type: ignore[arg-type]
    assert cleaned.shape == (RECEIVERS, left, RADAR.samples)
    if method == "none":
        assert torch.equal(cleaned, still + moving)
        return
    turn = np.pi * 2 * velocity / RADAR.wavelength_m * RADAR.chirp_interval_s
    gain = {"mean": 1.0, "two_pulse": 4 * np.sin(turn) ** 2, "three_pulse": 16 * np.sin(turn) ** 4}[method]
    target = power(remove_clutter(moving, method)).mean() / power(moving).mean()  # type: ignore[arg-type]
    assert target == pytest.approx(gain, rel=0.01)
    assert power(remove_clutter(still, method)).mean() < 1e-9 * power(still).mean()  # type: ignore[arg-type]
    padded = torch.nn.functional.pad(cleaned, (0, 0, 0, 32 - left))
    found = range_doppler_map(still + moving, average_receivers=True, clutter=method)  # type: ignore[arg-type]
    torch.testing.assert_close(found, range_doppler_map(padded, average_receivers=True))
    along, _ = peak(range_doppler_map(cleaned, average_receivers=True))
    assert abs(along * RADAR.range_resolution_m - 20.0) < RADAR.range_resolution_m
    snow = noise(200, left + 3, 16)
    expected = {"mean": 1 - 1 / (left + 3), "two_pulse": 2.0, "three_pulse": 6.0}[method]
    assert power(remove_clutter(snow, method)).mean() == pytest.approx(expected, rel=0.02)  # type: ignore[arg-type]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cubes = noise(7, 4, 16, 32)
    whole = range_doppler_map(cubes), range_azimuth_map(cubes, sines=fft_sines(8))
    for block in (1, 5000, 2**30):
        monkeypatch.setattr("maekit.adapters.radar.spectra.BLOCK", block)
        torch.testing.assert_close(range_doppler_map(cubes), whole[0], rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(range_azimuth_map(cubes, sines=fft_sines(8)), whole[1], rtol=1e-3, atol=1e-2)
    assert range_doppler_map(cubes[:0]).shape == (0, 4, 32, 16)
    seen: list[int] = []
    monkeypatch.setattr("maekit.adapters.radar.spectra.BLOCK", 2 * 4 * 16 * 32)

    def noted(block: torch.Tensor) -> torch.Tensor:
        seen.append(len(block))
        return block.real

    in_blocks(noted, cubes)
    assert seen == [2, 2, 2, 1] or torch.get_num_threads() > 1


def test_gradients_reach_the_samples() -> None:
    """Maps may stand inside a network."""
    cube = noise(2, 4, 6).to(torch.complex128).requires_grad_()
    for function in (
        lambda x: range_doppler_map(x, average_receivers=True),
        lambda x: range_azimuth_map(x, sines=fft_sines(4)),
        lambda x: range_azimuth_map(x, sines=fft_sines(4), method="capon"),
    ):
        assert torch.autograd.gradcheck(function, (cube,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_maps_are_the_same_on_a_device() -> None:
    cube = noise(2, 8, 32, 64)
    functions: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: range_doppler_map(x, average_receivers=True),
        lambda x: range_azimuth_map(x, sines=fft_sines(32)),
        lambda x: range_azimuth_map(x, sines=fft_sines(32), method="capon"),
    ]
    for function in functions:
        torch.testing.assert_close(function(cube.cuda()).cpu(), function(cube), rtol=1e-3, atol=2e-2)


def test_what_does_not_fit_is_refused() -> None:
    cube = noise(2, 4, 8)
    with pytest.raises(ValueError, match="window 'han', expected one of hann"):
        range_doppler_map(cube, window="han")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero throughout"):
        range_doppler_map(cube[:, :2], window="hann")
    with pytest.raises(ValueError, match="average_receivers needs"):
        range_doppler_map(cube[0], average_receivers=True)
    with pytest.raises(ValueError, match="method 'music'"):
        range_azimuth_map(cube, sines=fft_sines(4), method="music")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be zero"):
        range_azimuth_map(cube, sines=fft_sines(4), spacing=0.0)
    with pytest.raises(ValueError, match="clutter 'median'"):
        remove_clutter(cube, "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than 2 chirps, there are 2"):
        remove_clutter(cube[:, :2], "three_pulse")
