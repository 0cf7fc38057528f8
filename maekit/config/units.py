"""Hints for values and keys that carry a unit, such as `10 s` or `window_ms`, where the name of the key states the unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from maekit.errors import closest

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Unit(NamedTuple):
    dimension: str
    size: float  # in the unit of that dimension that keys are written in


_SIZES: dict[str, dict[str, float]] = {
    "seconds": {
        "ns": 1e-9,
        "us": 1e-6,
        "µs": 1e-6,
        "μs": 1e-6,
        "ms": 1e-3,
        "msec": 1e-3,
        "milliseconds": 1e-3,
        "s": 1,
        "sec": 1,
        "secs": 1,
        "second": 1,
        "seconds": 1,
        "min": 60,
        "mins": 60,
        "minute": 60,
        "minutes": 60,
        "h": 3600,
        "hour": 3600,
        "hours": 3600,
    },
    "hertz": {"mHz": 1e-3, "hz": 1, "hertz": 1, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "metres": {"mm": 1e-3, "cm": 1e-2, "m": 1, "km": 1e3, "metres": 1, "meters": 1},
    "metres per second": {"mps": 1, "m/s": 1, "km/h": 1 / 3.6, "kmh": 1 / 3.6},
    "decibels": {"db": 1},
    "beats per minute": {"bpm": 1},
}
_UNITS = {word: _Unit(dimension, size) for dimension, units in _SIZES.items() for word, size in units.items()}

_NUMBER_AND_UNIT = re.compile(r"\s*([-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµμ%/]+)\s*")


def has_unit(text: object) -> bool:
    """Whether this is a number with a unit behind it."""
    return isinstance(text, str) and _NUMBER_AND_UNIT.fullmatch(text) is not None


def advice_on_value(key: str, text: object) -> str:
    """What to write for `10 s`, `500 ms` or `50Hz` at a key; an empty string where `text` is no such thing."""
    match = _NUMBER_AND_UNIT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return ""
    expected, given = _of_key(key), _of_word(match[2])
    if expected is None:
        return f"Write the number alone; `{key}` names no unit."
    if given is None or given.dimension != expected.dimension:
        return f"`{key}` is a number in {expected.dimension}; {match[2]!r} is no such unit."
    return f"Write the number alone ({_scaled(match[1], given.size / expected.size)}), in {_named(expected)}."


def advice_on_key(key: str, value: object, known: Sequence[str]) -> str:
    """What to write for a key in another unit, such as `window_ms` for `seconds`; an empty string where nothing is near."""
    given = _of_key(key)
    if given is None:
        return ""
    stem = key.rpartition("_")[0]
    same = {name: unit for name in known if (unit := _of_key(name)) and unit.dimension == given.dimension}
    stems = {name.rpartition("_")[0]: name for name in same}
    if not stems:
        return ""
    similar = closest(stem, filter(None, stems))
    only = next(iter(stems.values())) if len(stems) == 1 else ""
    target = stems[similar] if similar else stems.get("", only)
    if not target:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"Did you mean {target!r}, in {_named(same[target])}?"
    return f"Did you mean `{target}: {_scaled(str(value), given.size / same[target].size)}`, in {_named(same[target])}?"


def _of_key(key: str) -> _Unit | None:
    """The unit that a key's last word names; `m` and `h` alone are no units but letters."""
    last = key.rpartition("_")[2]
    return _of_word(last) if "_" in key or len(last) > 1 else None


def _of_word(word: str) -> _Unit | None:
    # People write `khz` and `KHZ`; only between mHz and MHz does the case decide.
    return _UNITS.get(word) or _UNITS.get(word.lower())


def _named(unit: _Unit) -> str:
    if unit.size == 1:
        return unit.dimension
    return next(word for word, other in _UNITS.items() if other == unit)


def _scaled(number: str, factor: float) -> str:
    return f"{float(number) * factor:.12g}"
