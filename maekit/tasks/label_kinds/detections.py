"""Detections in each frame of a recording, as rows of a table or a JSON document, with pictures of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.config.data_spec import OBJECT_CLASS, OBJECT_EXTENT
from maekit.errors import UserError
from maekit.tasks.label_kinds.detection_pictures import ANIMATED, ENDINGS, Drawing, make_drawings
from maekit.tasks.label_kinds.object_scenes import Moments, SceneMaker
from maekit.tasks.label_kinds.recording_output import Column, OpenRecording, PredictOptions, RecordingOutput, TrainedRun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.data.sample import Sample
    from maekit.tasks.label_kinds.objects import ObjectLabels

SCORE_THRESHOLD = 0.3
"""Default score of what is written: a detector also gives much of a low score."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The detections of one window, which belong to its last row.

    Attributes:
        row: of the recording, counted from 0.
        number: that the recording itself gives to this row; None where it gives none.
        time_s: from the start of the recording; None where the rate is not known.
        detections: (detection, column) coordinates, with boxes also extents, then class and score, the highest score first.
        reason: why nothing was looked for; empty where something was.
        highest: score of all detections, also of those that are not written.
        window: first row, and the row after the last.
        sample: the window.
    """

    row: int
    number: int | None
    time_s: float | None
    detections: NDArray[np.float64]
    reason: str
    highest: float
    window: tuple[int, int]
    sample: Sample


class DetectionOutput(RecordingOutput[Frame]):
    """Detections with units in their columns (`range_m`, `azimuth_deg`, `speed_mps`) and pictures of frames.

    Args:
        run, options: see `RecordingOutput`.
        kind: of the labels.

    Raises:
        UserError: options that do not go together.
    """

    options_used = frozenset({"score_threshold", "picture", "frame"})
    endings = (".csv", ".json")
    row_noun = "frames"
    window_batch = 16
    default_hop_s = None
    needs_same_axes = True

    def __init__(self, run: TrainedRun, options: PredictOptions, kind: ObjectLabels) -> None:
        super().__init__(run, options)
        self.kind = kind
        threshold = SCORE_THRESHOLD if options.score_threshold is None else options.score_threshold
        if not 0 <= threshold < 1:
            raise UserError(
                "not a score", location="--score-threshold", value=threshold, expected="a number from 0 to below 1"
            )
        pictures = [path.suffix.lower() for path in options.picture]
        if options.frame is not None and pictures and all(ending == ANIMATED for ending in pictures):
            raise UserError(
                "an animation shows all frames",
                location="--frame",
                value=options.frame,
                expected="a --picture in PNG or SVG",
            )
        # What the task itself discards cannot be written.
        self.floor = min(getattr(run.task, "score_threshold", 0.0), threshold)
        run.task.score_threshold = self.floor  # type: ignore[assignment]
        self.threshold, self.highest = threshold, 0.0
        self.frames = self._valid = self.occupied = 0
        self.objects: Counter[str] = Counter()
        plane = kind.plane
        self.units = dict(zip(plane.axes, plane.units, strict=True))
        self.from_above: dict[str, str] = {}
        if plane.angle is not None:
            unit = self.units[plane.axes[1 - plane.angle]]
            self.from_above = {_with_unit("x", unit): "to the right", _with_unit("y", unit): "straight ahead"}

    def picture_paths(self, to: Path) -> list[Path]:
        """As asked for, by default one SVG.

        Raises:
            UserError: another ending.
        """
        for path in self.options.picture:
            if path.suffix.lower() not in ENDINGS:
                raise UserError(
                    "no picture that is drawn here",
                    location="--picture",
                    value=str(path),
                    expected=f"a name that ends in {' or '.join(ENDINGS)}",
                )
        return super().picture_paths(to)

    def begin(self, recording: OpenRecording, pictures: Sequence[Path]) -> None:
        """See `RecordingOutput.begin`."""
        super().begin(recording, pictures)
        reader, described, row = recording.reader, recording.recording, self.options.frame
        hop = described.length if reader.window is None else reader.window.hop or described.length
        if row is not None:
            rows = [min(stop, described.rows) - 1 for _, stop in reader.windows(described)]
            if row not in rows:
                step = f", every {hop}th" if hop > 1 else ""
                raise UserError(
                    "no such frame", location="--frame", value=row, expected=f"one from {rows[0]} to {rows[-1]}{step}"
                )
        rate = recording.clock.rate_hz
        moments = Moments(self.kind, recording.layout, recording.file, described, reader)
        self.drawings: list[Drawing] = make_drawings(
            pictures,
            SceneMaker(self.run.adapter, self.kind),
            moments,
            reader,
            title=recording.title,
            row=row,
            interval_s=None if rate is None else hop / rate,
        )

    def predictions(self, rows: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[np.float64]]:
        """See `RecordingOutput.predictions`."""
        return [table.astype(np.float64) for table in self.kind.outputs(rows)]

    def row(self, start: int, sample: Sample, prediction: Any, reason: str) -> Frame:
        """See `RecordingOutput.row`."""
        described = self.recording.recording
        table = np.zeros((0, 4)) if prediction is None else prediction
        highest = max(table[:, -1].tolist(), default=0.0)
        last = min(start + described.length, described.rows) - 1
        shown, window = table[table[:, -1] >= self.threshold], (start, start + described.length)
        return Frame(last, *self.recording.clock.at(last), shown, reason, highest, window, sample)

    def columns(self) -> list[Column]:
        """Of the frame, then of an object; a frame without detections has no line."""
        clock = self.recording.clock
        columns: list[Column] = [("frame", int)]
        columns += [("frame_number", int)] if clock.is_numbered else []
        columns += [("time_s", float)] if clock.rate_hz is not None else []
        return [*columns, *((name, str if name == OBJECT_CLASS else float) for name in self.object_columns)]

    @property
    def object_columns(self) -> list[str]:
        """Names of what is written of an object, the coordinates first."""
        axes = self.kind.plane.axes
        names = [_with_unit(axis, self.units[axis]) for axis in axes] + list(self.from_above)
        if self.kind.boxes:
            names += [_with_unit(f"{axis}{OBJECT_EXTENT}", self.units[axis]) for axis in axes]
        return [*names, OBJECT_CLASS, "score"]

    def cells(self, row: Frame) -> list[tuple[float | str, ...]]:
        """See `RecordingOutput.cells`."""
        frame = [value for value in (row.row, row.number, row.time_s) if value is not None]
        return [(*frame, *self._object_cells(detection)) for detection in row.detections]

    def _object_cells(self, detection: NDArray[np.float64]) -> list[float | str]:
        """Of one detection, in the order of `object_columns`."""
        where = detection[:2].tolist()
        if self.from_above:
            where += self.kind.plane.location(torch.from_numpy(detection[:2])).tolist()
        return [*where, *detection[2:-2].tolist(), self.kind.classes[int(detection[-2])], float(detection[-1])]

    def document(self, row: Frame) -> dict[str, Any]:
        """Frame, number, time, reason and detections; an empty list for a frame without any."""
        stated: dict[str, Any] = {"frame": row.row}
        stated |= {} if row.number is None else {"frame_number": row.number}
        stated |= {} if row.time_s is None else {"time_s": row.time_s}
        stated |= {"reason": row.reason} if row.reason else {}
        detections = [dict(zip(self.object_columns, self._object_cells(one), strict=True)) for one in row.detections]
        return stated | {"detections": detections}

    def facts(self) -> dict[str, Any]:
        """See `RecordingOutput.facts`."""
        return {
            "frame_rate_hz": self.recording.clock.rate_hz,
            "score_threshold": self.threshold,
            "classes": list(self.kind.classes),
            "units": self.units,
            "places": self.from_above,
        }

    def add(self, rows: Sequence[Frame]) -> None:
        """See `RecordingOutput.add`."""
        for frame in rows:
            self.frames += 1
            self._valid += not frame.reason
            self.occupied += len(frame.detections) > 0
            self.highest = max(self.highest, frame.highest)
            self.objects.update(self.kind.classes[int(number)] for number in frame.detections[:, -2])
            for drawing in self.drawings:
                drawing.add(frame)

    def draw(self) -> list[str]:
        """See `RecordingOutput.draw`."""
        return [drawing.close() for drawing in self.drawings]

    def summary(self) -> Iterator[str]:
        """See `RecordingOutput.summary`."""
        listed = ", ".join(f"{name} {count}" for name, count in self.objects.items())
        yield (
            f"{self.frames} frames, in {self.occupied} of them {self.objects.total()} objects with a score of {self.threshold:g} or more"
            + (f": {listed}" if listed else "")
        )
        if self.valid < self.frames:
            yield f"in {self.frames - self.valid} frames nothing was looked for: too little is valid, or the quality is below that of training"
        if not self.objects and self.valid:
            highest = f"the highest score is {self.highest:.2g}" if self.highest else f"no score reaches {self.floor:g}"
            yield f"{highest}: --score-threshold shows objects of lower scores"

    @property
    def valid(self) -> int:
        """See `RecordingOutput.valid`."""
        return self._valid


def _with_unit(name: str, unit: str) -> str:
    """`speed_mps` for m/s."""
    suffix = re.sub(r"\W+", "_", unit.replace("/", "p")).strip("_")
    return f"{name}_{suffix}" if suffix else name
