"""Heart rate without learning: tones, breathing that is stronger than the heart, simulated chests and real people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.heart import beats
from maekit.adapters.heart import estimators as he
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.adapters.simulate.vital_signs import chest
from maekit.data.sample import Axis, Sample, SignalInfo

RATE_HZ = 50.0
ESTIMATORS = [beats.spectral_peak_bpm, he.autocorrelation_bpm, he.harmonic_sum_bpm]
INFO = SignalInfo(("displacement",), (Axis("time", 500),), "mm", False, RATE_HZ)


def harmonics(bpm: float, levels: list[float], seconds: float = 20.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(sum(a * np.sin(2 * np.pi * n * bpm / 60 * time + n) for n, a in enumerate(levels, 1)))


@settings(max_examples=8, deadline=None)
@given(bpm=st.floats(52, 115), gain=st.sampled_from([1.0, -1.0, 1e-3, -500.0]), offset=st.floats(-5, 5))
@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_a_beat_with_harmonics_is_found(estimate: Any, bpm: float, gain: float, offset: float) -> None:
    """Whatever the unit, the polarity and the offset."""
    x = harmonics(bpm, [1.0, 0.4, 0.2]) + 0.05 * np.random.default_rng(0).standard_normal(1000)
    assert estimate(gain * (x + offset), RATE_HZ) == pytest.approx(bpm, abs=1.5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("x", [np.full(500, 3.0), np.zeros(500), np.arange(20.0)])
def test_no_rate_of_nothing(estimate: Any, x: np.ndarray) -> None:
    assert np.isnan(estimate(x, RATE_HZ))
    assert not len(he.spectral_peaks(x, RATE_HZ).bpm)


def test_the_second_harmonic_may_be_the_stronger_one() -> None:
    """At 48 bpm it is inside the band of heart rates, where the highest peak is the wrong one."""
    x = harmonics(50, [1.0, 0.9, 0.5]) + 0.2 * np.random.default_rng(1).standard_normal(1000)
    assert beats.spectral_peak_bpm(x, RATE_HZ) == pytest.approx(100, abs=2)
    assert he.harmonic_sum_bpm(x, RATE_HZ) == pytest.approx(50, abs=2)
    assert he.autocorrelation_bpm(x, RATE_HZ) == pytest.approx(50, abs=2)


def test_harmonics_of_breathing_are_rejected() -> None:
    """Sixteen breaths a minute, of which the fourth harmonic is stronger than the heart; in five seconds it is one breath."""
    x = harmonics(16, [30.0, 0.5, 0.2, 1.3]) + harmonics(83, [0.75])
    assert he.breathing_hz(x, RATE_HZ) == pytest.approx(16 / 60, abs=0.01)
    assert beats.spectral_peak_bpm(x, RATE_HZ) == pytest.approx(64, abs=2)
    assert he.autocorrelation_bpm(x, RATE_HZ) == pytest.approx(83, abs=2)
    assert np.array_equal(he.without_breathing(x[:250], RATE_HZ), x[:250])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_the_first_candidate_is_the_spectral_peak(seed: int) -> None:
    x = np.cumsum(np.random.default_rng(seed).standard_normal(600))
    lines = he.spectral_peaks(x, RATE_HZ, count=4)
    assert len(lines.bpm) == len(lines.line_db) <= 4
    assert (np.diff(lines.line_db) <= 0).all()
    assert ((lines.bpm > 47) & (lines.bpm < 121)).all()
    highest = beats.spectral_peak_bpm(x, RATE_HZ)
    if 49 < highest < 119:  # at an edge of the band the highest value may be no peak
        assert lines.bpm[0] == pytest.approx(highest, abs=1e-6)


def test_the_level_of_a_line_is_over_the_median_of_the_band() -> None:
    noise = 0.3 * np.random.default_rng(2).standard_normal(1000)
    weak, strong = (he.spectral_peaks(harmonics(70, [level]) + noise, RATE_HZ) for level in (0.5, 5.0))
    assert strong.bpm[0] == pytest.approx(70, abs=1)
    assert strong.line_db[0] > weak.line_db[0] + 3


def test_an_adapter_offers_them_for_a_sample() -> None:
    """Missing stretches are bridged; candidates come as values of the label."""
    adapter = HeartRateAdapter(INFO)
    x = harmonics(72, [1.0, 0.5], 10)
    valid = np.ones(500, dtype=bool)
    valid[100:110] = False
    x[~valid] = np.nan
    sample = Sample(x[None], valid, None, "g", "file:/record@0", RATE_HZ)
    assert list(adapter.estimators()) == ["spectral peak", "autocorrelation", "harmonic sum"]
    for estimate in adapter.estimators().values():
        assert estimate(sample) == pytest.approx(72, abs=2)
    for choices in adapter.candidates().values():
        assert np.abs(choices(sample) - 72).min() < 2


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_simulated_chests(estimate: Any) -> None:
    """Twelve people that breathe, still; half a minute each: most are found by every estimator."""
    errors = []
    for seed in range(12):
        x, times, _ = chest(np.random.default_rng(seed), 30.0, RATE_HZ, motion=False)
        errors.append(abs(estimate(x, RATE_HZ) - beats.beat_rate_bpm(times, 30.0)))
    assert np.median(errors) < 2.5
    assert np.mean(np.array(errors) < 5) >= 0.75


def test_real_people(radar_person: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> None:
    """Half-minute windows of a person whose spectrum holds the heart: far nearer than the constant of the others, 15 bpm off."""
    x, times = radar_person("subject01")
    for estimate, worst in zip(ESTIMATORS, (2.5, 4.5, 4.5), strict=True):
        errors = []
        for begin in range(0, int(len(x) / RATE_HZ) - 30, 10):
            window = x[round(begin * RATE_HZ) : round((begin + 30) * RATE_HZ)]
            label = beats.beat_rate_bpm(times[(times >= begin) & (times < begin + 30)], 30.0)
            errors.append(abs(estimate(window, RATE_HZ) - label))
        assert len(errors) > 30
        assert np.nanmean(errors) < worst
