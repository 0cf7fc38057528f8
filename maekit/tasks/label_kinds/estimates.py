"""One estimate for each window of a recording, a class or a value, with its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.config.data_spec import TIME
from maekit.data.hdf5.labels import LabelReader
from maekit.errors import UserError
from maekit.files import write_text
from maekit.report.timeline import timeline
from maekit.tasks.label_kinds.recording_output import Column, OpenRecording, PredictOptions, RecordingOutput, TrainedRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import Recording, RecordingReader
    from maekit.data.sample import Sample

MOST_DRAWN = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of one window.

    Attributes:
        start_s, stop_s: of the window, from the start of the recording.
        value: in the unit of the label, or the name of a class; NaN or "" where there is no estimate.
        confidence: standard deviation of a value in its unit (NaN: the task states none), or the probability of a class.
        reason: why there is no estimate; empty where there is one.
        log_probability: (value,) of each value that the task's distribution is over, where it has one; not written.
    """

    start_s: float
    stop_s: float
    value: float | str
    confidence: float
    reason: str = ""
    log_probability: NDArray[np.float64] | None = None

    @property
    def time_s(self) -> float:
        """Centre of the window."""
        return (self.start_s + self.stop_s) / 2


class EstimateTrace:
    """The estimates of a figure: at most `MOST_DRAWN`, evenly spread, however many there are."""

    def __init__(self) -> None:
        self.rows: list[Estimate] = []
        self.windows = self.valid = 0
        self._step = 1

    def add(self, rows: Sequence[Estimate]) -> None:
        """Count rows, and keep every so many."""
        for row in rows:
            if self.windows % self._step == 0:
                self.rows.append(row)
            self.windows, self.valid = self.windows + 1, self.valid + (not row.reason)
            if len(self.rows) > MOST_DRAWN:
                self.rows, self._step = self.rows[::2], 2 * self._step


class EstimateOutput(RecordingOutput[Estimate]):
    """Estimates as rows of a table, and drawn over time.

    Args:
        run, options: see `RecordingOutput`.
        names: columns of the value and of its confidence.
        unit: of the label.
        classes: names, where estimates are classes.
    """

    endings = (".csv", ".json", ".h5", ".hdf5")
    streams = True

    def __init__(
        self,
        run: TrainedRun,
        options: PredictOptions,
        *,
        names: tuple[str, str],
        unit: str = "",
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(run, options)
        self.names, self.unit, self.classes = names, unit, tuple(classes)
        self.trace = EstimateTrace()

    def begin(self, recording: OpenRecording, pictures: Sequence[Path]) -> None:
        """Refuse recordings whose windows are not in time.

        Raises:
            UserError: windows along another axis.
        """
        super().begin(recording, pictures)
        self.begin_stream(recording.reader, recording.recording)

    def begin_stream(self, reader: RecordingReader, recording: Recording) -> None:
        """See `RecordingOutput.begin_stream`.

        Raises:
            UserError: windows along another axis.
        """
        if reader.row_axis != TIME:
            raise UserError(
                "windows that do not follow each other in time",
                location=reader.spec.name,
                value=f"axis {reader.row_axis}",
                expected="a run on windows of the axis `time`",
            )
        self.length = recording.length

    def predictions(self, rows: Mapping[str, NDArray[Any]]) -> Sequence[tuple[float | str, float, Any]]:
        """Of classes: the most probable one, its probability, and no distribution."""
        best = torch.from_numpy(rows["output"]).softmax(1).max(1)
        names = [self.classes[i] for i in best.indices.tolist()]
        return [(name, probability, None) for name, probability in zip(names, best.values.tolist(), strict=True)]

    def row(self, start: int, sample: Sample, prediction: Any, reason: str) -> Estimate:
        """See `RecordingOutput.row`."""
        rate_hz = sample.rate_hz
        assert rate_hz is not None, "windows are in time"
        span = start / rate_hz, (start + self.length) / rate_hz
        if reason:
            return Estimate(*span, "" if self.classes else nan, nan, reason)
        value, confidence, log_probability = prediction
        return Estimate(*span, value, confidence, "", log_probability)

    def columns(self) -> list[Column]:
        """See `RecordingOutput.columns`."""
        value, confidence = self.names
        kind = str if self.classes else float
        times: list[Column] = [("time_s", float), ("start_s", float), ("stop_s", float)]
        return [*times, (value, kind), (confidence, float), ("valid", int), ("reason", str)]

    def cells(self, row: Estimate) -> list[tuple[float | str, ...]]:
        """See `RecordingOutput.cells`."""
        valid = int(not row.reason)
        return [(row.time_s, row.start_s, row.stop_s, row.value, row.confidence, valid, row.reason)]

    def facts(self) -> dict[str, Any]:
        """See `RecordingOutput.facts`."""
        return {"rate_hz": self.recording.recording.rate_hz or nan, "unit": self.unit}

    def add(self, rows: Sequence[Estimate]) -> None:
        """See `RecordingOutput.add`."""
        self.trace.add(rows)

    def draw(self) -> list[str]:
        """The estimates over time, with the labels where the recording has some."""
        rows = self.trace.rows
        index: dict[float | str, float] = {name: float(i) for i, name in enumerate(self.classes)}
        value = [nan if row.reason else index[row.value] if self.classes else row.value for row in rows]
        spread = np.array([nan if self.classes else row.confidence for row in rows])
        time_s, title = np.array([row.time_s for row in rows]), self.recording.title
        values = np.array(value, dtype=np.float64)
        figure = timeline(time_s, values, spread, self._labels(), title=title, unit=self.unit, classes=self.classes)
        for path in self.pictures:
            write_text(path, figure.svg)
        return [f"drawn: {path}" for path in self.pictures]

    def _labels(self) -> NDArray[np.float64]:
        """The label of each row that is drawn, NaN where the recording does not have it."""
        rows, opened, recording = self.trace.rows, self.recording, self.recording.recording
        rate, label, record = recording.rate_hz, opened.layout.label, opened.file[recording.record]
        unknown = np.full(len(rows), nan)
        if label is None or rate is None or (label.path is not None and label.path not in record):
            return unknown
        starts = [round(row.start_s * rate) for row in rows]
        windows = [(start, start + recording.length) for start in starts]
        reader = LabelReader(label, self.run.adapter.reducers)
        try:
            return reader.read(opened.file[recording.dataset], record, recording.rows, windows, rate)
        except UserError:  # a label that cannot be read is not drawn
            return unknown

    def summary(self) -> Iterator[str]:
        """See `RecordingOutput.summary`."""
        yield f"{self.valid} of {self.trace.windows} windows have an estimate"

    @property
    def valid(self) -> int:
        """See `RecordingOutput.valid`."""
        return self.trace.valid
