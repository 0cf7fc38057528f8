"""Predictions of jobs become methods: joined over folds, smoothed within recordings, filled, compared in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maekit.studies.scoring import Predictions, Scored, concatenate_folds, stated_uncertainty
from maekit.studies.scoring import scored as scored_values
from maekit.tasks.label_kinds.classes import ClassLabels
from maekit.tasks.label_kinds.values import ValueLabels

VALUES = ValueLabels(within=5)


def windows(output: list[float], recording: list[int] | None = None, start: list[int] | None = None) -> Predictions:
    count = len(output)
    position = np.stack([recording or [0] * count, start or list(range(0, 100 * count, 100))], axis=1)
    return Predictions(
        np.arange(count), np.array(output, dtype=float), np.full(count, 70.0), np.array(["p"] * count), position
    )


NAN = float("nan")


@pytest.mark.parametrize(
    ("output", "more", "expected"),
    [
        ([70, 71, 150, 72, 73], {}, [70.5, 71, 72, 73, 72.5]),
        ([70, NAN, 72, 150, NAN, NAN, NAN], {}, [70, 71, 111, 111, 150, NAN, NAN]),
        ([60, 61, 90, 91], {"recording": [0, 0, 1, 1]}, [60.5, 60.5, 90.5, 90.5]),  # not across recordings
        ([60, 61, 62, 90, 91], {"start": [0, 100, 200, 900, 1000]}, [60.5, 61, 61.5, 90.5, 90.5]),  # nor a pause
        ([62, 60, 61], {"start": [200, 0, 100]}, [61.5, 60.5, 61]),  # in time order, whatever the order of samples
    ],
)
def test_running_median(output: list[float], more: dict[str, Any], expected: list[float]) -> None:
    np.testing.assert_allclose(windows(output, **more).smoothed(3).output, expected)


@given(st.lists(st.floats(40, 120), min_size=1, max_size=30), st.sampled_from([1, 3, 5, 9]))
def test_smoothing_stays_within_what_there_was(output: list[float], count: int) -> None:
    found = windows(output).smoothed(count).output
    assert min(output) <= found.min() <= found.max() <= max(output)
    if count == 1:
        np.testing.assert_array_equal(found, output)


def test_the_constant_stands_in() -> None:
    constant = windows([65, 66, 67])
    np.testing.assert_array_equal(windows([NAN, 80, NAN]).filled(constant, VALUES).output, [65, 80, 67])


def result(outputs: dict[str, list[float | None]], group: str, **more: Any) -> dict[str, Any]:
    count = len(next(iter(outputs.values())))
    return {
        "index": list(range(count)),
        "label": [70.0] * count,
        "groups": [group],
        "group": [0] * count,
        "position": [[0, i] for i in range(count)],
        "methods": outputs,
        **more,
    }


def test_folds_are_joined_with_their_own_labels_and_uncertainty() -> None:
    folds = [
        result({"a": [1.0, None], "b": [1.0, 2.0]}, "p1", labels={"b": [5.0, 6.0]}, uncertainty={"a": [0.5, 1.0]}),
        result({"a": [3.0], "b": [3.0]}, "p2", labels={"b": [7.0]}, uncertainty={"a": [2.0]}),
    ]
    a, b = concatenate_folds(folds, "a", VALUES), concatenate_folds(folds, "b", VALUES)
    np.testing.assert_array_equal(a.output, [1, NAN, 3])
    np.testing.assert_array_equal(a.label, [70, 70, 70])
    np.testing.assert_array_equal(b.label, [5, 6, 7])
    assert a.group.tolist() == ["p1", "p1", "p2"]
    assert a.uncertainty is not None
    assert a.uncertainty.tolist() == [0.5, 1, 2]
    assert b.uncertainty is None
    folds[1].pop("uncertainty")
    some = concatenate_folds(folds, "a", VALUES).uncertainty
    assert some is not None
    assert stated_uncertainty(concatenate_folds(folds, "a", VALUES)) == {}
    np.testing.assert_array_equal(some, [0.5, 1, NAN])


def scored(name: str, offset: float, sd: float | None = None) -> Scored:
    rng = np.random.default_rng(0)
    label = rng.uniform(60, 90, 200)
    error = offset + 2 * rng.standard_normal(200)
    group = np.repeat(["p1", "p2", "p3", "p4"], 50)
    stated = None if sd is None else np.full(200, sd)
    one = Predictions(np.arange(200), label + error, label, group, None, stated)
    return scored_values(name, "trained", [one, one], VALUES)


def test_arms_and_their_difference() -> None:
    good, bad = scored("good", 0.0), scored("bad", 10.0)
    method = good.method()
    assert list(method.groups) == ["p1", "p2", "p3", "p4"]
    assert method.mean("mae") == pytest.approx(np.mean([found["mae"] for found in method.groups.values()]))
    assert method.spread("mae") == 0
    low, high = method.intervals["mae"] or (NAN, NAN)
    assert low < method.mean("mae") < high
    difference = bad.less(good)
    assert (difference.one, difference.other) == ("bad", "good")
    assert difference.mean("bias") == pytest.approx(10)
    low, high = difference.intervals["bias"] or (10, 10)
    assert low == pytest.approx(10)
    assert high == pytest.approx(10)


def test_a_stated_uncertainty_is_judged() -> None:
    right, sure = scored("right", 0, 2.0).rows[0], scored("sure", 0, 0.1).rows[0]
    assert right["covered"] == pytest.approx(0.95, abs=0.04)
    assert sure["covered"] < 0.2
    assert "covered" not in scored("none", 0).rows[0]


def test_classes() -> None:
    label = np.array([0, 1, 2, 1])
    one = Predictions(np.arange(4), np.array([0, 1, 1, 1]), label, np.array(["a", "a", "b", "b"]), None)
    method = scored_values("c", "trained", [one], ClassLabels(["x", "y", "z"])).method()
    assert method.mean("accuracy") == 0.75
    assert method.mean("balanced_accuracy") == pytest.approx(2 / 3)
    assert method.groups["a"]["accuracy"] == 1
