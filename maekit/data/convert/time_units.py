"""Units of time stamps, and which of them a rate speaks for."""

from __future__ import annotations

from fractions import Fraction

SECONDS = {
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
"""Length of each unit of time; `samples` need a rate."""
WALL_CLOCK = (631_152_000, 4_102_444_800)
"""1990 and 2100 in seconds since 1970, between which stamps of wall clocks lie."""


def unit_of_rate(unit: str, measured_hz: float, rate_hz: float) -> str | None:
    """The unit in which stamps that give `measured_hz` in `unit` give the stated rate; None if there is none."""
    if unit not in SECONDS or not measured_hz > 0:
        return None
    length = float(SECONDS[unit]) * measured_hz / rate_hz
    return next((name for name, seconds in SECONDS.items() if 0.8 < length / float(seconds) < 1.25), None)
