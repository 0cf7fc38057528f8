"""Estimates as rows of a CSV file or datasets of an HDF5 file, written as they come."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import h5py
import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ENDINGS = (".csv", ".h5", ".hdf5")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One window's.

    Attributes:
        start_s, stop_s: of the window, from the start of the recording.
        value: in the unit of the label, or the name of a class; NaN or "" where there is no estimate.
        confidence: standard deviation of a value in its unit (NaN: the task gives none), or a class's probability.
        reason: why there is no estimate; empty where there is one.
        said: (value,) the logarithm of the probability of each value that the task knows, where it tells; not written.
    """

    start_s: float
    stop_s: float
    value: float | str
    confidence: float
    reason: str = ""
    said: NDArray[np.float64] | None = None

    @property
    def time_s(self) -> float:
        """Centre of the window."""
        return (self.start_s + self.stop_s) / 2


Row = TypeVar("Row")
Added = TypeVar("Added", contravariant=True)


class Writer(Protocol[Added]):
    """An open file of rows."""

    def add(self, rows: Sequence[Added]) -> None: ...
    def close(self, *, complete: bool) -> None: ...


class Unfinished(Generic[Row]):
    """Rows on their way into a file, which stands at its place as soon as no more come, for whatever reason.

    Until then it is `.NAME.unfinished` beside its place, and what stood there before is not touched. What was written
    until an interruption (an error, Ctrl-C) is kept.

    Args:
        location: of the file.
        opened: makes the writer of a file at the place it is given.
    """

    def __init__(self, location: Path, opened: Callable[[Path], Writer[Row]]) -> None:
        self.location, self.unfinished = location, location.with_name(f".{location.name}.unfinished")
        self.unfinished.unlink(missing_ok=True)
        self.writer = opened(self.unfinished)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.writer.close(complete=kind is None)
        self.unfinished.replace(self.location)


class Output(Unfinished[Estimate]):
    """Estimates; an HDF5 file that was interrupted has the attribute `complete` false.

    Args:
        location: ends in `.csv` or `.h5`.
        columns: of the value and of its confidence.
        attributes: of an HDF5 file.
        overwrite: whether there may be a file.

    Raises:
        UserError: another ending, no such folder, a file that is there.
    """

    def __init__(
        self, location: Path, columns: tuple[str, str], attributes: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        check(location, location, overwrite=overwrite)

        def opened(unfinished: Path) -> Writer[Estimate]:
            if location.suffix.lower() == ".csv":
                return CsvWriter(unfinished, columns)
            return Hdf5Writer(unfinished, columns, attributes)

        super().__init__(location, opened)


def check(location: Path, picture: Path, *, overwrite: bool) -> None:
    """Whether estimates and their picture can be written there.

    Raises:
        UserError: another ending, no such folder, a file that is there.
    """
    check_place(location, "--to", "neither CSV nor HDF5", ENDINGS, overwrite=overwrite)
    check_place(picture, "--to", "", (), overwrite=overwrite)


def check_place(location: Path, option: str, problem: str, endings: Sequence[str], *, overwrite: bool) -> None:
    """Whether a file can be written there.

    Args:
        location: of the file.
        option: that gave it.
        problem: what is said of another ending than these.
        endings: none: any.
        overwrite: whether it may be there.

    Raises:
        UserError: another ending, no such folder, a file that is there.
    """
    if endings and location.suffix.lower() not in endings:
        raise UserError(
            problem, location=option, value=str(location), expected=f"a name that ends in {' or '.join(endings)}"
        )
    if not location.parent.is_dir():
        raise UserError("no such folder", location=option, value=str(location.parent), hint="Make it first.")
    if location.exists() and not overwrite:
        raise UserError(
            "would overwrite what is there", location=str(location), hint=f"Give another {option}, or --overwrite."
        )


class CsvWriter:
    """One line a window; cells of what there is not are empty."""

    def __init__(self, location: Path, columns: tuple[str, str]) -> None:
        self.file = location.open("w", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(["time_s", "start_s", "stop_s", *columns, "valid", "reason"])

    def add(self, rows: Sequence[Estimate]) -> None:
        """Append, and hand to the system."""
        for row in rows:
            numbers = [_cell(x) for x in (row.time_s, row.start_s, row.stop_s, row.value, row.confidence)]
            self.rows.writerow([*numbers, int(not row.reason), row.reason])
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """A CSV has no place to say that it is not `complete`."""
        self.file.close()


class Hdf5Writer:
    """One dataset a column, all of one length."""

    def __init__(self, location: Path, columns: tuple[str, str], attributes: Mapping[str, Any]) -> None:
        self.file = h5py.File(location, "w")
        text = h5py.string_dtype()
        # A slash would make groups of a unit.
        value, confidence = (name.replace("/", " per ") for name in columns)
        kinds: dict[str, Any] = {"time_s": "f8", "start_s": "f8", "stop_s": "f8"}
        kinds |= {value: text if columns[0] == "class" else "f8", confidence: "f8", "valid": "u1", "reason": text}
        self.columns = [
            self.file.create_dataset(name, (0,), maxshape=(None,), chunks=(1024,), dtype=kind)
            for name, kind in kinds.items()
        ]
        self.file.attrs.update(attributes)
        self.file.attrs["complete"] = False

    def add(self, rows: Sequence[Estimate]) -> None:
        """Append, and hand to the system."""
        cells = [(r.time_s, r.start_s, r.stop_s, r.value, r.confidence, int(not r.reason), r.reason) for r in rows]
        for dataset, column in zip(self.columns, zip(*cells, strict=True), strict=True):
            before = len(dataset)
            dataset.resize((before + len(rows),))
            dataset[before:] = np.array(column, dtype=dataset.dtype)
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """Say whether all rows came."""
        self.file.attrs["complete"] = complete
        self.file.close()


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
