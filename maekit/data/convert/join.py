"""A table with a row for each recording, found by the name of its file: labels, groups, and other attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert import readers
from maekit.data.convert.table_layout import TableOptions
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.config.conversion import LabelTable

_MAX_NAMED = 3


def join_table(
    rule: LabelTable, source: Path, paths: Mapping[str, Iterable[str]], tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Attributes of recordings from a table.

    A row belongs to the recording one of whose files it names: by the path, by its last parts, or by the file's name alone; with
    or without the ending; or by the name of the recording.

    Args:
        rule: from the data spec.
        source: folder of the published files.
        paths: of the files of each recording, relative to it.
        tell: receives the number of recordings that have no row.

    Returns:
        Attributes by recording; NaN or an empty text where there is no row or an empty cell.

    Raises:
        UserError: no such file or column; a name that matches no recording or several; two rows for one recording.
    """
    files = sorted(path for path in source.glob(rule.file) if path.is_file() and not path.name.startswith("."))
    if len(files) != 1:
        raise UserError(
            "not one table",
            location=str(source),
            value=[path.name for path in files],
            expected=f"one file like {rule.file}, for `convert.table`",
        )
    header = isinstance(rule.name, str) if rule.header is None else rule.header
    options = TableOptions(rule.delimiter, rule.decimal, header, rule.encoding, rule.skip)
    content = readers.read(files[0], "csv", options)
    location = f"{content.location}:{rule.name}"
    columns = {
        attribute: np.asarray(content.numbers_or_text(str(column))) for attribute, column in rule.attributes.items()
    }
    records = _match_rows([str(name) for name in content.pick(rule.name).tolist()], paths, location)
    missing = {name: "" if values.dtype.kind == "U" else np.nan for name, values in columns.items()}
    columns = {name: _whole(values) for name, values in columns.items()}
    attributes: dict[str, dict[str, Any]] = {record: dict(missing) for record in paths}
    for row, record in records.items():
        attributes[record] = {name: values[row].item() for name, values in columns.items()}
    if absent := [record for record in paths if record not in records.values()]:
        tell(
            f"{content.location}: {len(absent)} of {len(paths)} recordings have no row, and so no label ("
            + ", ".join(absent[:_MAX_NAMED])
            + (", ...)" if len(absent) > _MAX_NAMED else ")")
        )
    return attributes


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers that are all whole as integers, so that a group is called 1 and not 1.0."""
    whole = (
        values.dtype.kind == "f" and bool((values == np.round(values)).all()) and bool((np.abs(values) < 2**53).all())
    )
    return values.astype(np.int64) if whole else values


def _match_rows(names: list[str], paths: Mapping[str, Iterable[str]], location: str) -> dict[int, str]:
    """The recording of each row that has a name."""
    recordings_of: dict[str, set[str]] = {}
    for record, files in paths.items():
        for key in {record, *(key for file in files for key in _keys(file))}:
            recordings_of.setdefault(key, set()).add(record)
    rows: dict[int, str] = {}
    row_of: dict[str, int] = {}
    unknown = []
    for row, name in enumerate(names):
        if not name.strip():
            raise UserError("a row without a file name", location=location, value=f"row {row + 1}")
        candidates = next((found for key in _keys(name) if (found := recordings_of.get(key))), set())
        if len(candidates) > 1:
            raise UserError(
                "a name that matches several recordings",
                location=location,
                value=name,
                expected="a file of one of " + ", ".join(sorted(candidates)[:_MAX_NAMED]),
                hint="Write names with their folders in the table, or narrow `files` in the data spec.",
            )
        if not candidates:
            unknown.append(name)
            continue
        record = next(iter(candidates))
        if record in row_of:
            raise UserError(
                "two rows for one recording",
                location=location,
                value=f"{name} (rows {row_of[record] + 1} and {row + 1})",
                expected=f"one row for {record}",
                hint="Several objects or several people who labelled it? Keep one row for each file.",
            )
        rows[row], row_of[record] = record, row
    if unknown:
        every = [file for files in paths.values() for file in files]
        raise UserError(
            f"{len(unknown)} of {len(names)} names match no file",
            location=location,
            value=", ".join(unknown[:_MAX_NAMED]),
            expected=f"names of files such as {every[0]}",
            hint=nearest(unknown[0], every)
            or "Are the files complete, and does `files` take all of them? Rows of other files can be removed from the table.",
        )
    return rows


def _keys(name: str) -> Iterator[str]:
    """Names by which a path is known, from the most to the least specific: ever fewer folders, with and without the ending."""
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    for first in range(len(parts)):
        path = PurePosixPath(*parts[first:])
        yield path.as_posix()
        if path.suffix and path.stem:
            yield path.with_suffix("").as_posix()
