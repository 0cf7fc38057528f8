"""Files of predictions along a recording, written as they come: CSV, HDF5, JSON."""

from __future__ import annotations

import csv
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import h5py
import numpy as np

from maekit import files
from maekit.data.hdf5.writing import Hdf5File
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from maekit.tasks.label_kinds.recording_output import RecordingOutput

Cell = float | str


class Writer(Protocol):
    """An open file of rows, which are those of a `RecordingOutput`."""

    def add(self, rows: Sequence[Any]) -> None:
        """Append rows, and hand them to the system."""

    def close(self, *, complete: bool) -> None:
        """Say whether all rows came, where the format has a place for it."""


class UnfinishedFile:
    """A file of rows that gets its name when all rows are in it; until then, what stood there before is not touched.

    Unlike with `maekit.files.replacing`, rows that were written before an interruption (an error, Ctrl-C) are kept, as
    `NAME.partial.csv` beside it. The exception gets a note that says so.

    Args:
        location: of the file; its ending decides the format.
        output: gives columns and cells of a row.
        facts: how the file was made, where the format has a place for it.
    """

    def __init__(self, location: Path, output: RecordingOutput[Any], facts: Mapping[str, Any]) -> None:
        self.location = location.resolve() if location.is_symlink() else location
        self.partial = location.with_name(f"{location.stem}.partial{location.suffix}")
        self.unfinished = files.partial_path(self.location)
        self.count = 0
        try:
            self.writer = _writer(self.unfinished, location.suffix.lower(), output, facts)
        except BaseException:
            files.remove(self.unfinished)
            raise

    def add(self, rows: Sequence[Any]) -> None:
        """Append rows, and hand them to the system.

        Raises:
            OSError: they cannot be written; it names the file.
        """
        with self._errors_name_the_file():
            self.writer.add(rows)
        self.count += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            with self._errors_name_the_file():
                self.writer.close(complete=error is None)
                if error is None:
                    files.put_in_place(self.unfinished, self.location)
                elif self.count:
                    files.put_in_place(self.unfinished, self.partial)
                    error.add_note(f"What was predicted before is in {self.partial}.")
        except OSError:
            if error is None:
                raise
        finally:
            files.remove(self.unfinished)

    @contextmanager
    def _errors_name_the_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self.location)
            raise


def _writer(path: Path, ending: str, output: RecordingOutput[Any], facts: Mapping[str, Any]) -> Writer:
    if ending == ".csv":
        return CsvWriter(path, output)
    if ending == ".json":
        return JsonWriter(path, output, facts)
    return Hdf5Writer(path, output, facts)


def check_place(location: Path, option: str, endings: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a file that cannot be written.

    Args:
        location: of the file.
        option: that gave it.
        endings: that are allowed; empty: any.
        overwrite: whether the file may exist.

    Raises:
        UserError: another ending, no such folder, a file that exists.
    """
    if endings and location.suffix.lower() not in endings:
        raise UserError(
            "a format that is not written here",
            location=option,
            value=str(location),
            expected=f"a name that ends in {' or '.join(endings)}",
        )
    if not location.parent.is_dir():
        raise UserError("no such folder", location=option, value=str(location.parent), hint="Make it first.")
    if location.exists() and not overwrite:
        raise UserError(
            "would overwrite what is there", location=str(location), hint=f"Give another {option}, or --overwrite."
        )


class CsvWriter:
    """Lines of cells; a number that is not known is an empty cell. A CSV has no place to say that it is not complete.

    Args:
        location: of the file.
        output: gives columns and cells.
    """

    def __init__(self, location: Path, output: RecordingOutput[Any]) -> None:
        self.file, self.output = location.open("w", newline="", encoding="utf-8"), output
        self.lines = csv.writer(self.file, lineterminator="\n")
        self.lines.writerow([name for name, _ in output.columns()])

    def add(self, rows: Sequence[Any]) -> None:
        """Append lines, and hand them to the system."""
        for row in rows:
            self.lines.writerows([_text(cell) for cell in line] for line in self.output.cells(row))
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """Close the file."""
        del complete
        self.file.close()


class Hdf5Writer:
    """One dataset a column, all of one length; the attribute `complete` is false after an interruption.

    Args:
        location: of the file.
        output: gives columns and cells.
        facts: attributes of the file.
    """

    def __init__(self, location: Path, output: RecordingOutput[Any], facts: Mapping[str, Any]) -> None:
        self.file, self.output = Hdf5File(location), output
        self.datasets = [
            # A slash in a name would make groups.
            self.file.create_dataset(
                name.replace("/", " per "), (0,), maxshape=(None,), chunks=(1024,), dtype=_storage(kind)
            )
            for name, kind in output.columns()
        ]
        self.file.attrs.update(facts)
        self.file.attrs["complete"] = False

    def add(self, rows: Sequence[Any]) -> None:
        """Append to all datasets, and hand the file to the system."""
        lines = [line for row in rows for line in self.output.cells(row)]
        for dataset, column in zip(self.datasets, zip(*lines, strict=True), strict=bool(lines)):
            before = len(dataset)
            dataset.resize((before + len(column),))
            dataset[before:] = np.array(column, dtype=dataset.dtype)
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """Say whether all rows came."""
        self.file.attrs["complete"] = complete
        self.file.finish()


class JsonWriter:
    """`{facts..., "frames": [...], "complete": true}`, a line a row.

    `complete` is false after an interruption; the document is whole then too.

    Args:
        location: of the file.
        output: gives the document of a row.
        facts: that come first.
    """

    def __init__(self, location: Path, output: RecordingOutput[Any], facts: Mapping[str, Any]) -> None:
        self.file, self.output, self.count = location.open("w", encoding="utf-8"), output, 0
        self.file.write(json.dumps(_rounded(dict(facts), None), indent=1, ensure_ascii=False)[:-2])
        self.file.write(f',\n "{output.row_noun}": [')

    def add(self, rows: Sequence[Any]) -> None:
        """Append, and hand to the system."""
        for row in rows:
            text = json.dumps(_rounded(self.output.document(row), 6), ensure_ascii=False)
            self.file.write(("," if self.count else "") + "\n  " + text)
            self.count += 1
        self.file.flush()

    def close(self, *, complete: bool) -> None:
        """Say whether all rows came."""
        self.file.write(f'\n ],\n "complete": {json.dumps(complete)}\n}}\n')
        self.file.close()


def _storage(kind: type) -> Any:
    return h5py.string_dtype() if kind is str else "i8" if kind is int else "f8"


def _text(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return "" if math.isnan(cell) else f"{cell:.6g}"


def _rounded(value: Any, digits: int | None) -> Any:
    """Plain data with numbers of so many digits; null for what is not finite."""
    if isinstance(value, dict):
        return {name: _rounded(item, digits) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item, digits) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value
