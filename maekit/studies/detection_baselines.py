"""Objects found without training a network: an adapter's detector, and a shallow classifier of what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.build.models import plane_of
from maekit.errors import UserError
from maekit.metrics.average_precision import THRESHOLDS
from maekit.tasks.confidence import confidence, peaks
from maekit.tasks.detection import EXTENT, present, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Detector
    from maekit.build.experiment import Experiment
    from maekit.metrics.similarity import Similarity

Array = Any
BUMP = 2.0
"""Cells, of the bumps that objects of training are counted with in `constant`."""
LEAST = 0.01
"""Probability below which a class of a detection is not said at all."""


def detect(experiment: Experiment, detector: Detector, side: str, *, boxes: bool = False) -> list[Array]:
    """What a detector finds, every detection of the class that is the most frequent among the training objects.

    Args:
        experiment: data with labels that are tables of objects.
        detector: of the adapter.
        side: of the split.
        boxes: with extents, for likeness by overlap.

    Returns:
        Of each sample of the side (detection, columns): both coordinates, with `boxes` both extents, class, score; see
        `maekit.metrics.average_precision.match`.

    Raises:
        UserError: no objects in the data, or boxes of a detector that has no extents.
    """
    kinds = np.concatenate([one[:, -1] for one in objects(experiment, "train")])
    usual = np.bincount(kinds.astype(np.int64)).argmax() if len(kinds) else 0
    columns = _columns(experiment, detector, boxes)
    return [
        np.column_stack([rows[:, columns], np.full(len(rows), float(usual)), rows[:, 2]])
        for rows in _found(experiment, detector, side)
    ]


def detect_and_classify(
    experiment: Experiment, detector: Detector, side: str, similarity: Similarity, *, boxes: bool = False
) -> list[Array]:
    """What a detector finds, of every class with the probability that a logistic regression gives it.

    On the training samples each detection is given the most alike free object, the surest detection first, where they are alike
    by 0.5 or more (with the tolerance of the object's class); what gets none is nothing. The regression over the classes and
    nothing is on the standardised score and features. A class also learns where its centre lies, for a body may reach far behind
    what is detected of it: the median of what both coordinates are off on the training samples is added.

    Args:
        experiment, detector, side, boxes: as in `detect`.
        similarity: of two objects.

    Returns:
        As `detect`; a detection is there once for each class of a probability of 0.01 or more, which is its score.

    Raises:
        UserError: as `detect`.
    """
    columns = _columns(experiment, detector, boxes)
    found, true = _found(experiment, detector, "train"), objects(experiment, "train", boxes=boxes)
    kinds, apart = [], [np.zeros((0, 2))]
    for rows, ours in zip(found, true, strict=True):
        given = matched(rows[:, [*columns, 2]], ours, similarity)
        there = given >= 0
        kinds.append(np.full(len(rows), -1))
        kinds[-1][there] = ours[given[there], -1]
        apart.append(ours[given[there], :2] - rows[there, :2])
    known, kind_of, off = (
        np.concatenate([_features(rows) for rows in found]),
        np.concatenate(kinds),
        np.concatenate(apart),
    )
    shift = {kind: np.median(off[kind_of[kind_of >= 0] == kind], axis=0) for kind in set(kind_of.tolist()) - {-1}}
    probability = _classifier(known, kind_of)
    said = []
    for rows in _found(experiment, detector, side):
        each = [np.zeros((0, len(columns) + 2))]
        for kind, values in probability(_features(rows)).items():
            sure = values >= LEAST
            where = rows[sure][:, columns]
            where[:, :2] += shift[kind]
            each.append(np.column_stack([where, np.full(sure.sum(), float(kind)), values[sure]]))
        said.append(np.concatenate(each))
    return said


def constant(experiment: Experiment, *, boxes: bool = False) -> Array:
    """The same objects for any sample: the places where those of each class were most often in training, and how often.

    Returns:
        (object, columns) as of `detect`; with `boxes` all have the median extents of training.
    """
    plane, most = plane_of(experiment), 20
    true = [torch.from_numpy(rows) for rows in objects(experiment, "train", boxes=boxes)]
    if not any(len(rows) for rows in true):
        return np.zeros((0, 6 if boxes else 4))
    together = torch.nn.utils.rnn.pad_sequence(true, batch_first=True, padding_value=torch.nan)
    classes = len(experiment.source.classes or ("object",))
    total = torch.zeros(classes, *plane.shape)
    for some in torch.split(together, 64):
        cells, kinds = plane.cells(some[..., :2]).float(), some[..., -1].nan_to_num().long()
        total += confidence(cells, torch.full(cells.shape[:2], BUMP), kinds, plane.shape, classes).sum(0)
    cells, kind, score = (found[0] for found in peaks(total[None] / len(true), most, 0.0))
    extents = together[..., 2:-1].flatten(0, 1).nanmedian(0).values.expand(len(cells), -1)
    rows = torch.cat([plane.at(cells), extents, kind[:, None], score[:, None]], 1)
    return rows[score > 0].numpy()


def objects(experiment: Experiment, side: str, *, boxes: bool = False) -> list[Array]:
    """Of each sample of a side the true objects: both coordinates, with `boxes` both extents, class (0 where there are none).

    Raises:
        UserError: no tables of objects, or a column that they lack.
    """
    return objects_of(experiment, experiment.split[side], boxes=boxes)


def objects_of(experiment: Experiment, indices: NDArray[np.int64], *, boxes: bool = False) -> list[Array]:
    """As `objects`, of samples by their indices in the source."""
    names = experiment.source.objects
    if names is None:
        raise UserError(
            "labels that are no objects", location=experiment.spec.name, expected="`label.objects` in the data spec"
        )
    plane = plane_of(experiment)
    missing = [
        name for name in (*plane.axes, *(f"{axis}{EXTENT}" for axis in plane.axes if boxes)) if name not in names
    ]
    if missing:
        raise UserError(
            "objects without a column",
            location=experiment.spec.name,
            value=", ".join(missing),
            expected=f"one of {', '.join(names)}",
        )
    table = torch.from_numpy(np.asarray(experiment.labels[indices], dtype=np.float64))
    return present(shown(table, names, plane, boxes=boxes).numpy())


def matched(found: Array, true: Array, similarity: Similarity) -> NDArray[np.int64]:
    """Of each detection the number of the object that it is given, -1 where it is given none.

    Args:
        found: (detection, columns..., score).
        true: (object, columns..., class).
        similarity: of two objects.
    """
    given = np.full(len(found), -1)
    if not len(found) or not len(true):
        return given
    of = torch.from_numpy(true[:, -1].astype(np.int64))[None]
    one, other = torch.from_numpy(true)[None, :, :-1], torch.from_numpy(found)[:, None, :-1]
    alike = similarity(one, other, of).numpy()
    free = np.ones(len(true), dtype=bool)
    for row in np.argsort(-found[:, -1], kind="stable"):
        candidates = np.where(free, alike[row], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= THRESHOLDS[0]:
            free[best], given[row] = False, best
    return given


def _classifier(features: Array, kinds: NDArray[np.int64]) -> Any:
    """From features (detection, feature) to the probability of each class but nothing."""
    seen = sorted(set(kinds.tolist()))
    if len(seen) < 2:  # nothing to tell apart
        return lambda rows: {kind: np.ones(len(rows)) for kind in seen if kind >= 0}
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, kinds)

    def probability(rows: Array) -> dict[int, Array]:
        values = model.predict_proba(rows) if len(rows) else np.zeros((0, len(seen)))
        return {kind: values[:, i] for i, kind in enumerate(seen) if kind >= 0}

    return probability


def _features(rows: Array) -> Array:
    """Score and features of detections."""
    return rows[:, 2:]


def _found(experiment: Experiment, detector: Detector, side: str) -> list[Array]:
    return [detector.find(experiment.source[int(i)]) for i in experiment.split[side]]


def _columns(experiment: Experiment, detector: Detector, boxes: bool) -> list[int]:
    """Of a detection: its coordinates, and with boxes its extents."""
    wanted = [f"{axis}{EXTENT}" for axis in plane_of(experiment).axes if boxes]
    missing = [name for name in wanted if name not in detector.features]
    if missing:
        raise UserError(
            "a detector that does not give boxes", value=", ".join(detector.features), expected=", ".join(wanted)
        )
    return [0, 1, *(3 + detector.features.index(name) for name in wanted)]
