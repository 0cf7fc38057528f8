"""Time stamps of files to seconds: units, dates, counters that wrap, and batches of rows under one stamp.

Stamps are subtracted from the first one as they stand in the file (whole numbers as whole numbers), so that stamps of 1.7e18 ns keep
their nanoseconds; the moment of the first row is kept as an exact fraction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.cells import BLANK_CELLS
from maekit.data.convert.dates import Zero, parse_dates
from maekit.data.convert.stamp_forms import check_seconds, check_unit
from maekit.data.convert.time_units import SECONDS, WALL_CLOCK
from maekit.data.convert.timing import PAUSE
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Stream
    from maekit.data.convert.content import FileContent

DAY = Fraction(86400)

_PERIODS = [seconds * scale for seconds in (60, 3600, 86_400, 604_800) for scale in (1, 10**3, 10**6)]
_COUNTERS = [*(2**bits for bits in range(4, 33)), *(10**digits for digits in range(2, 10)), *_PERIODS]
"""Lengths of counters that are recognised."""
_DECIMALS = 10**9
_TICKS = (6 * 10**17, 7 * 10**17)
"""Ticks of 100 ns since the year 1, in the years 1902 to 2219."""
_PAUSE_AT_WRAP = 20
"""Usual steps that a counter may take across a wrap to be recognised."""


@dataclass(frozen=True)
class Times:
    """Time stamps as a file has them.

    Args:
        values: (rows,) whole numbers or float64, NaN where one is missing.
        unit: seconds of one.
        name: of the unit, as in `time_unit`.
        zero: what they count from.
    """

    values: NDArray[Any]
    unit: Fraction
    name: str
    zero: Zero

    def of_rows(self, rows: slice | NDArray[np.intp]) -> Times:
        """The stamps of some rows."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True)
class Stamps:
    """Time stamps of one recording.

    Args:
        seconds: (rows,) float64 after `start`.
        start: of the first row, in seconds since `zero`.
        zero: what the clock counts from.
        unit: in which the file has them.
    """

    seconds: NDArray[np.float64]
    start: Fraction
    zero: Zero
    unit: str


def read_times(
    rule: Stream,
    content: FileContent,
    column: str | int | list[str | int],
    rate_hz: float | None,
    stop: int | None = None,
) -> Times:
    """A column of time stamps, or two of date and time of day.

    Args:
        rule: states `time_unit` or `time_format`.
        content: of the file.
        column: name of the column or key, or the names of two.
        rate_hz: samples in a second, for `time_unit: samples`.
        stop: row before which to stop.

    Raises:
        UserError: no such column, a unit that the file names and the data spec does not, neither numbers nor dates, dates with a unit, or samples without a rate.
    """
    location = f"{content.location}:{column}"
    if isinstance(column, list):
        texts = [
            " ".join(map(str, cells))
            for cells in zip(*(content.pick(name).ravel()[:stop] for name in column), strict=True)
        ]
        return _dates(rule, content, texts)
    values = content.pick(column).ravel() if rule.time_format is not None else content.native(column).ravel()
    values = values[:stop]
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
        if missing.any():
            raise UserError("a time stamp is missing", location=location, value=f"row {int(np.argmax(missing))}")
        _check_no_unit(rule, location, str(values.dtype))
        kind = f"{values.dtype.kind}8[ns]"
        return Times(
            values.astype(kind).astype(np.int64), SECONDS["ns"], "ns", "utc" if values.dtype.kind == "M" else "number"
        )
    if values.dtype.kind in "OSU" and values.size:
        texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in values.tolist()]
        return _dates(rule, content, texts)
    if values.dtype.kind not in "biuf":
        raise UserError(
            "time stamps that are no numbers",
            location=location,
            value=str(values.dtype),
            expected="numbers, or dates as text",
        )
    if rule.time_unit is None:
        check_unit(str(column), content.attributes.get("units", {}), location)
    name = rule.time_unit or "s"
    values = _whole(values)
    if name != "samples" and _is_coarse(values):
        exact = _exact_decimals(content.pick(column)[:stop])
        if exact is not None:
            return Times(exact, SECONDS[name] / _DECIMALS, name, "number")
    if name == "samples":
        if rate_hz is None:
            raise UserError(
                "time stamps in samples, and no rate",
                location=location,
                expected="`rate_hz`: how many of these samples make a second",
            )
        return Times(values, 1 / Fraction(rate_hz), name, "row")
    return Times(values, SECONDS[name], name, "number")


def _dates(rule: Stream, content: FileContent, texts: list[str]) -> Times:
    _check_no_unit(rule, content.location, texts[0])
    dates = parse_dates(texts, rule.time_format, content.locate, rule.time_zone)
    return Times(dates.nanoseconds, SECONDS["ns"], "ns", dates.zero)


def rows_with_times(content: FileContent, column: str | int | list[str | int]) -> int:
    """Number of rows up to the last one that has a time stamp: columns of several rates are filled up with blanks."""
    names = column if isinstance(column, list) else [column]
    columns = [content.native(name).ravel() for name in names]
    there = [
        ~np.isnan(cells)
        if cells.dtype.kind == "f"
        else ~np.isin(cells, BLANK_CELLS)
        if cells.dtype.kind == "U"
        else np.ones(len(cells), dtype=np.bool_)
        for cells in columns
    ]
    rows = np.flatnonzero(np.logical_or.reduce(there))
    return int(rows[-1]) + 1 if len(rows) else 0


def to_stamps(times: Times, rule: Stream, location: str) -> Stamps:
    """Stamps of one recording in seconds after the first row.

    Midnights and, where stated, wraps of a counter are undone, and batches spread.

    Raises:
        UserError: the stamps would lie past the year 2100 in their unit, or are days or digits of a time of day; a counter wraps, or batches share stamps, and the data spec
            does not say so.
    """
    values = times.values
    if times.zero == "number" and rule.time_unit is None and times.unit == 1:
        check_seconds(values, location)
    if times.zero == "midnight":
        values = _after_midnights(values, int(DAY / times.unit))
    if rule.wraps is not None:
        values = _unwrap(values, rule.wraps, times.name, location)
    elif (length := recognise_counter(values)) is not None:
        row = int(np.argmax(np.diff(values) < 0)) + 1
        raise UserError(
            "a counter of time that starts again",
            location=location,
            value=f"{values[row - 1]} and then {values[row]} (row {row})",
            expected="stamps in order",
            hint=f"By the size of the step, it wraps at {length:.15g}: state `wraps: {length:.15g}` to continue it. "
            "If another recording begins there, split the file.",
        )
    first = values[0].item() if len(values) else 0
    if not np.isfinite(first):
        first = 0
    seconds = (values - values.dtype.type(first)).astype(np.float64, copy=False)
    seconds *= times.unit.numerator
    seconds /= times.unit.denominator
    start = Fraction(first) * times.unit
    zero = times.zero
    if zero == "number" and times.name != "d":
        _check_year(start, first, times.name, location)
        if start >= WALL_CLOCK[0]:  # no device runs for twenty years: seconds since 1970
            zero = "utc"
    if rule.labels is None and len(seconds) > 1 and np.isfinite(seconds).all():
        seconds, shift = _spread(seconds, rule, location)
        start += Fraction(shift)
    return Stamps(seconds, start, zero, times.name)


def recognise_counter(values: NDArray[Any]) -> float | None:
    """Length of a counter that starts again, by the size of its backward steps; None if they are of another kind.

    The step from the last value before to the first value after is taken to be a usual one, or a short pause.
    """
    if len(values) < 3 or not (values[1:] < values[:-1]).any() or not np.isfinite(values).all():
        return None
    steps = np.diff(values).astype(np.float64)
    back, forward = steps[steps < 0], steps[steps > 0]
    if not len(back) or not len(forward):
        return None
    usual, extent = float(np.median(forward)), float(values.max() - values.min())
    longest = _PAUSE_AT_WRAP * usual
    scales = (1, 10**3, 10**6) if values.dtype.kind == "f" else (1,)
    fitting: dict[float, float] = {}
    for length in {length / scale for scale in scales for length in _COUNTERS if length / scale > extent}:
        across = back + length
        if across.min() >= 0 and across.max() <= min(longest, length / 10):
            fitting[length] = abs(float(np.median(across)) - usual)
    return min(fitting, key=lambda length: (fitting[length], length)) if fitting else None


def _check_no_unit(rule: Stream, location: str, value: str) -> None:
    if rule.time_unit is not None:
        raise UserError(
            "dates with a `time_unit`",
            location=location,
            value=value,
            expected=f"numbers in {rule.time_unit}",
            hint="Leave `time_unit` out: it is for numbers.",
        )


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int64, others as float64."""
    if values.dtype.kind == "f" or (values.dtype == np.uint64 and values.size and values.max() >= 2**63):
        return values.astype(np.float64, copy=False)
    return values.astype(np.int64)


def _is_coarse(values: NDArray[Any]) -> bool:
    """Whether the steps between numbers are so small that float64 rounds them by more than a thousandth."""
    if values.dtype.kind != "f" or len(values) < 2 or not np.isfinite(values[0]):
        return False
    step = float(np.median(np.abs(np.diff(values[:1000]))))
    return float(np.spacing(abs(values[0]))) > 1e-3 * step


def _exact_decimals(cells: NDArray[Any]) -> NDArray[np.int64] | None:
    """Decimals of text as whole numbers of billionths; None if some have another form."""
    if cells.dtype.kind != "U":
        return None
    parts = [cell.replace(",", ".").partition(".") for cell in cells.tolist()]
    if not all(
        whole.isdigit() and int(whole) < 2**33 and len(rest) <= 9 and (not rest or rest.isdigit())
        for whole, _, rest in parts
    ):
        return None
    return np.array([int(whole) * _DECIMALS + int(rest.ljust(9, "0")) for whole, _, rest in parts], dtype=np.int64)


def _after_midnights(values: NDArray[np.int64], day: int) -> NDArray[np.int64]:
    """Times of day that go on past midnight; only a step back by more than half a day counts as one."""
    nights = np.concatenate([[0], np.cumsum(np.diff(values) < -day // 2)])
    return values + nights * day


def _unwrap(values: NDArray[Any], length: float, unit: str, location: str) -> NDArray[Any]:
    """A counter without its wraps.

    Raises:
        UserError: a span beyond the counter's length, or a step back by less than half of it.
    """
    if len(values) and values.max() - values.min() >= length:
        raise UserError(
            "time stamps that span more than the stated length of the counter",
            location=location,
            value=f"{values.min()} to {values.max()}",
            expected=f"less than `wraps: {length:.15g}`, in {unit}",
        )
    steps = np.diff(values)
    small = (steps < 0) & (steps > -length / 2)
    if small.any():
        row = int(np.argmax(small)) + 1
        raise UserError(
            "time stamps that go back by less than half of the counter's length",
            location=location,
            value=f"{values[row]} after {values[row - 1]} (row {row})",
            expected=f"a step back only where the counter wraps, by nearly `wraps: {length:.15g}`",
        )
    wraps = np.concatenate([[0], np.cumsum(steps < 0)])
    return values + wraps * values.dtype.type(length)


def _check_year(start: Fraction, first: float, unit: str, location: str) -> None:
    """Refuse stamps that lie past the year 2100 in the stated unit."""
    if start <= WALL_CLOCK[1]:
        return
    fitting = [name for name in ("ms", "us", "ns") if WALL_CLOCK[0] <= Fraction(first) * SECONDS[name] <= WALL_CLOCK[1]]
    year = 1970 + int(start / Fraction(31_556_952))
    hint = "Is this a date without separators? State `time_format`."
    if _TICKS[0] <= first <= _TICKS[1]:
        hint = "Ticks of 100 ns? State `time_unit: samples`, `rate_hz: 10000000`, and `resample_hz`, the rate of the device."
    elif fitting:
        date = np.datetime64(int(Fraction(first) * SECONDS[fitting[0]]), "s")
        hint = f"`time_unit: {fitting[0]}` would make it {date}."
    raise UserError(
        "time stamps in another unit",
        location=location,
        value=first,
        expected=f"a time in {unit}: this would be {float(start) / 31_556_952:.3g} years, or the year {year}",
        hint=hint,
    )


def _spread(seconds: NDArray[np.float64], rule: Stream, location: str) -> tuple[NDArray[np.float64], float]:
    """Spread rows under one stamp evenly over their batch; also by how much the first row moved.

    Raises:
        UserError: rows share stamps, and neither `batches` is stated nor is it a coarse clock beside a stated rate.
    """
    if (seconds[1:] > seconds[:-1]).all() or (seconds[1:] < seconds[:-1]).any():
        return seconds, 0.0  # none are equal, or they go back and are refused with the grid
    firsts = np.flatnonzero(np.diff(seconds, prepend=-np.inf))
    sizes = np.diff(np.append(firsts, len(seconds)))
    stamps = seconds[firsts]
    if rule.batches is None or len(stamps) < 2:
        _check_equal_stamps(stamps, sizes, firsts, rule, location)
        return seconds, 0.0
    if len(stamps) < 2:
        raise UserError(
            "all rows under one time stamp", location=location, value=f"{len(seconds)} rows", expected="several batches"
        )
    intervals = np.diff(stamps)
    own = sizes[:-1] if rule.batches == "first" else sizes[1:]
    usual = float(np.median(intervals / own))
    step = intervals / own
    step = np.where((step > 0.5 * usual) & (step < 1.5 * usual), step, usual)  # nothing is stretched over a pause
    step = np.append(step, usual) if rule.batches == "first" else np.insert(step, 0, usual)
    within = np.arange(len(seconds)) - np.repeat(firsts, sizes)
    if rule.batches == "last":
        within = within - np.repeat(sizes - 1, sizes)
    spread = np.repeat(stamps, sizes) + within * np.repeat(step, sizes)
    return spread - spread[0], float(spread[0])


def _check_equal_stamps(
    stamps: NDArray[np.float64], sizes: NDArray[np.intp], firsts: NDArray[np.intp], rule: Stream, location: str
) -> None:
    """Refuse equal stamps, except those of a coarse clock beside a stated rate, which `clocked` evens out."""
    if rule.rate_hz is not None and rule.resample_hz is None:
        coarse = len(stamps) > 1 and float(np.median(np.diff(stamps))) <= PAUSE / rule.rate_hz
        if coarse:
            return
    if len(stamps) == 1:
        raise UserError(
            "all rows under one time stamp",
            location=location,
            value=f"{int(sizes.sum())} rows",
            expected="a time of its own for each row",
            hint="Leave `time` out and state `rate_hz`.",
        )
    if np.median(sizes) >= 2:
        rate = (sizes.sum() - sizes[-1]) / (stamps[-1] - stamps[0])
        raise UserError(
            "batches of rows that share a time stamp",
            location=location,
            value=f"{int(sizes.min())} to {int(sizes.max())} rows a stamp, {rate:.6g} rows a second",
            expected="a time of its own for each row",
            hint="State `batches: last` (each stamp is the time of the last row of its batch, as it arrived) or `batches: first` to "
            "spread them evenly, with `rate_hz` of the device. Rows that were written twice? Remove them.",
        )
    row = int(firsts[np.argmax(sizes > 1)])
    raise UserError(
        "two rows with one time stamp",
        location=location,
        value=f"rows {row} and {row + 1}, and {int((sizes - 1).sum()) - 1} more",
        expected="a time of its own for each row",
        hint="State `rate_hz` if the clock of the stamps is only coarse; remove rows that were written twice.",
    )
