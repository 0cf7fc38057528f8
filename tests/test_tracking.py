"""Values followed along a recording: against the sum over all paths, and on values that are known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.scoring import followed
from maekit.tasks.tracking import LOST, Tracker, around, drift_of, median_and_std

VALUES = np.arange(40.0, 141.0)


def every_path(said: Any, time_s: Any, tracker: Tracker, last: int, at: int) -> Any:
    """The distribution at one window from the windows until `last`, summed over all paths one by one."""
    count = len(tracker.values)
    found = np.zeros(count)
    for path in product(range(count), repeat=last + 1):
        weight = 1.0
        for i, place in enumerate(path):
            step = tracker.window_s if i == 0 else time_s[i] - time_s[i - 1]
            if i:
                away = (tracker.values - tracker.values[path[i - 1]]) / (tracker.drift * step**0.5)
                move = np.exp(-(away**2) / 2) + LOST
                weight *= move[place] / move.sum()
            if said[i] is not None:
                weight *= np.exp(said[i][place] * min(step / tracker.window_s, 1))
        found[path[at]] += weight
    return found / found.sum()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 2.5, 100.0]), st.floats(0.2, 3))
def test_equals_the_sum_over_all_paths(seed: int, ahead_s: float, drift: float) -> None:
    rng = np.random.default_rng(seed)
    time_s = np.cumsum(rng.choice([0.5, 1.0, 3.0, 12.0], 5))
    said = [None if rng.random() < 0.2 else rng.normal(0, 2, 4) for _ in time_s]
    tracker = Tracker(np.array([60.0, 61.0, 63.0, 66.0]), drift, 4.0, ahead_s)
    for at, share in enumerate(tracker.follow(zip(time_s, said, strict=True))):
        last = int(np.flatnonzero(time_s <= time_s[at] + ahead_s + 1e-9)[-1])
        np.testing.assert_allclose(share, every_path(said, time_s, tracker, last, at), atol=1e-9)


def test_each_is_told_as_soon_as_it_can_be_and_no_more_is_kept() -> None:
    taken = []

    def windows() -> Any:
        for i in range(1000):
            taken.append(i)
            yield float(i), None

    told = Tracker(VALUES, 1.0, 10.0, 5.0).follow(windows())
    for i in range(900):
        next(told)
        assert taken[-1] <= i + 6


def walk(seed: int, seconds: int = 400, drift: float = 0.5) -> Any:
    return np.clip(75 + np.cumsum(np.random.default_rng(seed).normal(0, drift, seconds)), 45, 135)


def test_what_is_wrong_at_times_is_followed_through() -> None:
    """A third of the windows say anything, and eight on end the same; those around them, and those ahead, know better."""
    rng, true = np.random.default_rng(1), walk(0)
    pointed = np.where(rng.random(len(true)) < 0.35, rng.uniform(45, 135, len(true)), true + rng.normal(size=len(true)))
    pointed[200:208] = 110
    said = [around(value, 2.0, VALUES) for value in pointed]
    errors = {}
    for ahead in (0.0, 30.0):
        shares = Tracker(VALUES, 0.5, 1.0, ahead).follow(enumerate(map(np.asarray, said)))
        median, std = np.array([median_and_std(share, VALUES) for share in shares]).T
        errors[ahead] = np.abs(median - true)
        assert np.mean(errors[ahead] < 1.96 * std) > 0.85
    assert errors[30.0].mean() < 1.0
    assert errors[30.0].mean() < errors[0.0].mean() < 3


def test_where_nothing_is_said_the_value_stays_and_is_less_sure() -> None:
    said = [np.asarray(around(70.0, 1.0, VALUES)) if i < 20 or i > 60 else None for i in range(80)]
    median, std = np.array(
        [median_and_std(s, VALUES) for s in Tracker(VALUES, 0.5, 1.0, 0.0).follow(enumerate(said))]
    ).T
    assert np.abs(median[20:60] - 70).max() < 0.5
    assert (np.diff(std[20:60]) > 0).all()
    assert std[59] > 2 * std[19] > 3 * std[65] / 2


@pytest.mark.parametrize(("window_s", "hop_s"), [(10, 1), (10, 10), (10, 4), (5, 7), (5, 30)])
def test_drift_is_that_of_the_walk(window_s: int, hop_s: int) -> None:
    """Labels are averages over windows, as of heart rates from the beats within one."""
    found = []
    for seed in range(12):
        values = walk(seed, 3000, 0.3)
        start = np.arange(0, len(values) - window_s, hop_s)
        label = np.array([values[i : i + window_s].mean() for i in start])
        order = np.random.default_rng(seed).permutation(len(start))  # windows need not be in order
        found.append(drift_of(label[order], np.zeros(len(start)), start[order].astype(float), float(window_s)))
    assert np.mean(found) == pytest.approx(0.3, rel=0.12)


def test_drift_needs_labels_of_one_recording() -> None:
    assert np.isnan(drift_of(np.array([60.0, 70.0]), np.array([0, 1]), np.array([0.0, 10.0]), 10.0))
    assert drift_of(np.full(5, 60.0), np.zeros(5), 10.0 * np.arange(5), 10.0) == 0


def test_median_lies_where_half_of_it_is() -> None:
    share = np.zeros(len(VALUES))
    share[[20, 21, 80]] = 0.4, 0.4, 0.2
    median, _ = median_and_std(share, VALUES)
    assert median == pytest.approx(60.75)


def test_an_arm_is_followed_within_each_recording() -> None:
    """Two recordings in one fold, in no order; where the fold does not know how fast labels move nothing happens."""
    rng = np.random.default_rng(0)
    true = np.r_[walk(1), walk(2) + 30]
    position = np.stack([np.repeat([0, 1], 400), np.tile(np.arange(400.0), 2)], axis=1)
    output = np.where(rng.random(800) < 0.3, rng.uniform(45, 135, 800), true + rng.normal(0, 1, 800))
    order = rng.permutation(800)
    result = {
        "index": order.tolist(), "label": true[order].tolist(), "position": position[order].tolist(),
        "arms": {"peak": output[order].tolist(), "none": [None] * 800}, "pace": {"window_s": 1.0, "drift": 0.5},
    }  # fmt: skip
    found = followed(result, "peak", 30.0, 2.5)
    before, after = (np.abs(np.array(one["arms"]["peak"]) - true[order]).mean() for one in (result, found))
    assert after < 1.5 < 5 < before
    assert followed(result, "none", 30.0, 2.5) == result
    assert followed(result | {"pace": None}, "peak", 30.0, 2.5)["arms"] == result["arms"]
    # Its own distribution goes before its outputs.
    said = [(np.zeros(len(VALUES)) - 3 * (round(value) != VALUES)).tolist() for value in true[order]]
    stated = result | {"distribution": {"peak": {"values": VALUES.tolist(), "log_probability": said}}}
    own = followed(stated, "peak", 30.0, 2.5)["arms"]["peak"]
    assert np.abs(np.array(own) - true[order]).mean() < 0.6
