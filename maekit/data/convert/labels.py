"""Labels on a time line of their own, as files have them: values now and then, events, spans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.cells import BLANK_CELLS
from maekit.data.convert.clock import DAY, Stamps, to_stamps
from maekit.data.convert.stamp_forms import check_unit
from maekit.data.convert.stamps import read_times, rows_with_times
from maekit.data.convert.time_units import SECONDS
from maekit.data.hdf5.values import mark_missing
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Stream
    from maekit.config.data_spec import DataSpec
    from maekit.data.convert.content import FileContent
    from maekit.data.convert.stamps import Times


_LATE = 2
"""Usual intervals by which the stamp of an event may jump before it counts as a pause."""


@dataclass(frozen=True)
class Track:
    """Labels as one recording has them, before they are aligned.

    Args:
        rule: the stream.
        location: shown in error messages.
        stamps: of each label or event.
        stated: whether the stamps are times of the file, and not only multiples of a period or sums of intervals.
        ends_s: end of each span, in seconds like the stamps.
        values: (labels,) numbers or text; None for events.
    """

    rule: Stream
    location: str
    stamps: Stamps
    stated: bool
    ends_s: NDArray[np.float64] | None = None
    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class LabelRows:
    """The columns of a label stream.

    Args:
        times: of each row, if there are stamps; also the times of events.
        values: numbers or text.
        ends: of spans.
        intervals: seconds between events.
    """

    times: Times | None = None
    values: NDArray[Any] | None = None
    ends: Times | None = None
    intervals: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        columns = (self.values, self.intervals, None if self.times is None else self.times.values)
        return next(len(column) for column in columns if column is not None)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> LabelRows:
        return LabelRows(
            None if self.times is None else self.times.of_rows(rows),
            None if self.values is None else self.values[rows],
            None if self.ends is None else self.ends.of_rows(rows),
            None if self.intervals is None else self.intervals[rows],
        )


def resolve_labels(spec: DataSpec) -> dict[str, Stream]:
    """The streams of a spec, with `labels` as its `label` section implies where they do not say so themselves.

    Raises:
        UserError: keys of time stamps in a stream that has none.
    """
    assert spec.convert is not None
    streams = dict(spec.convert.streams)
    label, signal = spec.label, spec.signal
    path = label.path if label is not None and label.objects is None else None
    for name, rule in streams.items():
        if rule.labels is None and rule.intervals is not None:
            streams[name] = rule.model_copy(update={"labels": "events"})
        elif rule.labels is None and label is not None and name == path and not spec.convert.framewise:
            timed = (rule.timed or "rate_hz" in rule.first_rows) and rule.resample_hz is None and rule.through is None
            if label.events:
                streams[name] = rule.model_copy(update={"labels": "events"})
            elif timed and name != (signal.path if signal else None) and name != next(iter(streams)):
                streams[name] = rule.model_copy(update={"labels": "values"})
        keys = [
            key
            for key in ("time_unit", "time_format", "time_zone", "wraps", "batches")
            if getattr(rule, key) is not None
        ]
        if keys and rule.time is None and streams[name].labels != "events":
            raise UserError(
                "how to read time stamps, but not where they are",
                location=f"convert.streams.{name}.{keys[0]}",
                value=getattr(rule, keys[0]),
                expected="`time`, the column or key of the stamps",
                hint="Times of events need `labels: events` alone.",
            )
    return streams


def read_label_rows(rule: Stream, content: FileContent, column: str | int | None) -> LabelRows:
    """The columns of a label stream.

    Args:
        rule: the stream.
        content: of the file.
        column: of the values, or of the times of events without `time`; None where there are none.

    Raises:
        UserError: a column does not exist, or holds no times.
    """
    rate_hz = rule.rate_hz or content.rate_hz
    if rule.labels == "events":
        intervals = None
        if rule.intervals is not None:
            if "interval_unit" not in rule.model_fields_set:
                units = content.attributes.get("units", {})
                check_unit(str(rule.intervals), units, f"{content.location}:{rule.intervals}", "interval_unit")
            intervals = content.numbers(rule.intervals).ravel().astype(np.float64) * float(SECONDS[rule.interval_unit])
        source = rule.time if rule.time is not None or intervals is not None else column
        stop = None if source is None or intervals is not None else rows_with_times(content, source) or None
        return LabelRows(
            None if source is None else read_times(rule, content, source, rate_hz, stop), intervals=intervals
        )
    assert column is not None
    values, stop = content.native(column).ravel(), None
    if rule.time is not None and not rule.by and rule.offsets is None:
        rows = rows_with_times(content, rule.time)
        stop = rows if rows and _is_blank(values[rows:]) else None
    times = None if rule.time is None else read_times(rule, content, rule.time, rate_hz, stop)
    ends = None if rule.end is None else read_times(rule, content, rule.end, rate_hz, stop)
    if values.dtype.kind in "OSU":
        values = np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()])
    else:
        values = mark_missing(content.numbers(column).ravel().astype(np.float64), rule.missing)
    return LabelRows(times, values[:stop], ends)


def _is_blank(values: NDArray[Any]) -> bool:
    """Whether there is nothing in some cells of a column."""
    blank = np.isnan(values) if values.dtype.kind == "f" else np.isin(values, BLANK_CELLS)
    return bool(blank.all()) and values.dtype.kind in "fU"


def make_track(rule: Stream, rows: LabelRows, rate_hz: float | None, start_s: Fraction | None, location: str) -> Track:
    """The labels of one recording.

    Args:
        rule: the stream.
        rows: its columns.
        rate_hz: of labels without stamps, if the file states it.
        start_s: when they begin, in seconds since 1970 in UTC, if the file states it.
        location: shown in error messages.

    Raises:
        UserError: a time is missing, spans end before they begin, or labels have neither times nor a rate.
    """
    if rule.labels == "events":
        return _event_track(rule, rows, location)
    assert rows.values is not None
    if rows.times is None:
        rate = rule.rate_hz or rate_hz
        if rate is None:
            raise UserError("labels without time", location=location, expected="`time`, or `rate_hz`")
        times = np.arange(len(rows.values)) / rate
        stamps = Stamps(times, start_s or Fraction(0), "number" if start_s is None else "utc", "s")
        return Track(rule, location, stamps, stated=start_s is not None, values=rows.values)
    if len(rows.times.values) != len(rows.values):
        raise UserError(
            "not one time stamp a label",
            location=location,
            value=len(rows.times.values),
            expected=f"{len(rows.values)}",
        )
    stamps = to_stamps(rows.times, rule, location)
    _check_finite(stamps.seconds, location)
    if rows.ends is None:
        if (back := np.diff(stamps.seconds) < 0).any():
            raise UserError(
                "labels whose time stamps go back",
                location=location,
                value=f"row {int(np.argmax(back)) + 1}",
                expected="stamps in order",
                hint="Two recordings in one file? Split them. Out of order? Sort them.",
            )
        return Track(rule, location, stamps, stated=True, values=rows.values)
    ends = to_stamps(rows.ends, rule, location)
    ends_s = ends.seconds + float(ends.start - stamps.start)
    _check_finite(ends_s, location)
    if stamps.zero == "midnight":
        ends_s = np.where(ends_s < stamps.seconds, ends_s + float(DAY), ends_s)
    if (wrong := ends_s < stamps.seconds).any():
        raise UserError(
            "a span that ends before it begins",
            location=location,
            value=f"row {int(np.argmax(wrong))}",
            expected="`end` after `time`",
            hint="If the column holds durations, leave `labels: spans` and `end` out: each value then holds until the next one, or for `hold_s`.",
        )
    return Track(rule, location, stamps, stated=True, ends_s=ends_s, values=rows.values)


def _event_track(rule: Stream, rows: LabelRows, location: str) -> Track:
    stamps = None if rows.times is None else to_stamps(rows.times, rule, location)
    if rows.intervals is None:
        assert stamps is not None
        stamps = replace(stamps, seconds=stamps.seconds[np.isfinite(stamps.seconds)])
        return Track(rule, location, stamps, stated=True)
    intervals = rows.intervals
    if not (np.isfinite(intervals) & (intervals > 0)).all():
        row = int(np.argmin(np.isfinite(intervals) & (intervals > 0)))
        raise UserError(
            "no interval between two events",
            location=location,
            value=f"{intervals[row]:g} s in row {row}",
            expected="an interval above 0 in every row",
        )
    sums = np.cumsum(intervals)
    if stamps is None:
        return Track(rule, location, Stamps(sums, Fraction(0), "number", "s"), stated=False)
    _check_finite(stamps.seconds, location)
    late = stamps.seconds - sums
    pauses = np.flatnonzero(np.abs(np.diff(late)) > _LATE * np.median(intervals)) + 1
    for part in np.split(np.arange(len(sums)), pauses):
        sums[part] += np.median(late[part])
    return Track(rule, location, replace(stamps, seconds=sums), stated=True)


def _check_finite(seconds: NDArray[np.float64], location: str) -> None:
    if not np.isfinite(seconds).all():
        row = int(np.argmin(np.isfinite(seconds)))
        raise UserError(
            "a time stamp is missing", location=location, value=f"row {row}", expected="a time in every row"
        )
