"""Gain and noise as strong as stated in every modality; polarity, baseline wander and shifts in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maekit.adapter import Adapter
from maekit.adapters.augment.baseline_wander import BaselineWander
from maekit.adapters.augment.gain import Gain
from maekit.adapters.augment.noise import Noise
from maekit.adapters.augment.polarity import Polarity
from maekit.adapters.augment.time_shift import TimeShift
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.adapters.image.image import ImageAdapter
from maekit.adapters.radar.adc_cube import AdcCubeAdapter
from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.adapters.spectrogram.spectrogram import SpectrogramAdapter
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.testing import check_augmentation

RNG = np.random.default_rng(7)
MAP = (Axis("range", 32, "m", 1.0), Axis("doppler", 64, "m/s", 0.5, -16.0))
LEVELS_DB = (-20.0, 60.0)


def line(unit: str = "mm") -> HeartRateAdapter:
    return HeartRateAdapter(SignalInfo(("x",), (Axis("time", 500, "s", 0.02),), unit, False, 50.0))


def sound(length: int = 4000, *, complex_: bool = False) -> SpectrogramAdapter:
    info = SignalInfo(("x",), (Axis("time", length, "s", 1e-3),), "V", complex_, 1000.0)
    return SpectrogramAdapter(info, n_fft=128, hop=64, patch=(16, 4))


def maps(scale: Any) -> RangeDopplerAdapter:
    options = {"level_range_db": LEVELS_DB} if scale == "level" else {"floor_db": -200.0}
    return RangeDopplerAdapter(SignalInfo(("power",), MAP, "", scale == "complex"), scale=scale, **options)  # type: ignore[arg-type]


def cube() -> AdcCubeAdapter:
    axes = (Axis("receiver", 2), Axis("chirp", 16), Axis("sample", 32))
    return AdcCubeAdapter(SignalInfo(("adc",), axes, "V", True))


POWER = RNG.exponential(size=(1, 32, 64)) * 100
STORED = {
    "complex": (np.sqrt(POWER) * np.exp(2j * np.pi * RNG.random(POWER.shape))).astype(np.complex64),
    "magnitude": np.sqrt(POWER),
    "power": POWER,
    "db": 10 * np.log10(POWER),
    "log10": np.log10(POWER) / 2,
    "level": (10 * np.log10(POWER) - LEVELS_DB[0]) * 255 / (LEVELS_DB[1] - LEVELS_DB[0]),
}


def decibels(adapter: Adapter, stored: np.ndarray) -> np.ndarray:
    """As the front gives them."""
    import torch

    signal, _ = adapter.prepare(Sample(stored, None, None, "g", "here"))
    return adapter.make_front().transform(torch.from_numpy(signal)[None], None)[0][0].double().numpy()


@pytest.mark.parametrize("scale", STORED)
def test_gain_of_a_map_is_in_decibels_whatever_is_stored(scale: str) -> None:
    adapter, gains = maps(scale), []
    plain = decibels(adapter, STORED[scale])
    for seed in range(40):
        louder, _ = Gain(adapter, db=6)(STORED[scale].copy(), None, np.random.default_rng(seed))
        change = decibels(adapter, louder) - plain
        if scale != "level":
            assert np.ptp(change) < 1e-3
        gains.append(float(np.median(change)))
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6.001


@pytest.mark.parametrize("scale", STORED)
@pytest.mark.parametrize("reference", ["mean", "median"])
def test_noise_of_a_map_adds_its_power_whatever_is_stored(scale: str, reference: Any) -> None:
    """Powers of independent signals add up in the mean."""
    adapter = maps(scale)
    noisy, _ = Noise(adapter, snr_db=-6, reference=reference)(STORED[scale].copy(), None, np.random.default_rng(1))
    before, after = (10 ** (decibels(adapter, stored) / 10) for stored in (STORED[scale], noisy))
    expected = (np.mean if reference == "mean" else np.median)(before) * 10**0.6
    assert after.mean() - before.mean() == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("kind", ["real", "complex", "cube", "heart"])
def test_noise_of_a_signal_lies_below_it_by_the_stated_ratio(kind: str) -> None:
    adapter: Adapter = {
        "real": sound(), "complex": sound(complex_=True), "cube": cube(), "heart": line()
    }[kind]  # fmt: skip
    shape = adapter.info.shape
    signal = 3 * RNG.standard_normal(shape) + (3j * RNG.standard_normal(shape) if adapter.info.complex else 0)
    noise = Noise(adapter, snr_db=20)(signal, None, np.random.default_rng(0))[0] - signal
    assert np.mean(np.abs(noise) ** 2) / np.var(signal) == pytest.approx(0.01, rel=0.12)
    if adapter.info.complex:
        assert noise.imag.std() == pytest.approx(noise.real.std(), rel=0.1)
    offset = Noise(adapter, snr_db=20)(signal + 1000, None, np.random.default_rng(0))[0] - signal - 1000
    assert np.allclose(noise, offset, atol=1e-6), "a constant part is no signal"


def test_noise_is_measured_where_there_is_signal() -> None:
    valid = np.arange(4000) < 2000
    signal = np.where(valid, np.sin(np.arange(4000)), 0)[None]
    noise = Noise(sound(), snr_db=10)(signal, valid, np.random.default_rng(0))[0] - signal
    assert noise.var() == pytest.approx(0.05, rel=0.1)
    nothing = np.zeros(4000, dtype=bool)
    assert np.array_equal(Noise(sound(), snr_db=10)(signal, nothing, np.random.default_rng(0))[0], signal)


def test_a_share_of_the_amplitude() -> None:
    x = RNG.standard_normal((1, 500))
    gains = [float((Gain(line(), share=0.2)(x, None, np.random.default_rng(i))[0] / x).mean()) for i in range(100)]
    assert 0.8 <= min(gains) < 0.82
    assert 1.18 < max(gains) <= 1.2
    assert np.mean(gains) == pytest.approx(1, abs=0.03)


def test_pictures_stay_in_their_range_and_whole() -> None:
    info = SignalInfo(("red", "green", "blue"), (Axis("height", 0, "px"), Axis("width", 0, "px")))
    adapter = ImageAdapter(info, size=32, patch=8)
    sample = Sample(RNG.integers(0, 256, (3, 40, 50), dtype=np.uint8), None, None, "g", "here")
    for augmentation in (Gain(adapter, db=6), Noise(adapter, snr_db=0)):
        check_augmentation(augmentation, adapter, sample)
    brighter = Gain(adapter, db=12).amplitude.amplify(np.array([[[10, 200]]], dtype=np.uint8), 2.0)
    assert brighter.tolist() == [[[20, 255]]]


def test_polarity_turns_every_second_signal() -> None:
    x = np.ones((1, 500))
    signs = [float(Polarity(line())(x, None, np.random.default_rng(i))[0].mean()) for i in range(200)]
    assert set(signs) == {-1.0, 1.0}
    assert np.mean(signs) == pytest.approx(0, abs=0.2)
    with pytest.raises(ValueError, match="no polarity"):
        Polarity(maps("power"))


def test_baseline_wander_is_slow_and_limited() -> None:
    x = RNG.standard_normal((1, 500))
    wander = BaselineWander(line(), std=2.0)(x, None, np.random.default_rng(0))[0] - x
    assert 0 < np.abs(wander).max() <= 2.0 * x.std() * 1.001
    spectrum = np.abs(np.fft.rfft(wander[0] * np.hanning(500)))
    assert spectrum[8:].max() < 0.1 * spectrum.max(), "nothing above 0.8 Hz"
    with pytest.raises(ValueError, match="over time"):
        BaselineWander(maps("db"))


def test_a_short_recording_moves_with_its_mask() -> None:
    shift, length = TimeShift(sound(), seconds=0.5), 4000
    x = np.zeros((1, length), dtype=np.float32)
    x[0, :500] = np.arange(1, 501)
    valid = np.arange(length) < 500
    starts = set()
    for seed in range(40):
        signal, moved = shift(x, valid, np.random.default_rng(seed))
        assert moved is not None
        assert np.array_equal(signal[0, moved], x[0, :500])
        starts.add(int(moved.argmax()))
    assert len(starts) > 20
    assert 400 < max(starts) <= 500
    assert shift(x, None, np.random.default_rng(0))[0] is x


def test_levels_without_decibels_are_refused() -> None:
    adapter = RangeDopplerAdapter(SignalInfo(("power",), MAP, ""), scale="level")
    with pytest.raises(ValueError, match="level_range_db"):
        Gain(adapter, db=3)
    with pytest.raises(ValueError, match="level_range_db"):
        Noise(adapter, snr_db=3)
    with pytest.raises(ValueError, match="one of db"):
        Gain(line())
    with pytest.raises(ValueError, match="one of db"):
        Gain(line(), db=1, share=0.1)
