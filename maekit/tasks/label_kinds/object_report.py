"""The report on detected objects: tables, precision-recall curves and some samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import TIME
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.metrics.average_precision import THRESHOLDS, by_class, curve_of
from maekit.metrics.similarity import LocationSimilarity
from maekit.report.content import Picture, Table
from maekit.report.detection_figures import precision_recall
from maekit.tasks.label_kinds.base import ReportSection
from maekit.tasks.label_kinds.object_scenes import Moments, SceneMaker
from maekit.tasks.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.metrics.average_precision import Matches
    from maekit.tasks.label_kinds.objects import ObjectLabels
    from maekit.tasks.parts import LabelledData

SAMPLES = 4
ONE_GROUP = np.ones(1)
"""Weight of the single group that all samples belong to here."""


def object_report(
    kind: ObjectLabels, data: LabelledData, rows: Mapping[str, NDArray[Any]], metrics: Mapping[str, float], side: str
) -> ReportSection:
    """Verdict, tables and figures; see `LabelKind.report`."""
    detections, objects = kind.outputs(rows), kind.truth(data, rows["index"])
    matches = kind.match(detections, objects, np.zeros(len(objects), dtype=np.int64), 1)
    count = int(matches.truth.sum())
    if not count:
        return ReportSection(Verdict(f"No object lies on the maps of the {side} split to judge this run by."), [])
    threshold = _best_threshold(matches)
    curves = []
    for number in np.flatnonzero(matches.truth[0] > 0):
        curve = curve_of(matches, ONE_GROUP, int(number))
        curves.append((kind.classes[number], curve.recall[:, 0], curve.best[:, 0]))
    verdict = (
        f"AP {metrics['ap']:.3f} on the {side} split (AP50 {metrics['ap50']:.3f}, AR {metrics['ar']:.3f}): {count} objects in "
        f"{len(objects)} samples. It was not compared with methods without learning."
    )
    return ReportSection(
        Verdict(verdict),
        [_table(kind, matches, metrics, threshold, side, len(objects))],
        [
            precision_recall(curves, float(THRESHOLDS[0])),
            *_samples(kind, data, rows["index"], detections, objects, threshold, side),
        ],
    )


def _best_threshold(matches: Matches) -> float:
    """The score at which F1 of all classes together is the highest."""
    order = np.argsort(-matches.score, kind="stable")
    if not len(order):
        return 0.0
    correct = np.cumsum(matches.right[order, 0])
    f1 = 2 * correct / (np.arange(1, len(order) + 1) + matches.truth.sum())
    return float(matches.score[order][f1.argmax()])


def _table(
    kind: ObjectLabels, matches: Matches, metrics: Mapping[str, float], threshold: float, side: str, samples: int
) -> Table:
    precision, recall = by_class(matches, ONE_GROUP)
    rows: list[list[Any]] = []
    for number, name in enumerate(kind.classes):
        above = (matches.kind == number) & (matches.score >= threshold)
        correct, count = float(matches.right[above, 0].sum()), float(matches.truth[0, number])
        at_threshold = [correct / above.sum() if above.any() else np.nan, correct / count if count else np.nan]
        averages = [precision[number].mean(), precision[number, 0], recall[number].mean()] if count else [np.nan] * 3
        rows.append([name, int(count), *averages, *at_threshold])
    if len(rows) > 1:
        above, total = matches.score >= threshold, float(matches.truth.sum())
        correct = float(matches.right[above, 0].sum())
        at_threshold = [correct / above.sum() if above.any() else np.nan, correct / total]
        averages = [metrics["ap"], metrics["ap50"], metrics["ar"]]
        rows.append(["all (AP, AR: mean of classes)", int(total), *averages, *at_threshold])
    columns = ["", "objects", "AP", "AP50", "AR", f"precision at {threshold:.2f}", f"recall at {threshold:.2f}"]
    similarity = "overlap of boxes"
    if isinstance(kind.similarity, LocationSimilarity):
        similarity = "location similarity, kappa " + ", ".join(
            f"{value:g}" for value in kind.similarity.kappa.values.tolist()
        )
    note = (
        f"{samples} samples of groups not seen in training. AP and AR: means over similarity thresholds of 0.5 to 0.9 ({similarity}), AP50 at "
        f"0.5. Last columns, at similarity 0.5: detections with a score of at least {threshold:.2f}, the threshold with the best F1 on "
        "this split."
    )
    return Table(f"Objects found on the {side} split", columns, rows, note)


def _samples(
    kind: ObjectLabels,
    data: LabelledData,
    index: NDArray[np.int64],
    detections: list[NDArray[Any]],
    objects: list[NDArray[Any]],
    threshold: float,
    side: str,
) -> list[Picture]:
    """Some samples that have objects, evenly spread."""
    occupied = np.flatnonzero([len(truth) > 0 for truth in objects])
    chosen = occupied[np.unique(((np.arange(SAMPLES) + 0.5) / SAMPLES * len(occupied)).astype(int))]
    scenes = SceneMaker(data.adapter, kind)
    figures = []
    for i in chosen.tolist():
        sample = data.source[int(index[i])]
        name, picture = _picture(kind, data, int(index[i]))
        shown = detections[i][detections[i][:, -1] >= threshold].astype(np.float64)
        scene = scenes.scene(sample, shown, objects[i].astype(np.float64), picture)
        alt = f"{len(shown)} detections and {len(objects[i])} true objects in {sample.location}"
        caption = f"{sample.location}, of the {side} split. Detections with a score of at least {threshold:.2f}."
        figures.append(scenes.view(scene, beside=name, page=True).picture(alt, caption))
    return figures


def _picture(kind: ObjectLabels, data: LabelledData, index: int) -> tuple[str, NDArray[np.float64] | None]:
    """Name and picture of the same moment as a sample, where the recording has one."""
    source = data.source
    if not isinstance(source, HDF5Windows):
        return "", None
    number, start = source.positions[index]
    recording = source.recordings[int(number)]
    rate = recording.rate_hz if source.reader.row_axis == TIME else None
    first = round(start * (rate or 1))
    with open_hdf5(recording.file) as file:
        moments = Moments(kind, data.spec, file, recording, source.reader)
        return moments.name, moments.picture(first, min(first + recording.length, recording.rows))
