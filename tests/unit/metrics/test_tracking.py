"""Values followed along a recording: against the sum over all paths, and on values that are known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.errors import UserError
from maekit.studies.scoring import tracked
from maekit.tracking import JUMP_RATE, Tracker, check_lag, drift_of, log_likelihood_of, median_and_std

VALUES = np.arange(40.0, 141.0)


def every_path(said: Any, time_s: Any, tracker: Tracker, last: int, at: int) -> Any:
    """The distribution at one window from the windows until `last`, summed over all paths one by one."""
    count = len(tracker.values)
    found = np.zeros(count)
    for path in product(range(count), repeat=last + 1):
        weight, spoke = 1.0, -np.inf
        for i, location in enumerate(path):
            if i:
                weight *= tracker._move(time_s[i] - time_s[i - 1])[path[i - 1], location]
            if said[i] is not None:
                weight *= np.exp(said[i][location] * min((time_s[i] - spoke) / tracker.window_s, 1))
                spoke = time_s[i]
        found[path[at]] += weight
    return found / found.sum()


@given(st.floats(0.05, 2), st.sampled_from([0.01, 0.1, 1.0, 7.0]))
def test_moves_are_those_of_a_walk_however_close_windows_lie(drift: float, step_s: float) -> None:
    """Bins 2 % apart: mean and variance in the middle, many small moves are one large one, and it can be anywhere at once."""
    values = np.asarray(40 * 1.02 ** np.arange(90), dtype=np.float64)
    tracker = Tracker(values, drift, 10.0, 0.0)
    move = tracker._move(step_s)
    np.testing.assert_allclose(move.sum(axis=1), 1)
    far = np.abs(values[:, None] - values[None]) > 8 * drift * np.sqrt(step_s) + 12
    assert 0.5 * JUMP_RATE * step_s < move[far].min() < move[far].max() < 1e-4
    near = np.where(far, 0, move)
    near /= near.sum(axis=1, keepdims=True)
    inside = slice(40, 50)
    mean = near @ values
    assert np.abs(mean - values)[inside].max() < 0.02
    variance = (near * (values[None] - mean[:, None]) ** 2).sum(axis=1)[inside]
    np.testing.assert_allclose(
        variance, drift**2 * step_s, rtol=0.03, atol=1500 * JUMP_RATE * step_s
    )  # what is lost also moves
    np.testing.assert_allclose(np.linalg.matrix_power(move, 10), tracker._move(10 * step_s), atol=1e-9)


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
    said = [log_likelihood_of(value, 2.0, VALUES) for value in pointed]
    errors = {}
    for ahead in (0.0, 30.0):
        shares = Tracker(VALUES, 0.5, 1.0, ahead).follow(enumerate(map(np.asarray, said)))
        median, std = np.array([median_and_std(share, VALUES) for share in shares]).T
        errors[ahead] = np.abs(median - true)
        assert np.mean(errors[ahead] < 1.96 * std) > 0.85
    assert errors[30.0].mean() < 1.0
    assert errors[30.0].mean() < errors[0.0].mean() < 3


def test_where_nothing_is_said_the_value_stays_and_is_less_sure() -> None:
    said = [np.asarray(log_likelihood_of(70.0, 1.0, VALUES)) if i < 20 or i > 60 else None for i in range(80)]
    median, std = np.array(
        [median_and_std(s, VALUES) for s in Tracker(VALUES, 0.5, 1.0, 0.0).follow(enumerate(said))]
    ).T
    assert np.abs(median[20:60] - 70).max() < 0.5
    assert (np.diff(std[20:60]) > 0).all()
    assert std[59] > 2 * std[19] > 3 * std[65] / 2


def test_a_window_counts_by_what_it_adds_to_those_that_spoke() -> None:
    """Sixty seconds at 70, sixty without a word, then 82: the first word after the silence is whole, not a tenth."""
    low, high = (np.asarray(log_likelihood_of(value, 1.0, VALUES)) for value in (70.0, 82.0))
    silent = [low] * 60 + [None] * 60 + [high] * 5
    shares = list(Tracker(VALUES, 1.0, 10.0, 0.0).follow(enumerate(silent)))
    left_out = [(i, said) for i, said in enumerate(silent) if said is not None]
    others = list(Tracker(VALUES, 1.0, 10.0, 0.0).follow(left_out))
    np.testing.assert_allclose(shares[120:], others[60:], atol=1e-9)
    assert median_and_std(shares[120], VALUES)[0] > 79
    broken = [low, low * np.nan, low]
    assert np.isfinite(list(Tracker(VALUES, 1.0, 10.0, 5.0).follow(enumerate(broken)))).all()
    same = [(0.0, low), (0.0001, low), (1.0, low)]
    assert np.isfinite(list(Tracker(VALUES, 1.0, 10.0, 5.0).follow(same))).all()


def test_a_model_that_says_only_what_labels_are_like_is_believed() -> None:
    """What a model says is a posterior, taken as a likelihood: the docstring says so; this is how much it is."""
    prior = -(((VALUES - 75) / 12) ** 2) / 2
    told = [
        median_and_std(s, VALUES) for s in Tracker(VALUES, 0.5, 10.0, 30.0).follow((10.0 * i, prior) for i in range(60))
    ]
    assert told[30][0] == pytest.approx(75, abs=0.5)
    assert 1 < told[30][1] < 6, "half of the 12 that are true, or less"


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_what_cannot_be_waited_for_is_named(seconds: float) -> None:
    with pytest.raises(UserError, match="--track"):
        check_lag(seconds)


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


def test_a_method_is_followed_within_each_recording() -> None:
    """Two recordings in one fold, in no order; where the fold does not know how fast labels move nothing happens."""
    rng = np.random.default_rng(0)
    true = np.r_[walk(1), walk(2) + 30]
    position = np.stack([np.repeat([0, 1], 400), np.tile(np.arange(400.0), 2)], axis=1)
    output = np.where(rng.random(800) < 0.3, rng.uniform(45, 135, 800), true + rng.normal(0, 1, 800))
    order = rng.permutation(800)
    result = {
        "index": order.tolist(),
        "label": true[order].tolist(),
        "position": position[order].tolist(),
        "methods": {"peak": output[order].tolist(), "none": [None] * 800},
    }
    result["methods"]["peak"][::50] = [1e9] * 16  # one wild value more or less must not matter
    dynamics = {"window_s": 1.0, "drift": 0.5, "lowest": 50.0, "highest": 120.0}
    found = tracked(result, "peak", dynamics, 30.0, 2.5)
    before, after = (np.median(np.abs(np.array(one["methods"]["peak"]) - true[order])) for one in (result, found))
    assert np.abs(np.array(found["methods"]["peak"]) - true[order]).mean() < 1.5
    assert after < before
    assert tracked(result, "none", dynamics, 30.0, 2.5) == result
    # Its own distribution goes before its outputs.
    said = [(np.zeros(len(VALUES)) - 3 * (round(value) != VALUES)).tolist() for value in true[order]]
    stated = result | {"distribution": {"peak": {"values": VALUES.tolist(), "log_probability": said}}}
    own = tracked(stated, "peak", dynamics, 30.0, 2.5)["methods"]["peak"]
    assert np.abs(np.array(own) - true[order]).mean() < 0.6
