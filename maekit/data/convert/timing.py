"""From time stamps to an even grid of time: steady clocks with imprecise stamps, pauses, and uneven sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.dates import Zero
from maekit.data.convert.time_units import unit_of_rate
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.convert.file_array import FileArray

PAUSE = 5
"""Intervals between two stamps from which on rows count as left out between them."""

_BLOCK_ROWS = 100_000
_NEIGHBOURS = 50
"""Stamps on either side of a pause whose median lateness gives its length."""
_COARSEST = 100_000
"""Rows of which resampling may make one point."""
_FINEST = 10
"""Points between two rows that interpolation may fill."""
_MAX_FACTOR = 10_000
"""Whole numbers whose ratio stands for that of two rates."""
_MAX_POINTS = 10_000_000
"""Points of a grid from which on it must not be nearly empty."""


@dataclass
class Timed:
    """Values on an even grid.

    Args:
        values: (time, ...); NaN where nothing was measured. A `FileArray` is read when it is written.
        rate_hz: rate of the grid; None without time.
        start_s: time of the first value after `origin`; None without stamps.
        rows: the source row that each value comes from or is nearest to; None if they are the same.
        attributes: metadata to store with the values.
        origin: a moment, exactly, in seconds since `zero`.
        zero: what the clock of the stamps counts from.
    """

    values: NDArray[Any] | FileArray
    rate_hz: float | None
    start_s: float | None = None
    rows: NDArray[np.intp] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    origin: Fraction = Fraction(0)
    zero: Zero = "number"


def put_on_grid(
    values: NDArray[Any] | FileArray,
    stamps: NDArray[np.float64] | None,
    rate_hz: float | None,
    resample_hz: float | None,
    location: str,
    *,
    unit: str = "s",
    max_missing: float = 0.5,
) -> Timed:
    """Put values on an even grid of time.

    Args:
        values: (time, ...).
        stamps: time of every value in seconds, or None.
        rate_hz: stated rate of a steady clock.
        resample_hz: rate of the grid to resample to, whatever the stamps.
        location: shown in error messages.
        unit: of the stamps in the file, shown in error messages.
        max_missing: share of the grid that may lie in pauses.

    Raises:
        UserError: stamps are too few, missing, going back, uneven, or at another rate than the stated one, or most of the grid lies in
            pauses.
    """
    if stamps is None:
        if resample_hz is None or resample_hz == rate_hz:
            return Timed(values, rate_hz)
        values = np.asarray(values)
        if rate_hz is None:
            raise UserError(
                "nothing to resample by",
                location=location,
                expected="`time`, or a rate, which this file does not state",
                hint="Give `rate_hz`, the rate of the file, beside `resample_hz`.",
            )
        return resample_steady(values, rate_hz, resample_hz, location)
    values = np.asarray(values)
    check_stamps(stamps, location)
    if resample_hz is not None:
        usual = float(np.median(np.diff(stamps)))
        finest = max(resample_hz, 1 / usual) if usual > 0 else resample_hz
        _check_length((stamps[-1] - stamps[0]) * finest, len(values), location)
        _check_rate(stamps, resample_hz, location, unit, most=_FINEST, least=1 / _COARSEST)
        timed = resample(values, stamps, resample_hz)
    elif rate_hz is None:
        return steady(values, stamps, location)
    else:
        _check_length((stamps[-1] - stamps[0]) * rate_hz, len(values), location)
        _check_rate(stamps, rate_hz, location, unit, most=1.25, least=0.8)
        timed = clocked(values, stamps, rate_hz, location)
    covered = _covered(stamps, 1 / (rate_hz or resample_hz or 1)) / len(timed.values)
    if covered < 1 - max_missing - 1e-9:
        raise UserError(
            "a recording that would be mostly missing",
            location=location,
            value=f"{len(values)} rows in {stamps[-1] - stamps[0]:.6g} s, with stamps in {unit}",
            expected=f"at most {max_missing:.0%} in pauses; {1 - covered:.2%} would be",
            hint="Several recordings in one file? Split them. If it is one, state `max_missing`.",
        )
    return timed


def _covered(stamps: NDArray[np.float64], interval: float) -> float:
    """Points of a grid that lie between rows without a pause."""
    steps = np.diff(stamps)
    longest = PAUSE * max(interval, float(np.median(steps)))
    return 1 + float(np.where(steps <= longest, steps, interval).sum()) / interval


def measured_rate(stamps: NDArray[np.float64]) -> float:
    """Rows in a second: the median over stretches of up to 50 rows, whatever pauses and coarse stamps there are."""
    rows = max(1, min(_NEIGHBOURS, (len(stamps) - 1) // 4))
    length = float(np.median(stamps[rows:] - stamps[:-rows]))
    return rows / length if length > 0 else np.inf


def _check_rate(
    stamps: NDArray[np.float64], rate_hz: float, location: str, unit: str, *, most: float, least: float = 0.0
) -> None:
    """Refuse a rate that is far from what the stamps say.

    Raises:
        UserError: it is less than `least` or more than `most` times the rate of the stamps.
    """
    measured = measured_rate(stamps)
    if least <= rate_hz / measured <= most:
        return
    fitting = unit_of_rate(unit, measured, rate_hz)
    hint = f"`time_unit: {fitting}` would fit." if fitting else "Is `time_unit` right? Correct the rate otherwise."
    if unit == "samples" and measured < rate_hz:
        hint = f"A row for each {rate_hz / measured:.6g} samples? State `resample_hz: {measured:.6g}` beside `rate_hz`."
    raise UserError(
        "time stamps that do not keep the stated rate",
        location=location,
        value=f"{measured:.6g} Hz, with stamps in {unit}",
        expected=f"{rate_hz:g} Hz",
        hint=hint,
    )


def check_rows(stamps: NDArray[np.float64], rows: int, location: str) -> None:
    """Refuse stamps that are not as many as the rows.

    Raises:
        UserError: see above.
    """
    if len(stamps) != rows:
        raise UserError("not one time stamp a row", location=location, value=len(stamps), expected=f"{rows}")


def check_stamps(stamps: NDArray[np.float64], location: str) -> None:
    """Refuse stamps that do not give every row a time.

    Raises:
        UserError: there are fewer than two, some are missing, or they go back.
    """
    if len(stamps) < 2:
        raise UserError(
            "too few time stamps for a rate",
            location=location,
            value=len(stamps),
            expected="two rows or more",
            hint="Leave `time` out and state `rate_hz`.",
        )
    if not np.isfinite(stamps).all():
        raise UserError(
            "a time stamp is missing",
            location=location,
            value=f"row {int(np.argmin(np.isfinite(stamps)))}",
            expected="a time in every row",
            hint="If the device's clock is steady and no row was left out, leave `time` out and state `rate_hz`.",
        )
    if (back := stamps[1:] < stamps[:-1]).any():
        row = int(np.argmax(back)) + 1
        raise UserError(
            "time stamps that go back",
            location=location,
            value=f"{stamps[row]:.6f} after {stamps[row - 1]:.6f} (row {row})",
            expected="stamps in order",
            hint="By an hour, as clocks at the end of summer time? Write the stamps in UTC."
            if 3590 < stamps[row - 1] - stamps[row] <= 3600
            else "Two recordings in one file? Split them. Out of order? Sort them. A counter that starts again? State `wraps`, its length.",
        )


def _check_length(length: float, rows: int, location: str) -> None:
    """Refuse a large grid that is nearly empty, from stamps in another unit or recordings that lie far apart."""
    if length > max(_MAX_POINTS, 100 * rows):
        raise UserError(
            "time stamps that span far more than was measured",
            location=location,
            value=f"{rows} rows",
            expected=f"most of {length:.0f} points in time",
            hint="Is `time_unit` right? Two recordings in one file? Split them.",
        )


def steady(values: NDArray[Any], stamps: NDArray[np.float64], location: str) -> Timed:
    """Values with evenly spaced stamps.

    Raises:
        UserError: an interval differs from the mean one by more than 1 %.
    """
    rows = len(stamps) - 1
    interval = float(stamps[-1] - stamps[0]) / rows
    shortest, longest = _extreme_steps(stamps)
    if interval <= 0 or max(longest - interval, interval - shortest) > 0.01 * interval:
        raise UserError(
            "time stamps that are not evenly spaced",
            location=location,
            value=f"intervals of {shortest:.6g} to {longest:.6g} s",
            expected="a steady rate to within 1 %",
            hint=f"Give `rate_hz` (about {rows / (stamps[-1] - stamps[0]):.4g}) if the device's clock is steady, or `resample_hz` to "
            "put the data on an even grid.",
        )
    return Timed(values, 1 / interval, float(stamps[0]))


def _extreme_steps(stamps: NDArray[np.float64]) -> tuple[float, float]:
    """The shortest and the longest interval between stamps, of which a long recording has too many to keep."""
    starts = range(0, len(stamps) - 1, _BLOCK_ROWS)
    extremes = [
        (float(steps.min()), float(steps.max())) for steps in (np.diff(stamps[i : i + _BLOCK_ROWS + 1]) for i in starts)
    ]
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def clocked(values: NDArray[Any], stamps: NDArray[np.float64], rate_hz: float, location: str) -> Timed:
    """Values of a device with a steady clock of known rate and imprecise stamps.

    Single stamps may be late. Where all stamps after a pause are later than those before it, rows were left out, and as
    many rows of NaN are inserted. The stamps must keep the rate to within 0.2 % otherwise.

    Raises:
        UserError: the stamps are at another rate.
    """
    lateness = stamps - np.arange(len(stamps)) / rate_hz
    pauses = np.flatnonzero(np.diff(stamps) > PAUSE / rate_hz) + 1
    edges = [0, *pauses.tolist(), len(stamps)]
    position = np.arange(len(stamps))
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        late_before = np.median(lateness[max(before, at - _NEIGHBOURS) : at])
        late_after = np.median(lateness[at : min(after, at + _NEIGHBOURS)])
        position[at:] += max(0, round(float(late_after - late_before) * rate_hz))
    residual = stamps - position / rate_hz
    start = float(np.median(residual))
    seconds = position[-1] / rate_hz
    drift = float(np.polyfit(position / position[-1], residual - start, 1)[0])
    if abs(drift) > 0.002 * seconds + 2 / rate_hz:
        raise UserError(
            "time stamps that do not keep the stated rate",
            location=location,
            value=f"{drift:+.3f} s in {seconds:.0f} s",
            expected=f"{rate_hz:g} Hz to within 0.2 %",
            hint=f"The stamps give {position[-1] / (stamps[-1] - stamps[0]):.6g} Hz: correct `rate_hz`, or give `resample_hz` alone if there "
            "is no steady clock.",
        )
    if position[-1] == len(stamps) - 1:
        return Timed(values, rate_hz, start)
    length = int(position[-1]) + 1
    _check_length(length, len(values), location)
    full = np.full((length, *values.shape[1:]), np.nan, dtype=np.result_type(values.dtype, np.float32))
    full[position] = values
    rows = np.maximum(np.searchsorted(position, np.arange(length), side="right") - 1, 0)
    return Timed(full, rate_hz, start, rows)


def resample(values: NDArray[Any], stamps: NDArray[np.float64], rate_hz: float) -> Timed:
    """Unevenly sampled values on an even grid: linear interpolation to a finer grid, low-pass filter, decimation.

    The result is NaN between stamps that are more than `PAUSE` median intervals (and more than one interval of the grid)
    apart, and where the nearest row is NaN.
    """
    from scipy.signal import resample_poly

    median = float(np.median(np.diff(stamps)))
    factor = max(1, int(np.ceil(1 / (median * rate_hz)))) if median > 0 else 1
    fine = stamps[0] + np.arange(int((stamps[-1] - stamps[0]) * rate_hz * factor + 1e-6) + 1) / (rate_hz * factor)
    columns = values.reshape(len(values), -1)
    missing = np.isnan(columns) if values.dtype.kind in "fc" else np.zeros(columns.shape, dtype=np.bool_)
    even = np.stack([_interpolate(fine, stamps, *pair) for pair in zip(columns.T, missing.T, strict=True)], axis=-1)
    slow = resample_poly(even, 1, factor, axis=0, padtype="line") if factor > 1 else even
    grid = fine[::factor]
    after = np.clip(np.searchsorted(stamps, grid), 1, len(stamps) - 1)
    between = (grid > stamps[after - 1]) & (grid < stamps[after])
    slow[between & (stamps[after] - stamps[after - 1] > max(PAUSE * median, 1 / rate_hz))] = np.nan
    nearest = np.where(grid - stamps[after - 1] < stamps[after] - grid, after - 1, after)
    slow[missing[nearest]] = np.nan
    kind = np.complex64 if np.iscomplexobj(slow) else np.float32
    return Timed(slow.reshape(len(slow), *values.shape[1:]).astype(kind), rate_hz, float(stamps[0]), nearest)


def resample_steady(values: NDArray[Any], rate_hz: float, resample_hz: float, location: str) -> Timed:
    """Values at one rate as values at another, through a polyphase filter; missing values are interpolated across, then missing again.

    Args:
        values: (time, ...).
        rate_hz: their rate.
        resample_hz: the other one.
        location: shown in error messages.

    Raises:
        UserError: a rate far above that of the values.
    """
    from scipy.signal import resample_poly

    if resample_hz > _FINEST * rate_hz:
        raise UserError(
            "a rate far above what was measured",
            location=location,
            value=f"resample_hz: {resample_hz:g}",
            expected=f"at most {_FINEST} times the rate of the values, {rate_hz:g} Hz",
            hint="Is `resample_hz` in hertz?",
        )
    ratio = Fraction(resample_hz / rate_hz).limit_denominator(_MAX_FACTOR)
    missing = values.dtype.kind in "fc" and bool(np.isnan(values).any())
    if missing or abs(float(ratio) * rate_hz / resample_hz - 1) * len(values) > 0.5:
        return resample(values, np.arange(len(values)) / rate_hz, resample_hz)
    wide = values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
    slow = resample_poly(wide, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    rows = np.minimum((np.arange(len(slow)) * rate_hz / resample_hz).round().astype(np.int64), len(values) - 1)
    kind = np.complex64 if np.iscomplexobj(slow) else np.float32
    return Timed(slow.astype(kind), resample_hz, None, rows)


def _interpolate(
    at: NDArray[Any], stamps: NDArray[Any], values: NDArray[Any], missing: NDArray[np.bool_]
) -> NDArray[Any]:
    """Linear interpolation, also across missing values, so that the filter does not spread NaN."""
    return np.interp(at, stamps[~missing], values[~missing]) if not missing.all() else np.zeros(len(at))


def place(part: Timed, reference: Timed, start_s: float, location: str) -> Timed:
    """A stream on the grid of another one of the same rate: missing before it begins and after it ends, cut outside.

    Args:
        part: the stream.
        reference: the other one.
        start_s: when it begins, after the first value of the other one.
        location: shown in error messages.

    Raises:
        UserError: it has another rate, or no time in common.
    """
    rate_hz, length = reference.rate_hz, len(reference.values)
    if part.rate_hz is None or rate_hz is None or abs(part.rate_hz - rate_hz) * length > 0.5 * rate_hz:
        raise UserError(
            "an auxiliary signal of another rate than the signal",
            location=location,
            value=f"{part.rate_hz or 0:g} Hz",
            expected=f"{rate_hz or 0:g} Hz",
            hint=f"Give it `resample_hz: {rate_hz or 0:g}`.",
        )
    shift = round(start_s * rate_hz)
    if shift == 0 and len(part.values) == length:
        return part
    first, last = max(shift, 0), min(shift + len(part.values), length)
    if first >= last:
        raise UserError(
            "an auxiliary signal that has no time in common with the signal",
            location=location,
            value=f"{start_s:.6g} to {start_s + len(part.values) / rate_hz:.6g} s",
            expected=f"some of 0 to {length / rate_hz:.6g} s after the signal's first value",
        )
    full = np.full((length, *part.values.shape[1:]), np.nan, dtype=np.result_type(part.values.dtype, np.float32))
    full[first:last] = part.values[first - shift : last - shift]
    return Timed(full, rate_hz, reference.start_s, None, part.attributes, reference.origin, reference.zero)
