"""Numbers that are dates or times of day and no seconds: days of spreadsheets and MATLAB, digits such as 235959, units in names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.cells import plain_unit
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_WORDS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    "us": ("us", "usec", "usecs", "µs", "μs", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hour", "hours"),
    "d": ("d", "day", "days"),
    "samples": ("sample", "samples", "frame", "frames"),
}
"""How programs name units of time, by `time_unit`."""
_DAY_NUMBERS = ((20_000, 80_000, -25_569), (690_000, 770_000, -719_529))
"""Days that spreadsheets and MATLAB count from 1900 and the year 0: the range of our times, and the day of 1970."""
_FASTEST_HZ = 20_000
"""Rate, in rows a second, above which numbers in the range of days are no seconds."""
_BLOCK_ROWS = 100_000
_ROLLOVER = 40
"""By how much digits of minutes and seconds jump more than time does: from 59 to 100."""


def stated_unit(column: str, units: Mapping[str, str]) -> str | None:
    """The `time_unit` that a column's name ends with, or that the row of units gives it; None where there is none."""
    words = [*re.split(r"[\s_.\-()\[\]/:]+", re.sub(r"(?<=[a-z])(?=[A-Z][a-z]?$)", "_", column.rstrip("()[] "))), ""]
    first = words[0] if len(words[0]) > 1 else ""  # ms_since_start
    for text in (units.get(column, ""), *(word for word in words[-2:] if word), first):
        if (unit := next((unit for unit, names in _WORDS.items() if plain_unit(text) in names), None)) is not None:
            return unit
    return None


def check_unit(column: str, units: Mapping[str, str], location: str, key: str = "time_unit") -> None:
    """Refuse a column whose name or unit says other than seconds, where the data spec states no unit.

    Raises:
        UserError: see above.
    """
    unit = stated_unit(column, units)
    if unit not in (None, "s"):
        raise UserError(
            f"numbers in {unit} by the head of the table, and no `{key}`",
            location=location,
            value=units.get(column) or column,
            expected=f"`{key}: {unit}`",
            hint=f"State `{key}: {unit}`{' and `rate_hz`' if unit == 'samples' else ''}, or `{key}: s` if they are seconds nevertheless.",
        )


def check_seconds(values: NDArray[Any], location: str) -> None:
    """Refuse numbers that are days, or digits of a time of day, where no unit is stated.

    Raises:
        UserError: see above.
    """
    if len(values) < 3 or not np.isfinite(values).all():
        return
    usual = float(np.median(np.diff(values), overwrite_input=True))
    for low, high, epoch in _DAY_NUMBERS:
        if low <= values[0] <= values.max() <= high and 0 < usual < 1 / _FASTEST_HZ:
            date = np.datetime64(round((float(values[0]) + epoch) * 86_400), "s")
            raise UserError(
                "numbers that seem to be days",
                location=location,
                value=values[0].item(),
                expected=f"seconds; these would come at {1 / usual:.3g} Hz",
                hint=f"`time_unit: d` would make it {date}. State `time_unit: s` if they are seconds.",
            )
    if values.min() < 0 or values.max() >= 240_000 or not _are_digits_of_times(values):
        return
    steps, whole = np.diff(values), np.floor(values)
    minutes, seconds = whole // 100 % 100, whole % 100
    passed = np.diff(whole // 10_000 * 3600 + minutes * 60 + seconds + (values - whole))
    turns = (steps >= _ROLLOVER) & (steps - passed >= _ROLLOVER - 1)
    uneven = steps.max() > 2 * usual > 0  # as digits, and even as times
    if uneven and turns.any() and passed[turns].max() <= 2 * float(np.median(passed)):
        row = int(np.argmax(turns))
        fraction = ".%f" if values.dtype.kind == "f" and (values != whole).any() else ""
        raise UserError(
            "numbers that seem to be digits of a time of day",
            location=location,
            value=f"{values[row]:.15g} and then {values[row + 1]:.15g} (row {row + 1})",
            expected="seconds",
            hint=f'State `time_format: "%H%M%S{fraction}"`, or `time_unit: s` if they are seconds.',
        )


def _are_digits_of_times(values: NDArray[Any]) -> bool:
    """Whether all numbers could be HHMMSS; a block of rows at a time, since most are told to be seconds by the first ones."""
    for start in range(0, len(values), _BLOCK_ROWS):
        whole = np.floor(values[start : start + _BLOCK_ROWS])
        if (whole // 100 % 100).max() > 59 or (whole % 100).max() > 59:
            return False
    return True
