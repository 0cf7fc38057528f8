"""Predictions without a network: the adapter's estimators and a constant, and the metrics of the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.build.experiment import Experiment
from maekit.metrics import scores as metrics

if TYPE_CHECKING:
    from maekit.adapter import Estimator


Array = Any


def estimates(experiment: Experiment, estimate: Estimator) -> Array:
    """What an estimator says of each sample of the test split; NaN where it says nothing."""
    return np.array([estimate(experiment.source[int(i)]) for i in experiment.split["test"]], dtype=np.float64)


def constant(experiment: Experiment) -> tuple[str, Array]:
    """The median (for classes the most frequent) training label for every sample of the test split, and its name."""
    labels, count = experiment.labels[experiment.split["train"]], len(experiment.split["test"])
    if experiment.source.classes:
        values, counts = np.unique(labels, return_counts=True)
        return "constant (most frequent class)", np.full(count, values[counts.argmax()])
    return "constant (median of training)", np.full(count, float(np.median(labels)))


def without_learning(experiment: Experiment) -> dict[str, Array]:
    """Predictions on the test split that nothing was learned for: the adapter's estimators, and a constant.

    Where an estimator gives none (NaN), the constant stands in.
    """
    name, values = constant(experiment)
    found: dict[str, Array] = {}
    if not experiment.source.classes:
        for other, estimate in experiment.adapter.estimators().items():
            estimated = estimates(experiment, estimate)
            found[other] = np.where(np.isfinite(estimated), estimated, values)
    return found | {name: values}


def score(experiment: Experiment, predicted: Array, label: Array, within: float = 5.0) -> dict[str, float]:
    """The metrics that go with the labels of a recipe."""
    return (
        metrics.classification(predicted, label)
        if experiment.source.classes
        else metrics.regression(predicted, label, within)
    )


def shown_metrics(experiment: Experiment) -> list[str]:
    """Those that a short table has."""
    return ["accuracy", "balanced_accuracy"] if experiment.source.classes else ["mae", "rmse", "within", "r"]
