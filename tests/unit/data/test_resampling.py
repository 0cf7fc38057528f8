"""Clocks become grids: what was measured keeps its time, pauses are missing, and resampling bridges none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.data.convert.timing import clocked, resample, steady


@settings(max_examples=50, deadline=None)
@given(st.integers(60, 400), st.integers(60, 400), st.integers(6, 500), st.integers(0, 2**32 - 1))
def test_rows_left_out_of_a_steady_clock_are_missing(before: int, after: int, pause: int, seed: int) -> None:
    """Stamps quantised as a desktop clock does, late by up to 20 ms: what was measured stays at its time."""
    rng = np.random.default_rng(seed)
    position = np.r_[np.arange(before), before + pause + np.arange(after)]
    late = position / 50 + rng.exponential(0.004, len(position)).clip(0, 0.02)
    stamps = np.maximum.accumulate(np.round((1.7e9 + late) * 64) / 64)
    found = clocked(position.astype(np.float32), stamps, 50, "here")
    assert len(found.values) == position[-1] + 1
    measured = np.isfinite(found.values)
    assert measured.sum() == len(position)
    assert np.array_equal(np.asarray(found.values)[measured], np.flatnonzero(measured))
    assert found.start_s == pytest.approx(1.7e9, abs=0.03, rel=0)


def test_a_late_stamp_that_is_caught_up_is_no_pause() -> None:
    stamps = np.arange(500) / 50
    stamps[200:210] = stamps[210]
    found = clocked(np.arange(500), stamps, 50, "here")
    assert found.values.dtype.kind == "i"
    assert np.array_equal(found.values, np.arange(500))


def test_resampling_keeps_a_slow_wave_removes_a_fast_one_and_bridges_nothing() -> None:
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.uniform(0.008, 0.012, 4000))
    stamps[2000:] += 5
    slow, fast = np.sin(2 * np.pi * 0.5 * stamps), np.sin(2 * np.pi * 17 * stamps)
    found = resample(np.stack([slow, fast], axis=-1), stamps, 20)
    times = stamps[0] + np.arange(len(found.values)) / 20
    pause = (times > stamps[1999]) & (times < stamps[2000])
    assert np.isnan(np.asarray(found.values)[pause]).all()
    assert np.isfinite(np.asarray(found.values)[~pause]).all()
    inner = ~pause & (np.abs(times - stamps[1999]) > 1) & (np.abs(times - stamps[2000]) > 1)
    inner &= (times > times[0] + 1) & (times < times[-1] - 1)
    assert np.abs(np.asarray(found.values)[inner, 0] - np.sin(2 * np.pi * 0.5 * times[inner])).max() < 0.02
    assert np.abs(np.asarray(found.values)[inner, 1]).max() < 0.05, "17 Hz would fold to 3 Hz"
    assert found.rows is not None
    assert np.abs(stamps[found.rows] - times)[~pause].max() < 0.02
    assert resample(np.exp(1j * stamps), stamps, 20).values.dtype.kind == "c"


def test_resampling_spreads_no_missing_value_and_fills_none() -> None:
    stamps = np.cumsum(np.random.default_rng(0).uniform(0.008, 0.012, 2000))
    values = np.stack([np.sin(stamps), np.cos(stamps)], axis=-1)
    values[500:503, 0] = values[900:1100, 0] = np.nan
    found = resample(values, stamps, 100)
    times = stamps[0] + np.arange(len(found.values)) / 100
    lost = np.isnan(np.asarray(found.values)[:, 0])
    assert found.rows is not None
    assert np.array_equal(lost, np.isnan(values[found.rows, 0]))
    assert 200 < lost.sum() < 206
    assert np.abs(np.asarray(found.values)[~lost, 0] - np.sin(times[~lost])).max() < 0.01
    assert np.isfinite(np.asarray(found.values)[:, 1]).all()


def test_a_rate_comes_from_all_stamps() -> None:
    stamps = 1.7e9 + np.arange(1000, dtype=np.float64) * 0.01
    stamps[1:-1] += np.random.default_rng(0).uniform(-2e-5, 2e-5, 998)
    assert steady(np.zeros(1000), stamps, "").rate_hz == pytest.approx(100, rel=1e-6)
