"""Numbers that probably mean "no value", such as -9999 in a signal or a rate of 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES = (
    -1,
    0,
    *(sign * (10**n - 1) for sign in (-1, 1) for n in range(2, 7)),
    255,
    65535,
    32767,
    -32768,
    2**31 - 1,
    -(2**31),
)
"""Numbers that programs write where nothing was measured."""

_MIN_COUNT = 2
_MAX_SHARE = 0.5
_MIN_DISTANCE = 5.0
"""Distance of a code from a constant, which has no range to compare with; 0 and 1 alone are data."""


class Sentinel(NamedTuple):
    """A value that repeats and stands apart from the others.

    Attributes:
        value: the number.
        repeats: how often it occurs.
        low: smallest of the other values.
        high: largest of the other values.
    """

    value: float
    repeats: int
    low: float
    high: float


def find_sentinels(values: NDArray[Any]) -> list[Sentinel]:
    """Values that repeat, are less than half of all, and lie far outside the range of the others.

    "Far" is half of that range for the numbers of `CODES`, and the whole range for any other number.

    Args:
        values: real numbers of any shape; those that are not finite are ignored.
    """
    finite = values[np.isfinite(values)]
    unique, counts = np.unique(finite, return_counts=True)
    is_code = np.isin(unique, CODES)
    rest = unique[~is_code]
    sentinels = []
    if len(rest):
        low, high = float(rest[0]), float(rest[-1])
        limit = (high - low) / 2 or _MIN_DISTANCE
        for value, count in zip(unique[is_code].tolist(), counts[is_code].tolist(), strict=True):
            if max(low - value, value - high) > limit and _MIN_COUNT <= count < _MAX_SHARE * finite.size:
                sentinels.append(Sentinel(value, count, low, high))
    for end, neighbour, others in ((0, 1, unique[1:]), (-1, -2, unique[:-1])):
        if len(others) < 3 or is_code[end]:
            continue
        span, count = float(others[-1] - others[0]), int(counts[end])
        if abs(float(unique[end] - unique[neighbour])) > span and _MIN_COUNT <= count < _MAX_SHARE * finite.size:
            sentinels.append(Sentinel(float(unique[end]), count, float(others[0]), float(others[-1])))
    return sentinels


def plain(value: float) -> str:
    """A number of float32 in the fewest digits that tell it from others, as YAML reads it again."""
    single = np.float32(value)
    if not np.isclose(float(single), value, rtol=1e-6):
        return repr(value)
    if abs(value) < 1e15 and float(value).is_integer():
        return str(int(value))
    text = str(single)
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def describe_sentinel(sentinel: Sentinel, name: str, section: str) -> str:
    """A line for `data check`.

    Args:
        sentinel: the value.
        name: what holds it.
        section: part of the data spec whose key `missing` would name it.
    """
    return (
        f"  {name}: the value {plain(sentinel.value)} occurs {sentinel.repeats} times, far from the others "
        f"({sentinel.low:.4g} to {sentinel.high:.4g}); if it means that nothing was measured, write "
        f"`missing: [{plain(sentinel.value)}]` under `{section}`"
    )
