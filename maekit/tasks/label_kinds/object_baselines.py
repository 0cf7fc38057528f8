"""Objects found without training a network: an adapter's detector, and a shallow classifier of its detections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.config.data_spec import OBJECT_EXTENT
from maekit.errors import UserError
from maekit.metrics.average_precision import THRESHOLDS
from maekit.tasks.confidence import confidence, peaks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from maekit.adapter import Detector
    from maekit.metrics.similarity import Similarity
    from maekit.tasks.label_kinds.objects import ObjectLabels
    from maekit.tasks.parts import LabelledData

Array = Any
SIGMA = 2.0
"""Standard deviation in cells of the Gaussians that training objects are counted with in `constant`."""
MIN_PROBABILITY = 0.01
"""Probability below which a detection is not given a class."""
MAX_CONSTANT = 20
"""Objects of `constant`."""


def detect(kind: ObjectLabels, data: LabelledData, detector: Detector, side: str) -> list[Array]:
    """The detections of a detector, all of the class that is the most frequent among the training objects.

    Args:
        kind: of the labels.
        data: with objects.
        detector: of the adapter.
        side: of the split.

    Returns:
        For each sample of the side (detection, column): both coordinates, with boxes both extents, class, score; see
        `maekit.metrics.average_precision.match`.

    Raises:
        UserError: boxes, of a detector that does not give extents.
    """
    classes = np.concatenate([objects[:, -1] for objects in _objects(kind, data, "train")])
    most_frequent = np.bincount(classes.astype(np.int64)).argmax() if len(classes) else 0
    columns = _columns(kind, detector)
    return [
        np.column_stack([rows[:, columns], np.full(len(rows), float(most_frequent)), rows[:, 2]])
        for rows in _detections(data, detector, side)
    ]


def detect_and_classify(kind: ObjectLabels, data: LabelledData, detector: Detector, side: str) -> list[Array]:
    """The detections of a detector, with the probability of each class that a logistic regression gives them.

    On the training samples each detection is assigned the most similar free object, the highest score first, where the
    similarity is 0.5 or more (with the kappa of the object's class); the others are clutter. The regression over the classes and
    clutter is on the standardised score and features. An extended body may reach far behind the point that is detected: the
    median offset of each class between detections and objects of the training samples is added to both coordinates.

    Args:
        kind: of the labels.
        data: with objects.
        detector: of the adapter.
        side: of the split.

    Returns:
        As `detect`; a detection appears once for each class of a probability of 0.01 or more, which is its score.

    Raises:
        UserError: as `detect`.
    """
    columns = _columns(kind, detector)
    detections, objects = _detections(data, detector, "train"), _objects(kind, data, "train")
    classes, offsets = [], [np.zeros((0, 2))]
    for rows, truth in zip(detections, objects, strict=True):
        assigned = assign(rows[:, [*columns, 2]], truth, kind.similarity)
        is_object = assigned >= 0
        classes.append(np.full(len(rows), -1))
        classes[-1][is_object] = truth[assigned[is_object], -1]
        offsets.append(truth[assigned[is_object], :2] - rows[is_object, :2])
    features = np.concatenate([_features(rows) for rows in detections])
    class_of, offset = np.concatenate(classes), np.concatenate(offsets)
    shift = {one: np.median(offset[class_of[class_of >= 0] == one], axis=0) for one in set(class_of.tolist()) - {-1}}
    probability = _classifier(features, class_of)
    classified = []
    for rows in _detections(data, detector, side):
        parts = [np.zeros((0, len(columns) + 2))]
        for number, values in probability(_features(rows)).items():
            likely = values >= MIN_PROBABILITY
            where = rows[likely][:, columns]
            where[:, :2] += shift[number]
            parts.append(np.column_stack([where, np.full(likely.sum(), float(number)), values[likely]]))
        classified.append(np.concatenate(parts))
    return classified


def constant(kind: ObjectLabels, data: LabelledData) -> Array:
    """The same objects for every sample: where those of each class were most often in training, and how often.

    Returns:
        (object, column) as of `detect`; with boxes all have the median extents of training.
    """
    plane = kind.plane
    objects = [torch.from_numpy(rows) for rows in _objects(kind, data, "train")]
    if not any(len(rows) for rows in objects):
        return np.zeros((0, 6 if kind.boxes else 4))
    padded = torch.nn.utils.rnn.pad_sequence(objects, batch_first=True, padding_value=torch.nan)
    total = torch.zeros(len(kind.classes), *plane.shape)
    for batch in torch.split(padded, 64):
        cells, classes = plane.cells(batch[..., :2]).float(), batch[..., -1].nan_to_num().long()
        sigma = torch.full(cells.shape[:2], SIGMA)
        total += confidence(cells, sigma, classes, plane.shape, len(kind.classes)).sum(0)
    cells, number, score = (values[0] for values in peaks(total[None] / len(objects), MAX_CONSTANT, 0.0))
    extents = padded[..., 2:-1].flatten(0, 1).nanmedian(0).values.expand(len(cells), -1)
    rows = torch.cat([plane.at(cells), extents, number[:, None], score[:, None]], 1)
    return rows[score > 0].numpy()


def assign(detections: Array, objects: Array, similarity: Similarity) -> NDArray[np.int64]:
    """(detection,) index of the object that each detection is assigned; -1 where it is assigned none.

    Args:
        detections: (detection, columns..., score).
        objects: (object, columns..., class).
        similarity: of two objects.
    """
    assigned = np.full(len(detections), -1)
    if not len(detections) or not len(objects):
        return assigned
    classes = torch.from_numpy(objects[:, -1].astype(np.int64))[None]
    truth, rows = torch.from_numpy(objects)[None, :, :-1], torch.from_numpy(detections)[:, None, :-1]
    values = similarity(truth, rows, classes).numpy()
    free = np.ones(len(objects), dtype=bool)
    for row in np.argsort(-detections[:, -1], kind="stable"):
        candidates = np.where(free, values[row], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= THRESHOLDS[0]:
            free[best], assigned[row] = False, best
    return assigned


def _classifier(features: Array, classes: NDArray[np.int64]) -> Callable[[Array], dict[int, Array]]:
    """A function from (detection, feature) to the probability of each class, clutter left out."""
    seen = sorted(set(classes.tolist()))
    if len(seen) < 2:
        return lambda rows: {number: np.ones(len(rows)) for number in seen if number >= 0}
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, classes)

    def probability(rows: Array) -> dict[int, Array]:
        values = model.predict_proba(rows) if len(rows) else np.zeros((0, len(seen)))
        return {number: values[:, i] for i, number in enumerate(seen) if number >= 0}

    return probability


def _features(rows: Array) -> Array:
    """Score and features of detections."""
    return rows[:, 2:]


def _objects(kind: ObjectLabels, data: LabelledData, side: str) -> list[Array]:
    return list(kind.truth(data, data.split[side]))


def _detections(data: LabelledData, detector: Detector, side: str) -> list[Array]:
    return [detector.find(data.source[int(i)]) for i in data.split[side]]


def _columns(kind: ObjectLabels, detector: Detector) -> list[int]:
    """Columns of a detector's table: the coordinates, and with boxes the extents."""
    required = [f"{axis}{OBJECT_EXTENT}" for axis in kind.plane.axes if kind.boxes]
    if any(name not in detector.features for name in required):
        raise UserError(
            "a detector that does not give boxes", value=", ".join(detector.features), expected=", ".join(required)
        )
    return [0, 1, *(3 + detector.features.index(name) for name in required)]
