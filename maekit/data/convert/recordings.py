"""Recordings in time: the streams of a recording from their files, each on an even grid of time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.data.convert.align import align, moment_of
from maekit.data.convert.clock import DAY, read_times, to_stamps
from maekit.data.convert.content import NUMERIC
from maekit.data.convert.labels import LabelRows, Track, make_track, read_label_rows
from maekit.data.convert.stream_values import find_transformation, label_column, read_offsets, read_values, transform
from maekit.data.convert.timing import Timed, check_rows, place, put_on_grid
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Conversion, Stream
    from maekit.data.convert.clock import Times
    from maekit.data.convert.content import FileContent
    from maekit.data.convert.sources import Files
    from maekit.data.convert.stream_values import Transformation, Transformations


@dataclass
class TimedRecording:
    """The streams and attributes of one recording.

    Args:
        signal: name of the stream that starts the recording; by default the first.
        streams: by name.
        tracks: labels that are not aligned yet, by name of their stream.
        attributes: by name.
    """

    signal: str = ""
    streams: dict[str, Timed] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> Timed:
        """The stream whose first value starts the recording."""
        return self.streams.get(self.signal) or next(iter(self.streams.values()))

    def start_of(self, stream: Timed) -> float:
        """When a stream begins, in seconds after the start of the recording (0 without stamps)."""
        first = self.reference
        if stream.start_s is None or first.start_s is None:
            return 0.0
        passed = (stream.origin + Fraction(stream.start_s)) - (first.origin + Fraction(first.start_s))
        if first.zero == "midnight":
            passed -= round(passed / DAY) * DAY
        return float(passed)


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
            attribute: content.numbers_or_text(key)
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
            hint=nearest(key, content.arrays),
        )
    for name, recording in recordings.items():
        _complete(rules, recording, name, auxiliary)
    return recordings


def _parts(rule: Stream, content: FileContent, function: Transformation | None) -> Iterator[_Part]:
    """The recordings that one file holds."""
    if rule.labels is not None:
        labels = read_label_rows(rule, content, label_column(rule, content))
        yield from _split_parts(rule, content, labels, None, None)
        return
    values = read_values(rule, content)
    if not isinstance(values, np.ndarray):
        raise UserError(
            "no numbers in time",
            location=content.location,
            expected="a format of arrays",
            hint="Files that hold a frame each need the group `frame` in `convert.record`.",
        )
    stamps = None
    if rule.time is not None:
        stamps = read_times(rule, content, rule.time, rule.rate_hz)
        if rule.offsets is not None or rule.by:
            check_rows(stamps.values, len(values), content.location)
    yield from _split_parts(rule, content, values, stamps, function)


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
    if content.rate_hz is not None and rule.rate_hz not in (None, content.rate_hz):
        raise UserError(
            "a rate other than the stated one",
            location=content.location,
            value=content.rate_hz,
            expected=f"{rule.rate_hz:g} Hz",
            hint="Leave `rate_hz` out: the file states it.",
        )
    return rule.rate_hz or content.rate_hz


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
        return make_track(rule, values, rate_hz, location)
    result, attributes, findings = transform(values, function, location)
    if not isinstance(result, np.ndarray):
        raise UserError("no numbers in time", location=location, value=type(result).__name__, expected="an array")
    if stamps is None:
        stream = put_on_grid(result, None, rate_hz, rule.resample_hz, location)
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
    units: Mapping[str, str] = content.attributes.get("units", {})
    if used := {units[name] for name in map(str, rule.columns or [rule.key or ""]) if name in units}:
        stream.attributes["unit"] = ", ".join(sorted(used))
    bits: Mapping[str, int] = content.attributes.get("resolution_bits", {})
    if resolution := [bits[name] for name in map(str, rule.columns or [rule.key or ""]) if name in bits]:
        stream.attributes["resolution_bits"] = resolution
    stream.attributes |= attributes
    if all_findings := [*content.attributes.get("findings", ()), *findings]:
        stream.attributes["findings"] = all_findings
    return stream


def _check_missing(values: NDArray[Any], max_missing: float, location: str) -> None:
    """Refuse a stream that is mostly missing.

    Raises:
        UserError: see above.
    """
    missing = float(np.isnan(values).mean()) if values.dtype.kind in "fc" and values.size else 0.0
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


def _complete(rules: Conversion, recording: TimedRecording, name: str, auxiliary: Collection[str]) -> None:
    """Put all streams of a recording on one time line: labels and auxiliary signals on the grid of the signal.

    Optional streams that it lacks become empty datasets.

    Raises:
        UserError: there is no signal, or streams whose clocks cannot be compared.
    """
    first = recording.signal or next(iter(rules.streams))
    if first not in recording.streams or not len(recording.streams[first].values):
        raise UserError(
            "a recording without its first stream",
            location=name,
            value=first,
            expected="values, which start the recording",
        )
    _start(rules, recording, name)
    _check_clocks(recording, name)
    for stream, track in recording.tracks.items():
        recording.streams[stream] = align(track, recording.reference)
    for stream in auxiliary:
        if (part := recording.streams.get(stream)) is not None and part is not recording.reference and len(part.values):
            recording.streams[stream] = place(part, recording.reference, recording.start_of(part), f"{name}/{stream}")
    recording.streams = {
        stream: recording.streams.get(stream, Timed(np.zeros(0, dtype=np.float32), rule.rate_hz or rule.resample_hz))
        for stream, rule in rules.streams.items()
    }


def _start(rules: Conversion, recording: TimedRecording, name: str) -> None:
    """Apply the stated `start` of streams that have no stamps.

    Raises:
        UserError: they have.
    """
    reference = recording.reference
    starts = {stream: rules.streams[stream].start for stream in recording.streams}
    for stream, start in sorted(starts.items(), key=lambda item: isinstance(item[1], float)):  # dates before seconds
        if start is None:
            continue
        part, location = recording.streams[stream], f"{name}: convert.streams.{stream}.start"
        if part.start_s is not None:
            raise UserError(
                "a start of a stream that has time stamps", location=location, value=start, hint="Leave it out."
            )
        if isinstance(start, str):
            moment = moment_of(start, location)
            part.origin, part.zero, part.start_s = moment.start, moment.zero, 0.0
            continue
        if reference.start_s is None:
            reference.start_s = 0.0
        part.origin, part.zero = reference.origin + Fraction(reference.start_s), reference.zero
        part.start_s = start


def _check_clocks(recording: TimedRecording, name: str) -> None:
    """Refuse streams whose stamps cannot be compared.

    Raises:
        UserError: see above.
    """
    clocks = {stream: part.start_s is not None for stream, part in recording.streams.items()}
    if len(set(clocks.values())) > 1:
        raise UserError(
            "streams with and without time stamps in one recording",
            location=name,
            value=clocks,
            expected="a common start",
            hint="Give each its `time`, or state the `start` of those without.",
        )
    zeros = {stream: part.zero for stream, part in recording.streams.items() if part.start_s is not None}
    if len(set(zeros.values())) > 1:
        raise UserError(
            "streams whose clocks count from different moments in one recording",
            location=name,
            value=zeros,
            expected="dates with a zone, dates without, times of day, or numbers in all of them",
            hint="Write the stamps of one of them as those of the others.",
        )
