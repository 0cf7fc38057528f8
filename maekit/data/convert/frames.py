"""Recordings that are published as a file a frame, or a row a frame: streams side by side by the frames' numbers.

Frames are read, made and written one at a time, for what a frame is made of may be large (a cube of 32 MiB, of which two
maps are kept) and a recording long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert import readers
from maekit.data.convert.sources import FRAME
from maekit.data.convert.stream_values import function_of, made_of, offsets_of, values_of
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import h5py

    from maekit.config.conversion import Conversion, Stream
    from maekit.data.convert.sources import Files, Source
    from maekit.data.convert.stream_values import Transformation, Transformations

COLUMNS = "columns"
"""Attribute of what a function gives that makes its rows a table of objects, which may have any number of them."""

BLOCK = "block"
_SMALL = 4096

Made = tuple[Any, dict[str, Any], list[str]]


@dataclass
class _Row:
    """A stream in one frame."""

    location: str
    make: Callable[[], Made]


@dataclass
class FrameRecording:
    """What there is of one recording.

    Args:
        rows: by stream and number of the frame.
        whole: what a stream has of the recording as a whole.
        silent: what frames have that a file on all of them does not mention (`sparse`).
        attributes: of the recording.
    """

    rows: dict[str, dict[int, _Row]] = field(default_factory=dict)
    whole: dict[str, Made] = field(default_factory=dict)
    silent: dict[str, _Row] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def frame_recordings(
    rules: Conversion, record: str, files: Mapping[str, Files], transformations: Transformations
) -> dict[str, FrameRecording]:
    """The recordings of one name by their own names: one, or as many as `by` tells apart; only files on all frames are read.

    Raises:
        UserError: keys that are missing, a file that cannot be used, or an unknown function.
    """
    found: dict[str, FrameRecording] = {}
    for stream, rule in rules.streams.items():
        through = function_of(rule, stream, transformations)
        if stream not in files:
            continue
        for source in files[stream].all():
            if rule.by:
                _told_apart(rules, stream, source, through, record, found)
                continue
            found.setdefault(record, FrameRecording()).attributes.update(source.attributes)
        if rule.by:
            continue
        recording = found[record]
        if files[stream].whole:
            _add_whole(recording, stream, rule, files[stream].whole, through)
        most = max(map(len, files[stream].frames.values()), default=0)
        for number, sources in files[stream].frames.items():
            if len(sources) != most:
                raise UserError(
                    f"a frame with fewer files of {stream!r} than others",
                    location=sources[0].location,
                    value=len(sources),
                    expected=f"{most}",
                    hint="Is the copy complete?",
                )
            make = partial(_read, rule, sources, through)
            recording.rows.setdefault(stream, {})[number] = _Row(sources[0].location, make)
    return found


def _read(rule: Stream, sources: Sequence[Source], through: Transformation | None) -> Made:
    return made_of(_joined(rule, sources), through, sources[0].location)


def _joined(rule: Stream, sources: Sequence[Source]) -> Any:
    """The values of a file, or of several that belong together."""
    if not rule.several:
        return values_of(rule, sources[0].read())
    parts = [values_of(rule, source.read()) for source in sources]
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
    recording: FrameRecording, stream: str, rule: Stream, sources: Sequence[Source], through: Transformation | None
) -> None:
    """Rows by number where that is what a function makes of a file on all frames; else something that has no frames."""
    made = _read(rule, sources, through)
    values, attributes, findings = made
    if not isinstance(values, Mapping):
        recording.whole[stream] = made
        return
    rows = recording.rows.setdefault(stream, {})
    for at, (number, value) in enumerate(sorted(values.items())):
        row: Made = (value, attributes, findings if at == 0 else [])
        rows[number] = _Row(f"{sources[0].location} frame {number}", partial(_same, row))
    if rule.sparse:
        recording.silent[stream] = _Row(sources[0].location, partial(_same, ([], attributes, [])))


def _same(made: Made) -> Made:
    return made


def _told_apart(
    rules: Conversion,
    stream: str,
    source: Source,
    through: Transformation | None,
    record: str,
    found: dict[str, FrameRecording],
) -> None:
    """Rows of one file to the recordings that they belong to."""
    rule = rules.streams[stream]
    content = source.read()
    values = values_of(rule, content)
    edges = offsets_of(rule, content, len(values)) if rule.offsets is not None else None
    count = len(values) if edges is None else len(edges) - 1
    keys = {key: content.pick(key).ravel() for key in rule.by}
    noted = {name: content.pick(key).ravel() for name, key in rules.attributes.items()}
    numbers = None if rule.number is None else content.numbers(rule.number).ravel()
    for name, column in {**keys, **noted, **({} if numbers is None else {str(rule.number): numbers})}.items():
        if len(column) != count:
            raise UserError(
                "not one entry a row", location=f"{content.location}:{name}", value=len(column), expected=f"{count}"
            )
    widths = [len(str(int(column.max()))) if column.dtype.kind in "iu" else 0 for column in keys.values()]
    for row in range(count):
        own = [column[row].item() for column in keys.values()]
        suffix = "_".join(
            f"{value:0{width}d}" if width else str(value) for value, width in zip(own, widths, strict=True)
        )
        recording = found.setdefault(f"{record}_{suffix}".replace("/", "_"), FrameRecording())
        for name, value in [
            *zip(rule.by, own, strict=True),
            *((name, column[row].item()) for name, column in noted.items()),
        ]:
            if recording.attributes.setdefault(name, value) != value:
                raise UserError(
                    "not one value a recording",
                    location=f"{content.location}:{name}",
                    value=value,
                    expected=f"{recording.attributes[name]}, as in the rows of {suffix} before",
                )
        recording.attributes |= source.attributes
        rows = recording.rows.setdefault(stream, {})
        number = len(rows) if numbers is None else int(numbers[row])
        if number in rows:
            raise UserError(
                "two rows for one frame",
                location=f"{content.location}:{rule.number}",
                value=number,
                expected=f"frames of {suffix} with a number each",
            )
        piece = values[row] if edges is None else values[edges[row] : edges[row + 1]]
        location = f"{content.location}:{row}"
        rows[number] = _Row(location, partial(made_of, piece, through, location))


def write_frames(
    group: h5py.Group, recording: FrameRecording, rules: Conversion, name: str, tell: Callable[[str], None]
) -> None:
    """Write what there is of a recording, frame by frame.

    Args:
        group: where.
        recording: what.
        rules: of the conversion.
        name: of the recording, for messages.
        tell: receives what a person should know.

    Raises:
        UserError: frames that a stream lacks, files that are damaged or not alike.
    """
    numbers = _common(recording, rules, name, tell)
    seen: Counter[tuple[str, str]] = Counter()
    noted: dict[str, dict[str, Any]] = {}
    tables: dict[str, list[Any]] = {}
    for at, number in enumerate(numbers):
        for stream, rows in recording.rows.items():
            row = rows.get(number) or recording.silent[stream]
            values, attributes, findings = row.make()
            seen.update((stream, finding) for finding in findings)
            noted.setdefault(stream, attributes)
            if COLUMNS in attributes:
                tables.setdefault(stream, []).append(_objects(values, attributes[COLUMNS], row.location))
            else:
                _put(group, stream, at, len(numbers), values, row.location)
    for stream, table in tables.items():
        most = max([1, *map(len, table)])
        padded = [np.pad(objects, ((0, most - len(objects)), (0, 0)), constant_values=np.nan) for objects in table]
        group.create_dataset(stream, data=np.stack(padded), compression="gzip", shuffle=True)
    for stream, (values, attributes, findings) in recording.whole.items():
        _check_numbers(values, name, stream)
        group.create_dataset(stream, data=values)
        noted[stream] = attributes
        seen.update((stream, finding) for finding in findings)
    for (stream, finding), count in seen.items():
        tell(f"{name}/{stream}: {finding}" + (f" ({count} frames)" if count > 1 else ""))
    for stream, attributes in noted.items():
        group[stream].attrs.update(
            {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
        )
    _note(group, recording, rules, numbers, name)
    tell(f"{name}: {len(numbers)} frames")


def _common(recording: FrameRecording, rules: Conversion, name: str, tell: Callable[[str], None]) -> list[int]:
    """The numbers of the frames that are written."""
    first = next(iter(rules.streams))
    if not recording.rows.get(first):
        raise UserError(
            "a recording without frames of its first stream",
            location=name,
            value=first,
            expected="a file or row for each frame, which says which frames there are",
        )
    kept = set(recording.rows[first])
    for stream, rows in recording.rows.items():
        lacking = sorted(set(recording.rows[first]) - set(rows))
        if lacking and stream not in recording.silent:
            if rules.frames == "all":
                raise UserError(
                    f"frames without {stream!r}",
                    location=name,
                    value=_some(lacking),
                    expected=f"one for each of the {len(recording.rows[first])} frames of {first!r}",
                    hint="Is the copy complete? `frames: common` in `convert` leaves such frames out.",
                )
            kept -= set(lacking)
            tell(f"{name}: left out {_some(lacking)}, without {stream}")
        if more := sorted(set(rows) - set(recording.rows[first])):
            tell(f"{name}/{stream}: not used, frames that {first} has not: {_some(more)}")
    if not kept:
        raise UserError(
            "no frame that all streams have",
            location=name,
            value=list(recording.rows),
            expected="the same numbers in their files' names",
        )
    return sorted(kept)


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{len(numbers)} frames ({shown}{', ...' if len(numbers) > 5 else ''})"


def _put(group: h5py.Group, stream: str, at: int, count: int, values: Any, location: str) -> None:
    """One frame of a stream into its dataset, which the first one makes."""
    _check_numbers(values, location, stream)
    if stream not in group:
        rows = min(count, max(1, _SMALL // max(1, values.size)))
        group.create_dataset(
            stream, (count, *values.shape), values.dtype, chunks=(rows, *values.shape), compression="gzip", shuffle=True
        )
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
    if not isinstance(values, np.ndarray) or values.dtype.kind not in readers.NUMERIC or 0 in values.shape:
        kind = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(
            f"nothing that can be stored as {stream!r}",
            location=location,
            value=kind,
            expected="an array of numbers",
            hint="A document needs a `through`.",
        )


def _objects(values: Any, columns: Iterable[str], location: str) -> Any:
    """(object, column) as float32."""
    width = len(list(columns))
    table = np.asarray(values, dtype=np.float32)
    table = table.reshape(0, width) if table.size == 0 else table
    if table.ndim != 2 or table.shape[1] != width:
        raise UserError(
            "not objects in these columns", location=location, value=table.shape, expected=f"(object, {width})"
        )
    return table


def _note(group: h5py.Group, recording: FrameRecording, rules: Conversion, numbers: Sequence[int], name: str) -> None:
    taken = {*rules.streams, FRAME, *([BLOCK] if rules.blocks else [])}
    group.create_dataset(FRAME, data=np.array(numbers, dtype=np.int64))
    if rules.blocks:
        group.create_dataset(BLOCK, data=np.array(numbers, dtype=np.int64) // rules.blocks)
    for key, value in {**rules.parameters, **recording.attributes}.items():
        if key in taken:
            raise UserError("an attribute with the name of a dataset", location=name, value=key)
        group.attrs[key] = value
