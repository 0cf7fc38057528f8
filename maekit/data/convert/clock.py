"""Time stamps of files to seconds: units, dates, counters that wrap, and batches of rows under one stamp.

Stamps are subtracted from the first one as they stand in the file (whole numbers as whole numbers), so that stamps of 1.7e18 ns keep
their nanoseconds; the moment of the first row is kept as an exact fraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.dates import Zero
from maekit.data.convert.stamp_forms import check_seconds
from maekit.data.convert.time_units import SECONDS, WALL_CLOCK
from maekit.data.convert.timing import PAUSE
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Stream
    from maekit.data.convert.stamps import Times

DAY = Fraction(86400)

_PERIODS = [seconds * scale for seconds in (60, 3600, 86_400, 604_800) for scale in (1, 10**3, 10**6)]
_COUNTERS = [*(2**bits for bits in range(4, 33)), *(10**digits for digits in range(2, 10)), *_PERIODS]
"""Lengths of counters that are recognised."""
_TICKS = (6 * 10**17, 7 * 10**17)
"""Ticks of 100 ns since the year 1, in the years 1902 to 2219."""
_PAUSE_AT_WRAP = 20
"""Usual steps that a counter may take across a wrap to be recognised."""


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
