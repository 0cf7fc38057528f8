"""Objects along a recording as rows of a CSV file, or frame by frame in a JSON document, written as they come."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.tasks.detection import EXTENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.metrics.plane import Plane
    from maekit.tasks.detection import Detection

ENDINGS = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class Frame:
    """What was found at one moment.

    Attributes:
        row: of the recording, counted from 0: the last one that the model saw.
        number: that the recording itself gives to this row; None where it gives none.
        time_s: from the start of the recording; None where the frame rate is not known.
        found: (object, column) coordinates, with boxes also extents, then class and score, the surest first.
        reason: why nothing was looked for; empty where something was.
    """

    row: int
    number: int | None
    time_s: float | None
    found: NDArray[np.float64]
    reason: str = ""


class Columns:
    """Names of what is written of an object, with their units: `range_m`, `azimuth_deg`, `doppler_mps`.

    Args:
        task: of the run.

    Attributes:
        names: of one object, the coordinates first.
        meaning: in words, of those that need some.
    """

    def __init__(self, task: Detection) -> None:
        plane, self.classes = task.plane, task.classes
        units = dict(zip(plane.axes, plane.units, strict=True))
        self.plane: Plane | None = plane if plane.angle is not None else None
        self.numbers = 4 if task.boxes else 2
        self.names = [_with_unit(axis, units[axis]) for axis in plane.axes]
        self.meaning: dict[str, str] = {}
        if plane.angle is not None:
            unit = units[plane.axes[1 - plane.angle]]
            self.meaning = {_with_unit("x", unit): "to the right", _with_unit("y", unit): "straight ahead"}
            self.names += self.meaning
        if task.boxes:
            self.names += [_with_unit(f"{axis}{EXTENT}", units[axis]) for axis in plane.axes]
        self.names += ["class", "score"]

    def cells(self, one: NDArray[np.float64]) -> list[float | str]:
        """Of one object, in the order of `names`."""
        where = one[:2].tolist()
        if self.plane is not None:
            import torch

            where += self.plane.location(torch.from_numpy(one[:2])).tolist()
        return [*where, *one[2 : self.numbers].tolist(), self.classes[int(one[-2])], float(one[-1])]


class CsvObjects:
    """One line an object; a frame without one has no line.

    Args:
        location: of the file.
        columns: of an object.
        numbered: whether the recording numbers its frames.
        timed: whether the frame rate is known.
    """

    def __init__(self, location: Path, columns: Columns, *, numbered: bool, timed: bool) -> None:
        self.file = location.open("w", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.columns, self.numbered, self.timed = columns, numbered, timed
        first = ["frame", *(["frame_number"] if numbered else []), *(["time_s"] if timed else [])]
        self.rows.writerow([*first, *columns.names])

    def add(self, rows: Sequence[Frame]) -> None:
        """Append, and hand to the system."""
        for frame in rows:
            first = [str(value) for value in (frame.row, frame.number) if value is not None]
            first += [] if frame.time_s is None else [f"{frame.time_s:.6g}"]
            for one in frame.found:
                self.rows.writerow(
                    [*first, *(x if isinstance(x, str) else f"{x:.6g}" for x in self.columns.cells(one))]
                )
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """A CSV has no place to say that it is not `complete`."""
        self.file.close()


class JsonObjects:
    """`{facts..., "frames": [{"frame", "time_s", "detections": [...]}, ...], "complete": true}`, a line a frame.

    A frame without objects has an empty list, and where none was looked for the `reason`. `complete` is false after an
    interruption; the document is whole then too.

    Args:
        location: of the file.
        columns: of an object.
        facts: that come first.
    """

    def __init__(self, location: Path, columns: Columns, facts: Mapping[str, Any]) -> None:
        self.file = location.open("w", encoding="utf-8")
        self.columns, self.count = columns, 0
        known = {
            name: None if isinstance(value, float) and not isfinite(value) else value for name, value in facts.items()
        }
        self.file.write(json.dumps(known, indent=1, ensure_ascii=False)[:-2] + ',\n "frames": [')

    def add(self, rows: Sequence[Frame]) -> None:
        """Append, and hand to the system."""
        for frame in rows:
            stated: dict[str, Any] = {"frame": frame.row}
            stated |= {} if frame.number is None else {"frame_number": frame.number}
            stated |= {} if frame.time_s is None else {"time_s": _rounded(frame.time_s)}
            stated |= {"reason": frame.reason} if frame.reason else {}
            stated["detections"] = [
                {name: _rounded(x) for name, x in zip(self.columns.names, self.columns.cells(one), strict=True)}
                for one in frame.found
            ]
            self.file.write(("," if self.count else "") + "\n  " + json.dumps(stated, ensure_ascii=False))
            self.count += 1
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """Say whether all frames came."""
        self.file.write(f'\n ],\n "complete": {json.dumps(complete)}\n}}\n')
        self.file.close()


def _with_unit(name: str, unit: str) -> str:
    """`speed_mps` for m/s."""
    suffix = re.sub(r"\W+", "_", unit.replace("/", "p")).strip("_")
    return f"{name}_{suffix}" if suffix else name


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(f"{value:.6g}")
