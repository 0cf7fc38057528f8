"""Metrics from sums equal their definitions, and intervals come from resampled groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, root_mean_squared_error

from maekit.metrics.bootstrap import cohorts, interval
from maekit.metrics.classification import classification, classification_from_sums, classification_sums
from maekit.metrics.regression import regression, regression_from_sums, regression_sums


@given(st.integers(0, 1000), st.integers(2, 40), st.sampled_from([0.0, 70.0, -1e4]))
def test_regression_is_as_defined(seed: int, samples: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    label = level + 10 * rng.standard_normal(samples)
    predicted = label + rng.standard_normal(samples)
    error = predicted - label
    found = regression(predicted, label, 0.7)
    assert found["mae"] == pytest.approx(np.abs(error).mean())
    assert found["rmse"] == pytest.approx(root_mean_squared_error(label, predicted))
    assert found["mape"] == pytest.approx(100 * np.mean(np.abs(error / label)))
    assert found["within"] == np.mean(np.abs(error) <= 0.7)
    assert found["r"] == pytest.approx(stats.pearsonr(predicted, label).statistic, abs=1e-6)
    assert found["lower"] == pytest.approx(error.mean() - 1.96 * error.std())
    assert found["upper"] == pytest.approx(error.mean() + 1.96 * error.std())


@pytest.mark.parametrize("constant", [0.0, 71.3, 1e6])
def test_a_constant_correlates_with_nothing(constant: float) -> None:
    label = np.random.default_rng(0).uniform(60, 90, 500)
    assert regression(np.full(500, constant), label, 5)["r"] == 0
    assert regression(label, np.full(500, constant), 5)["r"] == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_classification_is_as_defined(pairs: list[tuple[int, int]]) -> None:
    predicted, label = np.array(pairs).T
    found = classification(predicted, label)
    assert found["accuracy"] == pytest.approx(np.mean(predicted == label))
    if set(predicted) <= set(label) and len(set(label)) > 1:  # scikit-learn warns otherwise
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, predicted))


def sums_of(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(seeds, groups, samples) errors as sums."""
    label = np.linspace(60, 90, errors.shape[-1])
    return np.array([[regression_sums(label + e, label, 5, centre=75) for e in seed] for seed in errors])


def resampled(sums: NDArray[np.float64], from_sums: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Metrics of 2000 cohorts from (seed, group, ...) sums, averaged over seeds."""
    drawn = np.tensordot(cohorts(sums.shape[1], 2000), sums, axes=(1, 1))
    return {name: values.mean(1) for name, values in from_sums(drawn).items()}


def test_sums_of_groups_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((1, 5, 30))
    label = np.tile(np.linspace(60, 90, 30), 5)
    whole = regression(label + errors.ravel(), label, 5)
    together = regression_from_sums(sums_of(errors)[0].sum(0))
    assert {name: float(value) for name, value in together.items()} == pytest.approx(whole)


def test_groups_are_resampled_and_not_windows_or_seeds() -> None:
    """People who differ make a wide interval however many windows each has; more seeds do not make it narrower."""
    rng = np.random.default_rng(1)
    people = rng.standard_normal(8)

    def width(windows: int, seeds: int) -> float:
        errors = np.broadcast_to(people[None, :, None], (seeds, 8, windows)) + 0.01 * rng.standard_normal(
            (seeds, 8, windows)
        )
        found = interval(resampled(sums_of(errors), regression_from_sums)["bias"])
        assert found is not None
        assert found[0] < people.mean() < found[1]
        return found[1] - found[0]

    assert width(10, 1) == pytest.approx(2 * 1.96 * people.std() / np.sqrt(8), rel=0.2)
    assert width(300, 1) == pytest.approx(width(10, 1), rel=0.05)
    assert width(10, 5) == pytest.approx(width(10, 1), rel=0.05)


def test_one_group_has_no_interval_and_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    alone = resampled(sums_of(rng.standard_normal((2, 1, 20))), regression_from_sums)
    assert interval(alone["mae"]) is None
    errors = 5 * rng.standard_normal((1, 6, 1)) + np.zeros((1, 6, 20))
    one, other = (resampled(sums_of(e), regression_from_sums)["bias"] for e in (errors, errors + 0.1))
    low, high = np.quantile(other - one, [0.025, 0.975])
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)


def test_classification_intervals() -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, (6, 40))
    predicted = np.where(rng.random((6, 40)) < 0.7, label, 0)
    sums = np.array([[classification_sums(p, y, 3) for p, y in zip(predicted, label, strict=True)]])
    found = resampled(sums, classification_from_sums)
    low, high = interval(found["accuracy"]) or (0, 0)
    assert low < np.mean(predicted == label) < high
    assert found["balanced_accuracy"].shape == (2000,)
