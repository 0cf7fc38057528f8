"""From time stamps to an even grid of time: steady clocks with imprecise stamps, pauses, and uneven sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAUSE = 5
"""Intervals between two stamps from which on rows count as left out between them."""

_NEIGHBOURS = 50
"""Stamps on either side of a pause whose median lateness gives its length."""
_MAX_POINTS = 10_000_000
"""Points of a grid from which on it must not be nearly empty."""


@dataclass
class Timed:
    """Values on an even grid.

    Args:
        values: (time, ...); NaN where nothing was measured.
        rate_hz: rate of the grid; None without time.
        start_s: time of the first value; None without stamps.
        rows: the source row that each value comes from or is nearest to; None if they are the same.
        attributes: metadata to store with the values.
    """

    values: NDArray[Any]
    rate_hz: float | None
    start_s: float | None = None
    rows: NDArray[np.intp] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def put_on_grid(
    values: NDArray[Any],
    stamps: NDArray[np.float64] | None,
    rate_hz: float | None,
    resample_hz: float | None,
    location: str,
) -> Timed:
    """Put values on an even grid of time.

    Args:
        values: (time, ...).
        stamps: time of every value in seconds, or None.
        rate_hz: stated rate of a steady clock.
        resample_hz: rate of the grid to resample to, whatever the stamps.
        location: shown in error messages.

    Raises:
        UserError: stamps are too few, missing, going back, uneven, or at another rate than the stated one.
    """
    if stamps is None:
        if resample_hz is not None:
            raise UserError("nothing to resample by", location=location, expected="`time` with `resample_hz`")
        return Timed(values, rate_hz)
    check_stamps(stamps, location)
    if resample_hz is not None:
        _check_length((stamps[-1] - stamps[0]) * resample_hz, len(values), location)
        return resample(values, stamps, resample_hz)
    return steady(values, stamps, location) if rate_hz is None else clocked(values, stamps, rate_hz, location)


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
        )
    if (back := np.diff(stamps) < 0).any():
        row = int(np.argmax(back)) + 1
        raise UserError(
            "time stamps that go back",
            location=location,
            value=f"{stamps[row]:.6f} after {stamps[row - 1]:.6f} (row {row})",
            expected="stamps in order",
            hint="Two recordings in one file? Split them. Out of order? Sort them.",
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
    steps = np.diff(stamps)
    interval = float(stamps[-1] - stamps[0]) / len(steps)
    if interval <= 0 or np.abs(steps - interval).max() > 0.01 * interval:
        raise UserError(
            "time stamps that are not evenly spaced",
            location=location,
            value=f"intervals of {steps.min():.6g} to {steps.max():.6g} s",
            expected="a steady rate to within 1 %",
            hint="Give `rate_hz` if the device's clock is steady, or `resample_hz` to put the data on an even grid.",
        )
    return Timed(values, 1 / interval, float(stamps[0]))


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
            hint="Correct `rate_hz`, or give `resample_hz` alone if there is no steady clock.",
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


def _interpolate(
    at: NDArray[Any], stamps: NDArray[Any], values: NDArray[Any], missing: NDArray[np.bool_]
) -> NDArray[Any]:
    """Linear interpolation, also across missing values, so that the filter does not spread NaN."""
    return np.interp(at, stamps[~missing], values[~missing]) if not missing.all() else np.zeros(len(at))
