"""Recordings that are published as a file or a row for each frame: streams are joined by the frames' numbers.

Frames are read, transformed and written one at a time, since a recording may be long and a frame's source large (a cube
of 32 MiB, of which two maps are kept).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.content import NUMERIC, NoRowsError
from maekit.data.convert.sources import FRAME
from maekit.data.convert.stream_values import (
    Transformed,
    find_transformation,
    read_offsets,
    read_values,
    stated_attributes,
    transform,
)
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py
    from numpy.typing import NDArray

    from maekit.config.conversion import Conversion, Stream
    from maekit.data.convert.content import FileContent
    from maekit.data.convert.sources import Files, SourceFile
    from maekit.data.convert.stream_values import Transformation, Transformations

COLUMNS = "columns"
"""Attribute from a transformation that makes its result a table of objects, of any number of rows in each frame."""

BLOCK = "block"
_MAX_NAMED = 5


@dataclass
class _Row:
    """A stream in one frame: where it stands, and the function that reads it."""

    location: str
    read: Callable[[], Transformed]


@dataclass
class FrameRecording:
    """One recording of frames.

    Args:
        rows: by stream and frame number.
        whole: streams that have one value for the whole recording.
        empty: rows for frames that a file on all frames does not mention (`sparse`), by stream.
        attributes: of the recording.
    """

    rows: dict[str, dict[int, _Row]] = field(default_factory=dict)
    whole: dict[str, Transformed] = field(default_factory=dict)
    empty: dict[str, _Row] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def read_frame_recordings(
    rules: Conversion,
    record: str,
    files: Mapping[str, Files],
    transformations: Transformations,
    objects: Mapping[str, Sequence[str]],
) -> dict[str, FrameRecording]:
    """The recordings of one name: one, or as many as `by` tells apart. Only files on all frames are read here.

    Args:
        rules: the `convert` section.
        record: name of the recording.
        files: of its streams.
        transformations: functions by adapter and name.
        objects: names of the columns of streams that hold objects.

    Raises:
        UserError: keys are missing, a file cannot be used, or a function does not exist.
    """
    recordings: dict[str, FrameRecording] = {}
    for stream, rule in rules.streams.items():
        function = find_transformation(rule, stream, transformations)
        if function is None and stream in objects:
            function = partial(_name_objects, columns=objects[stream])
        if stream not in files:
            continue
        if rule.by:
            for source in files[stream].all():
                for name, number, row, attributes in _grouped_rows(rules, stream, source, function, recordings, record):
                    recording = recordings.setdefault(name, FrameRecording())
                    recording.attributes |= attributes
                    recording.rows.setdefault(stream, {})[number] = row
            continue
        recording = recordings.setdefault(record, FrameRecording())
        for source in files[stream].all():
            recording.attributes.update(source.attributes)
        if files[stream].whole:
            _add_whole(recording, stream, rule, files[stream].whole, function)
        _add_files(recording, stream, rule, files[stream].frames, function)
    return recordings


def _add_files(
    recording: FrameRecording,
    stream: str,
    rule: Stream,
    frames: Mapping[int, Sequence[SourceFile]],
    function: Transformation | None,
) -> None:
    """Add a row for each frame that has files of its own."""
    count = max(map(len, frames.values()), default=0)
    for number, sources in frames.items():
        if len(sources) != count:
            raise UserError(
                f"a frame with fewer files of {stream!r} than others",
                location=sources[0].location,
                value=len(sources),
                expected=f"{count}",
                hint="Is the copy complete?",
            )
        row = _Row(sources[0].location, partial(_read_files, rule, sources, function))
        recording.rows.setdefault(stream, {})[number] = row


def _read_files(rule: Stream, sources: Sequence[SourceFile], function: Transformation | None) -> Transformed:
    content = None
    try:
        content = sources[0].read()
        values = _join_files(rule, content, sources)
    except NoRowsError:
        if function is None:
            raise
        values = np.zeros((0, max(1, len(rule.columns))), dtype=np.float32)
    return _with_stated(transform(values, function, sources[0].location), rule, content)


def _with_stated(result: Transformed, rule: Stream, content: FileContent | None) -> Transformed:
    """A result with what its file states of the values, unless it is a table of objects."""
    if content is None or COLUMNS in result.attributes:
        return result
    return result._replace(attributes=stated_attributes(rule, content) | result.attributes)


def _name_objects(values: NDArray[Any], columns: Sequence[str]) -> tuple[Any, dict[str, Any], list[str]]:
    """A frame's table of objects, whose columns the label of the data spec names."""
    table = values[None] if values.ndim == 1 and len(values) == len(columns) else values  # one row of a MAT file
    if table.size and (table.ndim != 2 or table.shape[1] != len(columns)):
        raise UserError(
            "not one column for each of `label.objects`",
            value=table.shape,
            expected=f"(object, {len(columns)}): {', '.join(columns)}",
            hint="List as many columns in `columns`, in that order, or name a `through` that returns objects.",
        )
    return table, {COLUMNS: list(columns)}, []


def _join_files(rule: Stream, first: FileContent, sources: Sequence[SourceFile]) -> Any:
    """The values of a file; with `several`, those of its files, stacked."""
    if not rule.several:
        return read_values(rule, first)
    parts = [read_values(rule, first), *(read_values(rule, source.read()) for source in sources[1:])]
    if not all(isinstance(part, np.ndarray) for part in parts):
        return parts
    for part, source in zip(parts, sources, strict=True):
        if part.shape != parts[0].shape:
            raise UserError(
                "files that belong together, but are not alike",
                location=source.location,
                value=part.shape,
                expected=f"{parts[0].shape}, as in {sources[0].location}",
            )
    return np.stack(parts)


def _add_whole(
    recording: FrameRecording, stream: str, rule: Stream, sources: Sequence[SourceFile], function: Transformation | None
) -> None:
    """Add a file on all frames: rows if the function returns them by frame number, otherwise one value for all."""
    result = _read_files(rule, sources, function)
    if not isinstance(result.values, Mapping):
        recording.whole[stream] = result
        return
    rows = recording.rows.setdefault(stream, {})
    for at, (number, value) in enumerate(sorted(result.values.items())):
        row = Transformed(value, result.attributes, result.findings if at == 0 else [])
        rows[number] = _Row(f"{sources[0].location} frame {number}", partial(_constant, row))
    if rule.sparse:
        empty = Transformed([], result.attributes, [])
        recording.empty[stream] = _Row(sources[0].location, partial(_constant, empty))


def _constant(result: Transformed) -> Transformed:
    return result


def _grouped_rows(
    rules: Conversion,
    stream: str,
    source: SourceFile,
    function: Transformation | None,
    recordings: Mapping[str, FrameRecording],
    record: str,
) -> Iterator[tuple[str, int, _Row, dict[str, Any]]]:
    """(recording, frame number, row, attributes) of the rows of one file, which `by` assigns to recordings."""
    rule = rules.streams[stream]
    content = source.read()
    values = read_values(rule, content)
    edges = read_offsets(rule, content, len(values)) if rule.offsets is not None else None
    count = len(values) if edges is None else len(edges) - 1
    keys = {key: content.pick(key).ravel() for key in rule.by}
    attributes = {name: content.pick(key).ravel() for name, key in rules.attributes.items()}
    numbers = None if rule.number is None else content.numbers(rule.number).ravel()
    _check_lengths(content, count, {**keys, **attributes, **({} if numbers is None else {str(rule.number): numbers})})
    # Numbers are padded with zeros, so that recordings sort by them.
    widths = [len(str(int(column.max()))) if column.dtype.kind in "iu" else 0 for column in keys.values()]
    for index in range(count):
        group = [column[index].item() for column in keys.values()]
        suffix = "_".join(
            f"{value:0{width}d}" if width else str(value) for value, width in zip(group, widths, strict=True)
        )
        name = f"{record}_{suffix}".replace("/", "_")
        recording = recordings.get(name, FrameRecording())
        own = dict(zip(rule.by, group, strict=True)) | {key: column[index].item() for key, column in attributes.items()}
        for key, value in own.items():
            if recording.attributes.get(key, value) != value:
                raise UserError(
                    "not one value a recording",
                    location=f"{content.location}:{key}",
                    value=value,
                    expected=f"{recording.attributes[key]}, as in the rows of {suffix} before",
                )
        rows = recording.rows.get(stream, {})
        number = len(rows) if numbers is None else int(numbers[index])
        if number in rows:
            raise UserError(
                "two rows for one frame",
                location=f"{content.location}:{rule.number}",
                value=number,
                expected=f"frames of {suffix} with a number each",
            )
        piece = values[index] if edges is None else values[edges[index] : edges[index + 1]]
        location = f"{content.location}:{index}"
        row = partial(_piece, piece, function, location, rule, content)
        yield name, number, _Row(location, row), own | source.attributes


def _piece(
    values: Any, function: Transformation | None, location: str, rule: Stream, content: FileContent
) -> Transformed:
    return _with_stated(transform(values, function, location), rule, content)


def _check_lengths(content: FileContent, count: int, columns: Mapping[str, NDArray[Any]]) -> None:
    for name, column in columns.items():
        if len(column) != count:
            raise UserError(
                "not one entry a row", location=f"{content.location}:{name}", value=len(column), expected=f"{count}"
            )


def write_frames(
    group: h5py.Group, recording: FrameRecording, rules: Conversion, name: str, tell: Callable[[str], None]
) -> None:
    """Write a recording frame by frame.

    Args:
        group: the group of the recording.
        recording: its frames.
        rules: the `convert` section.
        name: of the recording, for messages.
        tell: receives findings and a summary.

    Raises:
        UserError: a stream lacks frames, or files are damaged or differ in shape.
    """
    numbers = _common_frames(recording, rules, name, tell)
    findings: Counter[tuple[str, str]] = Counter()
    attributes: dict[str, dict[str, Any]] = {}
    tables: dict[str, list[Any]] = {}
    for at, number in enumerate(numbers):
        for stream, rows in recording.rows.items():
            row = rows.get(number) or recording.empty[stream]
            result = row.read()
            findings.update((stream, finding) for finding in result.findings)
            attributes.setdefault(stream, result.attributes)
            if COLUMNS in result.attributes:
                table = _object_table(result.values, result.attributes[COLUMNS], row.location)
                tables.setdefault(stream, []).append(table)
            else:
                _write_frame(group, stream, at, len(numbers), result.values, row.location)
    for stream, objects in tables.items():
        _write_tables(group, stream, objects)
    for stream, result in recording.whole.items():
        _check_numbers(result.values, name, stream)
        group.create_dataset(stream, data=result.values)
        attributes[stream] = result.attributes
        findings.update((stream, finding) for finding in result.findings)
    for (stream, finding), count in findings.items():
        tell(f"{name}/{stream}: {finding}" + (f" ({count} frames)" if count > 1 else ""))
    for stream, values in attributes.items():
        group[stream].attrs.update(
            {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        )
    _write_metadata(group, recording, rules, numbers, name)
    tell(f"{name}: {len(numbers)} frames")


def _common_frames(recording: FrameRecording, rules: Conversion, name: str, tell: Callable[[str], None]) -> list[int]:
    """The numbers of the frames that are written."""
    first = next(iter(rules.streams))
    if not recording.rows.get(first):
        raise UserError(
            "a recording without frames of its first stream",
            location=name,
            value=first,
            expected="a file or row for each frame, which says which frames there are",
        )
    frames = set(recording.rows[first])
    common = set(frames)
    for stream, rows in recording.rows.items():
        lacking = sorted(frames - set(rows))
        if lacking and stream not in recording.empty:
            if rules.frames == "all":
                raise UserError(
                    f"frames without {stream!r}",
                    location=name,
                    value=_abbreviate(lacking),
                    expected=f"one for each of the {len(frames)} frames of {first!r}",
                    hint="Is the copy complete? `frames: common` in `convert` leaves such frames out.",
                )
            common -= set(lacking)
            tell(f"{name}: left out {_abbreviate(lacking)}, without {stream}")
        if unused := sorted(set(rows) - frames):
            tell(f"{name}/{stream}: not used, frames that {first} has not: {_abbreviate(unused)}")
    if not common:
        raise UserError(
            "no frame that all streams have",
            location=name,
            value=list(recording.rows),
            expected="the same numbers in their files' names",
        )
    return sorted(common)


def _abbreviate(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MAX_NAMED]))
    return f"{len(numbers)} frames ({shown}{', ...' if len(numbers) > _MAX_NAMED else ''})"


def _write_frame(group: h5py.Group, stream: str, at: int, count: int, values: Any, location: str) -> None:
    """Write one frame into the dataset of a stream, which the first frame creates."""
    _check_numbers(values, location, stream)
    if stream not in group:
        group.create_dataset(stream, (count, *values.shape), values.dtype)
    data = group[stream]
    if values.shape != data.shape[1:]:
        raise UserError(
            "a frame of another shape",
            location=location,
            value=values.shape,
            expected=f"{data.shape[1:]}, as in the frames before",
        )
    data[at] = values


def _check_numbers(values: Any, location: str, stream: str) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in NUMERIC or 0 in values.shape:
        kind = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(
            f"nothing that can be stored as {stream!r}",
            location=location,
            value=kind,
            expected="an array of numbers",
            hint="A document needs a `through`.",
        )


def _object_table(values: Any, columns: Iterable[str], location: str) -> NDArray[np.float32]:
    """Objects of one frame as (object, column)."""
    width = len(list(columns))
    table = np.asarray(values, dtype=np.float32)
    table = table.reshape(0, width) if table.size == 0 else table
    if table.ndim != 2 or table.shape[1] != width:
        raise UserError(
            "not objects in these columns", location=location, value=table.shape, expected=f"(object, {width})"
        )
    return table


def _write_tables(group: h5py.Group, stream: str, tables: Sequence[NDArray[np.float32]]) -> None:
    """Write (frame, object, column), with rows of NaN where a frame has fewer objects."""
    count = max([1, *map(len, tables)])
    padded = [np.pad(table, ((0, count - len(table)), (0, 0)), constant_values=np.nan) for table in tables]
    group.create_dataset(stream, data=np.stack(padded))


def _write_metadata(
    group: h5py.Group, recording: FrameRecording, rules: Conversion, numbers: Sequence[int], name: str
) -> None:
    """Write frame numbers, blocks and attributes."""
    datasets = {*rules.streams, FRAME, *([BLOCK] if rules.blocks else [])}
    group.create_dataset(FRAME, data=np.array(numbers, dtype=np.int64))
    if rules.blocks:
        group.create_dataset(BLOCK, data=np.array(numbers, dtype=np.int64) // rules.blocks)
    for key, value in {**rules.parameters, **recording.attributes}.items():
        if key in datasets:
            raise UserError("an attribute with the name of a dataset", location=name, value=key)
        group.attrs[key] = value
