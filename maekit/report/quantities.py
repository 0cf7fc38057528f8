"""Formatting of bytes, seconds and operation counts for people."""

from __future__ import annotations


def size(count: float) -> str:
    """Format bytes in decimal units: 1.3 GB."""
    return f"{_scaled(count)}B"


def operations(count: float, per: str = "") -> str:
    """Format floating-point operations, or operations per second (`per="/s"`): 124 GFLOP, 790 TFLOP/s."""
    return f"{_scaled(count)}FLOP{per}"


def duration(seconds: float) -> str:
    """Format a duration in at most two units: 850 ms, 12.3 s, 4 min 5 s, 42 h 10 min, 12 d 3 h."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    for large, small, limit, many in (("min", "s", 3600, 60), ("h", "min", 4 * 86400, 60)):
        if seconds < limit:
            units, rest = divmod(round(seconds if large == "min" else seconds / 60), many)
            return f"{units} {large} {rest} {small}"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} d {hours} h"


def _scaled(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} P"
