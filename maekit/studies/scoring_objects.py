"""From the detections of many jobs to the metrics of a method, with intervals that come from groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.metrics.average_precision import match, precision_and_recall
from maekit.metrics.scores import cohorts
from maekit.studies.scoring import Scored

if TYPE_CHECKING:
    from maekit.metrics.similarity import Similarity
    from maekit.studies.jobs import Result
    from maekit.studies.results import Kind

DRAWS = 500
"""Cohorts: each takes all detections to be sorted and counted anew."""


def scored_objects(
    name: str, kind: Kind, per_seed: Sequence[Sequence[Result]], *, classes: Sequence[str], similarity: Similarity
) -> Scored:
    """Of objects in every sample.

    Args:
        name: of the method in the results.
        kind: see `Method`.
        per_seed: the results of all folds of each seed.
        classes: their names.
        similarity: of two objects.
    """
    groups = sorted({group for found in per_seed[0] for group in found["groups"]})
    weights = cohorts(len(groups), DRAWS)
    rows, of_group, drawn = [], [], []
    for folds in per_seed:
        detections, objects, group = [], [], []
        for found in folds:
            detections += [_rows(one) for one in found["methods"][name]]
            objects += [_rows(one) for one in found["label"]]
            group += [groups.index(found["groups"][number]) for number in found["group"]]
        matched = match(detections, objects, np.array(group), len(groups), len(classes), similarity)
        rows.append(precision_and_recall(matched, np.ones(len(groups)), classes))
        of_group.append([precision_and_recall(matched, one, classes) for one in np.eye(len(groups))])
        drawn.append([precision_and_recall(matched, weight, classes) for weight in weights])
    by_group = {
        group: {metric: float(np.mean([seed[i][metric] for seed in of_group])) for metric in rows[0]}
        for i, group in enumerate(groups)
    }
    cohort = {metric: np.array([[one[metric] for one in seed] for seed in drawn]).mean(0) for metric in rows[0]}
    return Scored(name, kind, rows, by_group, cohort)


def _rows(values: list[list[float]]) -> Any:
    return np.array(values, dtype=np.float64)
