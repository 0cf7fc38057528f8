"""Average precision and recall of objects, by how alike they are to the true ones.

AP and AR as in COCO (Lin et al., 2014), with object location similarity in place of overlap as in RODNet (Wang et al., 2021): the
thresholds are 0.5, 0.55, ..., 0.9, precision is interpolated at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.metrics.similarity import Similarity

Array = Any
THRESHOLDS = np.linspace(0.5, 0.9, 9)
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Matches:
    """What came of putting detections beside true objects, one entry a detection in all samples.

    Attributes:
        score, kind: of each detection.
        group: number of the group that its sample belongs to.
        right: (detection, threshold) whether it was given a true object.
        truth: (group, class) how many true objects there are.
    """

    score: NDArray[np.float64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    right: NDArray[np.bool_]
    truth: NDArray[np.float64]


def match(
    detections: Sequence[Array],
    objects: Sequence[Array],
    group: NDArray[np.int64],
    groups: int,
    classes: int,
    similarity: Similarity,
) -> Matches:
    """Give each detection, the surest first, the most alike true object of its class that is still free, at each threshold.

    Args:
        detections: of each sample (detection, columns..., class, score).
        objects: of each sample (object, columns..., class).
        group: of each sample, a number below `groups`.
        groups: how many.
        classes: how many.
        similarity: of two objects.
    """
    truth = np.zeros((groups, classes))
    scores, kinds, of, rights = [], [], [], []
    for found, true, number in zip(detections, objects, group.tolist(), strict=True):
        found, true = np.asarray(found, dtype=np.float64), np.asarray(true, dtype=np.float64)
        kind_of_true = true[:, -1].astype(np.int64) if len(true) else np.zeros(0, dtype=np.int64)
        np.add.at(truth[number], kind_of_true, 1)
        if not len(found):
            continue
        found = found[np.argsort(-found[:, -1], kind="stable")]
        kind = found[:, -2].astype(np.int64)
        right = np.zeros((len(found), len(THRESHOLDS)), dtype=bool)
        if len(true):
            one, other = torch.from_numpy(true)[None, :, :-1], torch.from_numpy(found)[:, None, :-2]
            alike = similarity(one, other, torch.from_numpy(kind_of_true)[None]).numpy()
            alike = np.where(kind[:, None] == kind_of_true, alike, -1.0)
            for t, threshold in enumerate(THRESHOLDS):
                right[:, t] = _greedy(alike, threshold)
        scores.append(found[:, -1])
        kinds.append(kind)
        of.append(np.full(len(found), number))
        rights.append(right)
    if not scores:
        nothing = np.zeros(0)
        return Matches(
            nothing, nothing.astype(np.int64), nothing.astype(np.int64), np.zeros((0, len(THRESHOLDS)), bool), truth
        )
    return Matches(np.concatenate(scores), np.concatenate(kinds), np.concatenate(of), np.concatenate(rights), truth)


def _greedy(alike: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which detections (rows, the surest first) get a true object (column) at least so alike, each given once."""
    free = np.ones(alike.shape[1], dtype=bool)
    right = np.zeros(len(alike), dtype=bool)
    for i, row in enumerate(alike):
        candidates = np.where(free, row, -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= threshold:
            free[best], right[i] = False, True
    return right


def precision_and_recall(found: Matches, weight: NDArray[np.float64], classes: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a cohort in which each group counts so many times.

    - `ap`, `ar`: means over the classes that occur, of means over thresholds. Recall is what all detections together reach.
    - `ap_counted`, `ar_counted`: the same, each class counting as often as it occurs.
    - `ap50`: at the threshold 0.5 alone.
    - `ap_NAME`: of each class, where names are given; 0 where it does not occur.

    Args:
        found: see `match`.
        weight: of each group.
        classes: their names.
    """
    truth = weight @ found.truth
    precision, recall = by_class(found, weight)
    occurs, share = truth > 0, truth / max(truth.sum(), 1e-12)
    ap, ar = precision.mean(1), recall.mean(1)
    many = max(int(occurs.sum()), 1)
    metrics = {
        "ap": ap[occurs].sum() / many,
        "ar": ar[occurs].sum() / many,
        "ap_counted": (ap * share).sum(),
        "ar_counted": (ar * share).sum(),
        "ap50": precision[occurs, 0].sum() / many,
        **{f"ap_{name}": value for name, value in zip(classes, ap, strict=False)},
    }
    return {name: float(value) for name, value in metrics.items()}


def by_class(found: Matches, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(class, threshold) average precision, and the recall that all detections together reach; 0 of a class that does not occur."""
    truth = weight @ found.truth
    precision = np.zeros((len(truth), len(THRESHOLDS)))
    recall = np.zeros_like(precision)
    for number in np.flatnonzero(truth > 0):
        curve = curve_of(found, weight, int(number))
        if not len(curve.score):
            continue
        for t in range(len(THRESHOLDS)):
            at = np.searchsorted(curve.recall[:, t], RECALLS, side="left")
            best = curve.best[:, t]
            precision[number, t] = np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0).mean()
        recall[number] = curve.recall[-1]
    return precision, recall


@dataclass(frozen=True)
class Curve:
    """Of one class, as detections are counted down to ever smaller scores.

    Attributes:
        score: of each detection, falling.
        recall, precision: (detection, threshold) with all down to it.
        best: the highest precision there or at any larger recall.
    """

    score: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    best: NDArray[np.float64]


def curve_of(found: Matches, weight: NDArray[np.float64], number: int) -> Curve:
    """Of the class `number`, which occurs; empty where nothing was detected of it."""
    order = np.argsort(-found.score, kind="stable")
    mine = order[found.kind[order] == number]
    counted = weight[found.group[mine]]
    if not counted.any():
        mine, counted = mine[:0], counted[:0]
    right = np.cumsum(found.right[mine] * counted[:, None], axis=0)
    total = np.cumsum(counted)[:, None]
    purity = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
    best = np.maximum.accumulate(purity[::-1], axis=0)[::-1]
    return Curve(found.score[mine], right / (weight @ found.truth)[number], purity, best)
