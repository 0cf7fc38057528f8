"""The picture that lies beside the estimates of a recording: how they went, and the truth where the file has it."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from maekit.data.hdf5.labels import LabelReader
from maekit.errors import UserError
from maekit.report.timeline import timeline
from maekit.tasks.classification import Classification

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from maekit.build.experiment import Experiment
    from maekit.config.data_spec import DataSpec
    from maekit.data.hdf5.recording import Recording
    from maekit.inference.writers import Estimate
    from maekit.report.content import Picture
    from maekit.tasks.task import Task

MOST_DRAWN = 4000


class Trace:
    """What a picture needs of the rows: never more than `MOST_DRAWN`, however many there are; and how many there were."""

    def __init__(self) -> None:
        self.rows: list[Estimate] = []
        self.windows = self.valid = 0
        self._every = 1

    def add(self, rows: Sequence[Estimate]) -> None:
        """Keep every so many."""
        for row in rows:
            if self.windows % self._every == 0:
                self.rows.append(row)
            self.windows, self.valid = self.windows + 1, self.valid + (not row.reason)
            if len(self.rows) > MOST_DRAWN:
                self.rows, self._every = self.rows[::2], 2 * self._every


def labels(
    experiment: Experiment, layout: DataSpec, file: h5py.File, recording: Recording, rows: Sequence[Estimate]
) -> NDArray[np.float64]:
    """The truth for each row, NaN where the recording does not have it."""
    rate, label = recording.rate_hz, layout.label
    record = file[recording.record]
    if label is None or rate is None or (label.path is not None and label.path not in record):
        return np.full(len(rows), nan)
    starts = [round(row.start_s * rate) for row in rows]
    windows = [(start, start + recording.length) for start in starts]
    reader = LabelReader(label, experiment.adapter.reducers)
    try:
        return reader.read(file[recording.dataset], record, recording.rows, windows, rate)
    except UserError:  # a label is not needed here, and this one is of no use
        return np.full(len(rows), nan)


def drawn(
    experiment: Experiment, task: Task, rows: Sequence[Estimate], truth: NDArray[np.float64], title: str
) -> Picture:
    """The rows over time."""
    classes = task.classes if isinstance(task, Classification) else ()
    index: dict[float | str, float] = {name: float(i) for i, name in enumerate(classes)}
    value = np.array(
        [nan if row.reason else index[row.value] if classes else row.value for row in rows], dtype=np.float64
    )
    spread = np.array([nan if classes else row.confidence for row in rows])
    time_s = np.array([row.time_s for row in rows])
    return timeline(time_s, value, spread, truth, title=title, unit=unit(experiment), classes=classes)


def unit(experiment: Experiment) -> str:
    """Of the label."""
    return experiment.spec.label.unit if experiment.spec.label else ""
