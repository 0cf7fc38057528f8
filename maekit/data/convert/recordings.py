"""Recordings in time: the streams of a recording from their files, each on an even grid of time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.data.convert.cells import BLANK_CELLS
from maekit.data.convert.clock import to_stamps
from maekit.data.convert.content import NUMERIC
from maekit.data.convert.file_array import FileArray, blocks
from maekit.data.convert.labels import LabelRows, Track, make_track, read_label_rows
from maekit.data.convert.stamps import read_times, rows_with_times
from maekit.data.convert.stream_values import (
    array_names,
    find_transformation,
    label_column,
    read_offsets,
    read_rows,
    read_values,
    stated_attributes,
    transform,
)
from maekit.data.convert.time_line import TimedRecording, complete
from maekit.data.convert.timing import Timed, check_rows, put_on_grid
from maekit.data.hdf5.attributes import RATES, rates_agree
from maekit.data.hdf5.packing import plain_name
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Conversion, Stream
    from maekit.data.convert.content import FileContent
    from maekit.data.convert.sources import Files
    from maekit.data.convert.stamps import Times
    from maekit.data.convert.stream_values import Transformation, Transformations


class _Part(NamedTuple):
    """The share of one recording in a file.

    Attributes:
        suffix: added to the recording's name.
        stream: its values, or labels that are not aligned yet.
        rows: their rows in the file; None for all.
        entry: number of the recording in the file, for files with one attribute a recording.
        keys: the values of `by`.
    """

    suffix: str
    stream: Timed | Track
    rows: NDArray[np.intp] | None = None
    entry: int | None = None
    keys: Mapping[str, str] = {}


def read_recordings(
    rules: Conversion,
    record: str,
    files: Mapping[str, Files],
    transformations: Transformations,
    signal: str = "",
    auxiliary: Collection[str] = (),
) -> dict[str, TimedRecording]:
    """The recordings of one name: one, or several from a ragged array or from rows that `by` tells apart.

    Args:
        rules: the `convert` section, with `labels` of its streams resolved.
        record: name of the recording.
        files: of its streams.
        transformations: functions by adapter and name.
        signal: the stream that starts the recording; by default the first.
        auxiliary: streams that are cut like the signal, and so are placed on its grid.

    Raises:
        UserError: columns or keys are missing, or time stamps do not give the values a time.
    """
    recordings: dict[str, TimedRecording] = {}
    keys = set(rules.attributes.values())
    seen: set[str] = set()
    for name, rule in rules.streams.items():
        if name not in files:
            continue
        source = files[name].whole[0]
        content = source.read()
        attributes = {
            attribute: np.asarray(content.numbers_or_text(key))
            for attribute, key in rules.attributes.items()
            if key in content.arrays
        }
        seen |= keys & set(content.arrays)
        for part in _parts(rule, content, find_transformation(rule, name, transformations)):
            recording = recordings.setdefault(record + part.suffix, TimedRecording(signal))
            recording.attributes |= {**source.attributes, **part.keys}
            if isinstance(part.stream, Track):
                recording.tracks[name] = part.stream
            else:
                recording.streams[name] = part.stream
            for attribute, values in attributes.items():
                location = f"{source.location}:{rules.attributes[attribute]}"
                recording.attributes[attribute] = _attribute(values, part, location)
    if missing := keys - seen:
        key = min(missing)
        raise UserError(
            "no such column or key",
            location=next(iter(files.values())).whole[0].location,
            value=key,
            expected="a name in one of the recording's files, for `convert.attributes`",
            hint=nearest(key, content.arrays)
            or "A table with a row for each recording is joined by its files' names: `table` in `convert`.",
        )
    for name, recording in recordings.items():
        complete(rules, recording, name, auxiliary)
    return recordings


def _parts(rule: Stream, content: FileContent, function: Transformation | None) -> Iterator[_Part]:
    """The recordings that one file holds."""
    if rule.labels is not None:
        labels = read_label_rows(rule, content, label_column(rule, content))
        yield from _split_parts(rule, content, labels, None, None)
        return
    by_rows = function is None and rule.time is None and rule.offsets is None and not rule.by
    values = read_rows(rule, content) if by_rows and rule.resample_hz is None else read_values(rule, content)
    if not isinstance(values, np.ndarray | FileArray):
        raise UserError(
            "no numbers in time",
            location=content.location,
            expected="a format of arrays",
            hint="Files that hold a frame each need the group `frame` in `convert.record`.",
        )
    stamps = None
    if rule.time is not None:
        assert isinstance(values, np.ndarray), "only streams without stamps are read by rows"
        stop = None
        if rule.offsets is None and not rule.by and function is None:
            stop = _without_padding(values, rows_with_times(content, rule.time))
            values = values[:stop]
        stamps = read_times(rule, content, rule.time, rule.rate_hz, stop)
        if rule.offsets is not None or rule.by:
            check_rows(stamps.values, len(values), content.location)
    yield from _split_parts(rule, content, values, stamps, function)


def _without_padding(values: NDArray[Any], rows: int) -> int | None:
    """The number of rows that have a time stamp, if there is nothing but missing values below them; None otherwise."""
    below = values[rows:]
    return rows if rows and below.dtype.kind in "fc" and len(below) and np.isnan(below).all() else None


def _split_parts(
    rule: Stream, content: FileContent, values: Any, stamps: Times | None, function: Transformation | None
) -> Iterator[_Part]:
    """The rows of a file, split into recordings."""
    if rule.by:
        yield from _grouped_parts(rule, content, values, stamps, function)
    elif rule.offsets is not None:
        yield from _ragged_parts(rule, content, values, stamps, function)
    else:
        stream = _on_grid(rule, content, values, stamps, _rate(rule, content), content.location, function)
        yield _Part("", stream)


def _rate(rule: Stream, content: FileContent) -> float | None:
    """The rate that a stream, which stamps are held against if there are any, or its file states.

    Raises:
        UserError: they state different ones, and there are no stamps.
    """
    stated = content.rate_hz
    if stated is None and rule.time is None and rule.labels is None and content.arrays:
        rates: Mapping[str, float] = content.attributes.get("rates", {})
        found = {rates[name] for name in map(str, array_names(rule, content)) if name in rates}
        stated = found.pop() if len(found) == 1 else None
        if stated is not None and rule.rate_hz is not None and rates_agree(stated, rule.rate_hz):
            stated = rule.rate_hz
    if stated is not None and rule.rate_hz not in (None, stated) and rule.time is None:
        raise UserError(
            "a rate other than the stated one",
            location=content.location,
            value=stated,
            expected=f"{rule.rate_hz:g} Hz",
            hint="Leave `rate_hz` out: the file states it.",
        )
    return rule.rate_hz or stated


def _single_rates(content: FileContent, rate_hz: float | None) -> tuple[dict[str, float], list[str]]:
    """Single numbers in a file that are called a sampling rate: attributes of a dataset without one, and findings where they differ."""
    attributes, findings = {}, []
    for name in content.arrays:
        if plain_name(name.rpartition(".")[2].rpartition("/")[2]) not in RATES:
            continue
        value = content.pick(name)
        if value.size != 1 or value.dtype.kind not in "iuf" or not value.item() > 0:
            continue
        if rate_hz is None:
            attributes["sampling_rate"] = float(value.item())
        elif not rates_agree(value.item(), rate_hz):
            findings.append(f"the file says that {name} is {value.item():g}; {rate_hz:g} Hz is taken, as stated")
    return attributes, findings


def _ragged_parts(
    rule: Stream, content: FileContent, values: Any, stamps: Times | None, function: Transformation | None
) -> Iterator[_Part]:
    """A recording for each pair of offsets."""
    offsets = read_offsets(rule, content, len(values))
    rates = None
    if rule.rate_key is not None:
        rates = content.numbers(rule.rate_key).ravel()
        if len(rates) != len(offsets) - 1 or not (np.isfinite(rates) & (rates > 0)).all():
            raise UserError(
                "not one rate a recording",
                location=f"{content.location}:{rule.rate_key}",
                value=f"{len(rates)} values",
                expected=f"{len(offsets) - 1} rates above 0 Hz",
            )
    for entry, (start, stop) in enumerate(pairwise(offsets)):
        rate = rule.rate_hz if rates is None else float(rates[entry])
        own_stamps = None if stamps is None else stamps.of_rows(slice(start, stop))
        location = f"{content.location}:{entry}"
        stream = _on_grid(rule, content, values[start:stop], own_stamps, rate, location, function)
        yield _Part(f"_{entry:05d}", stream, entry=entry)


def _grouped_parts(
    rule: Stream, content: FileContent, values: Any, stamps: Times | None, function: Transformation | None
) -> Iterator[_Part]:
    """A recording for each combination of values of the columns `by`, in order of their first rows."""
    columns = [content.pick(key).ravel() for key in rule.by]
    for key, column in zip(rule.by, columns, strict=True):
        if len(column) != len(values):
            raise UserError(
                "not one entry a row",
                location=f"{content.location}:{key}",
                value=len(column),
                expected=f"{len(values)}",
            )
        if (
            blank := next((row for row, cell in enumerate(map(str, column.tolist())) if cell in BLANK_CELLS), None)
        ) is not None:
            raise UserError(
                "a row that belongs to nobody",
                location=content.locate(blank),
                expected=f"a value in {key!r}, by which rows are told apart",
            )
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, combination in enumerate(zip(*(map(str, column.tolist()) for column in columns), strict=True)):
        rows_of.setdefault(combination, []).append(row)
    for combination, row_list in rows_of.items():
        suffix, rows = "_".join(combination), np.array(row_list)
        location = f"{content.location}:{suffix}"
        timed = stamps is not None or (isinstance(values, LabelRows) and values.times is not None)
        if not timed and rows[-1] - rows[0] >= len(rows):
            raise UserError(
                "rows of one recording that do not stand together, and no time stamps",
                location=location,
                value=f"rows {rows[0]} to {rows[-1]}, of which {len(rows)} belong to it",
                expected="`time`, which tells how long the pauses are",
                hint="Without time stamps, add a column to `by` that tells the stretches apart.",
            )
        own_stamps = None if stamps is None else stamps.of_rows(rows)
        stream = _on_grid(rule, content, values[rows], own_stamps, _rate(rule, content), location, function)
        yield _Part(f"_{suffix}".replace("/", "_"), stream, rows, keys=dict(zip(rule.by, combination, strict=True)))


def _on_grid(
    rule: Stream,
    content: FileContent,
    values: Any,
    stamps: Times | None,
    rate_hz: float | None,
    location: str,
    function: Transformation | None,
) -> Timed | Track:
    """Values after the stream's function, on their grid in time, with the attributes of their dataset; labels as they are."""
    if isinstance(values, LabelRows):
        return make_track(rule, values, rate_hz, content.start_s, location)
    result, attributes, findings = transform(values, function, location)
    if not isinstance(result, np.ndarray | FileArray):
        raise UserError("no numbers in time", location=location, value=type(result).__name__, expected="an array")
    if stamps is None:
        stream = put_on_grid(result, None, rate_hz, rule.resample_hz, location)
        if content.start_s is not None:
            stream.start_s, stream.origin, stream.zero = 0.0, content.start_s, "utc"
    else:
        check_rows(stamps.values, len(result), location)
        clock = to_stamps(stamps, rule, location)
        stream = put_on_grid(
            result, clock.seconds, rate_hz, rule.resample_hz, location, unit=clock.unit, max_missing=rule.max_missing
        )
        stream.origin, stream.zero = clock.start, clock.zero
    _check_missing(stream.values, rule.max_missing, location)
    if content.full_scale is not None and function is None:
        stream.attributes["full_scale"] = content.full_scale
    stream.attributes |= stated_attributes(rule, content)
    if stamps is None:
        rate_attributes, rate_findings = _single_rates(content, stream.rate_hz)
        stream.attributes |= rate_attributes
        findings = [*findings, *rate_findings]
    stream.attributes |= attributes
    if all_findings := [*content.attributes.get("findings", ()), *findings]:
        stream.attributes["findings"] = all_findings
    return stream


def _check_missing(values: NDArray[Any] | FileArray, max_missing: float, location: str) -> None:
    """Refuse a stream that is mostly missing.

    Raises:
        UserError: see above.
    """
    missing = 0.0
    if values.dtype.kind in "fc" and values.size:
        missing = sum(int(np.isnan(rows).sum()) for _, rows in blocks(values)) / values.size
    if missing > max_missing:
        raise UserError(
            "a recording that is mostly missing",
            location=location,
            value=f"{missing:.2%} of {values.size} values",
            expected=f"at most {max_missing:.0%}",
            hint="Blank cells, `missing` numbers or pauses? If this is as it should be, state `max_missing`.",
        )


def _attribute(values: Any, part: _Part, location: str) -> Any:
    """One value, or one for each value of the stream."""
    if values.dtype.kind not in NUMERIC + "US":
        raise UserError("neither numbers nor text", location=location, value=str(values.dtype))
    if part.entry is not None:
        if part.entry >= len(values):
            raise UserError("fewer entries than recordings", location=location, value=len(values))
        return values[part.entry]
    if part.rows is not None and len(values) > part.rows.max():
        values = values[part.rows]
        if (values == values[0]).all():
            return values[0]
    if values.size == 1:
        return values.reshape(())[()]
    grid_rows = part.stream.rows if isinstance(part.stream, Timed) else None
    if grid_rows is not None and len(values) > grid_rows.max():
        return values[grid_rows]
    return values
