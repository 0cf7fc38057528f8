"""The part of a report that says how well objects are found: tables, precision against recall, and some samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import TIME
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.inference.object_pictures import Moments, Scenes
from maekit.metrics.average_precision import THRESHOLDS, by_class, curve_of
from maekit.metrics.similarity import LocationSimilarity
from maekit.report.content import Picture, Table
from maekit.report.detection_figures import precision_recall
from maekit.runs.evaluate import predictions
from maekit.tasks.detection import present

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.build.experiment import Experiment
    from maekit.metrics.average_precision import Matches
    from maekit.tasks.detection import Detection

SAMPLES = 4
EVERY_ONE = np.ones(1)
"""Weight of the one group that all samples are here."""


def of_detection(
    run: Path, experiment: Experiment, task: Detection, overrides: Sequence[str], device: str | None
) -> tuple[str, list[Table], list[Picture]]:
    """Verdict, tables and pictures of a detection run on its test split, or on validation where that is empty."""
    side = "test" if len(experiment.split["test"]) else "validation"
    if not len(experiment.split[side]):
        return "There is no test or validation split to judge this run by.", [], []
    metrics, rows = predictions(run, side=side, overrides=overrides, device=device, alone=True)
    matched = task.matched(rows["detections"], rows["objects"])
    known = int(matched.truth.sum())
    if not known:
        return f"No object lies on the maps of the {side} split to judge this run by.", [], []
    score = _best_score(matched)
    tables = [_table(task, matched, metrics, score, side, len(rows["index"]))]
    curves = []
    for number in np.flatnonzero(matched.truth[0] > 0):
        curve = curve_of(matched, EVERY_ONE, int(number))
        curves.append((task.classes[number], curve.recall[:, 0], curve.best[:, 0]))
    pictures = [precision_recall(curves, float(THRESHOLDS[0])), *_samples(experiment, task, rows, score, side)]
    verdict = (
        f"AP {metrics['ap']:.3f} on the {side} split (AP50 {metrics['ap50']:.3f}, AR {metrics['ar']:.3f}): {known} objects in "
        f"{len(rows['index'])} samples. It was not compared with what needs no learning."
    )
    return verdict, tables, pictures


def _best_score(found: Matches) -> float:
    """Where precision and recall of all classes together are best: twice what is right over what was found and what is there."""
    order = np.argsort(-found.score, kind="stable")
    if not len(order):
        return 0.0
    right = np.cumsum(found.right[order, 0])
    balance = 2 * right / (np.arange(1, len(order) + 1) + found.truth.sum())
    return float(found.score[order][balance.argmax()])


def _table(task: Detection, found: Matches, metrics: dict[str, float], score: float, side: str, samples: int) -> Table:
    precision, recall = by_class(found, EVERY_ONE)
    rows: list[list[Any]] = []
    for number, name in enumerate(task.classes):
        kept = (found.kind == number) & (found.score >= score)
        right, there = float(found.right[kept, 0].sum()), float(found.truth[0, number])
        at = [right / kept.sum() if kept.any() else np.nan, right / there if there else np.nan]
        whole = [precision[number].mean(), precision[number, 0], recall[number].mean()] if there else [np.nan] * 3
        rows.append([name, int(there), *whole, *at])
    if len(rows) > 1:
        kept, there = found.score >= score, float(found.truth.sum())
        right = float(found.right[kept, 0].sum())
        at = [right / kept.sum() if kept.any() else np.nan, right / there]
        rows.append(["all (AP, AR: mean of classes)", int(there), metrics["ap"], metrics["ap50"], metrics["ar"], *at])
    names = ["", "objects", "AP", "AP50", "AR", f"precision from {score:.2f}", f"recall from {score:.2f}"]
    similarity = "overlap of boxes"
    if isinstance(task.similarity, LocationSimilarity):
        similarity = "location similarity, kappa " + ", ".join(f"{value:g}" for value in task.similarity.kappa.tolist())
    note = (
        f"{samples} samples of groups never trained on. AP and AR: means over likeness 0.5 to 0.9 ({similarity}), AP50 at 0.5. Last columns, at "
        f"likeness 0.5: with all detections of a score of {score:.2f} or more, at which the two are best together on this very split."
    )
    return Table(f"Objects found on the {side} split", names, rows, note)


def _samples(
    experiment: Experiment, task: Detection, rows: dict[str, NDArray[Any]], score: float, side: str
) -> list[Picture]:
    """Some that have objects, evenly spread."""
    found, objects = present(rows["detections"]), present(rows["objects"])
    some = np.flatnonzero([len(true) > 0 for true in objects])
    chosen = some[np.unique(((np.arange(SAMPLES) + 0.5) / SAMPLES * len(some)).astype(int))]
    scenes = Scenes(experiment, task)
    pictures = []
    for i in chosen.tolist():
        sample = experiment.source[int(rows["index"][i])]
        name, picture = _picture(experiment, task, int(rows["index"][i]))
        kept = found[i][found[i][:, -1] >= score].astype(np.float64)
        scene = scenes.scene(sample, kept, objects[i].astype(np.float64), picture)
        alt = f"{len(kept)} objects found and {len(objects[i])} true ones in {sample.location}"
        caption = f"{sample.location}, of the {side} split. Found with a score of {score:.2f} or more."
        pictures.append(scenes.view(scene, beside=name, page=True).picture(alt, caption))
    return pictures


def _picture(experiment: Experiment, task: Detection, index: int) -> tuple[str, NDArray[np.float64] | None]:
    """Name and picture of the same moment, where the recording has one."""
    source = experiment.source
    if not isinstance(source, HDF5Windows):
        return "", None
    number, start = source.positions[index]
    recording = source.recordings[int(number)]
    rate = recording.rate_hz if source.reader.row_axis == TIME else None
    first = round(start * (rate or 1))
    with open_hdf5(recording.file) as file:
        moments = Moments(task, experiment.spec, file, recording, source.reader)
        return moments.name, moments.picture(first, min(first + recording.length, recording.rows))
