"""Label kinds: what their metrics are worth, and that a report's verdict follows the direction of the primary one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maekit.tasks.label_kinds.base import LabelKind
from maekit.tasks.label_kinds.classes import ClassLabels
from maekit.tasks.label_kinds.values import ValueLabels


def test_smaller_errors_and_larger_accuracies_are_better() -> None:
    values, classes = ValueLabels(unit="bpm"), ClassLabels(["a", "b"])
    assert values.is_better(1.0, 2.0)
    assert not values.is_better(2.0, 1.0)
    assert values.is_better(0.9, 0.5, "within")
    assert classes.is_better(0.9, 0.5)
    assert not classes.is_better(0.5, 0.9)
    assert not classes.is_better(0.5, 0.5)


@pytest.mark.parametrize(
    ("kind", "labels"), [(ValueLabels(unit="bpm"), [60.0, 70.0, 80.0, 61.0]), (ClassLabels("ab"), [0, 1, 1, 0])]
)
def test_perfect_predictions_score_best(kind: LabelKind, labels: list[float]) -> None:
    truth = np.array(labels)
    perfect, wrong = kind.score(truth, truth), kind.score(np.roll(truth, 1), truth)
    assert kind.is_better(perfect[kind.primary], wrong[kind.primary])


@pytest.mark.parametrize(("mae", "good"), [(1.0, True), (30.0, False)])
def test_a_verdict_is_good_only_beyond_the_constant(mae: float, good: bool) -> None:
    """The training median is 70 bpm, which is off by 10 for both test samples."""
    kind = ValueLabels(unit="bpm")
    data: Any = SimpleNamespace(
        labels=np.array([60.0, 70.0, 80.0, 60.0, 80.0]),
        split={"train": np.arange(3), "test": np.array([3, 4])},
        adapter=SimpleNamespace(estimators=dict),
        source=None,
    )
    rows = {"index": np.array([3, 4]), "output": np.array([60.0 + mae, 80.0 + mae])}
    metrics = kind.score(rows["output"], data.labels[rows["index"]])
    section = kind.report(data, rows, metrics, "test")
    assert section.verdict.good is good
    assert f"{mae:.3f} bpm" in section.verdict.text
