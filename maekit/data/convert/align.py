"""Labels of a recording, aligned by time to its signal: missing where none holds."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.clock import DAY, Stamps
from maekit.data.convert.dates import parse_dates
from maekit.data.convert.time_units import SECONDS
from maekit.data.convert.timing import PAUSE, Timed
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.convert.labels import Track

_TOLERANCE_S = 1.0
"""How far after the last sample an event may be, as those that were found with a little more of it."""

_FAR_TOO_LONG = 50
"""Lengths of the signal from which on labels are probably in another unit."""
_MANY_EVENTS = 10
_FIRST_SHARE = 0.01
"""Share of a recording in whose beginning many events are too close together to be believed."""


def align(track: Track, signal: Timed) -> Timed:
    """Labels on the grid of a signal, missing where none holds; or times of events, in seconds after its first value.

    Raises:
        UserError: the clocks cannot be compared, or labels and signal have no time in common.
    """
    if signal.rate_hz is None:
        raise UserError(
            "labels in time, but the signal has no rate",
            location=track.location,
            expected="`time` or `rate_hz` in its stream",
        )
    shift = _shift(track, signal)
    times, length = track.stamps.seconds + shift, len(signal.values) / signal.rate_hz
    if track.stamps.zero == "row" and signal.zero != "row" and signal.rows is not None:
        times = _time_of_rows(times, signal)
    if track.values is None:
        return _events(track, np.sort(times), length, signal.rate_hz)
    holds, values = _spans(track, times, shift) if track.ends_s is not None else _holding(track, times)
    _check_label_unit(track, times, length, signal.rate_hz)
    return _on_grid(track, times, holds, values, signal)


def _shift(track: Track, signal: Timed) -> float:
    """What is added to the seconds of a track to give seconds after the signal's first value."""
    stamps, start = track.stamps, track.rule.start
    first = None if signal.start_s is None else signal.origin + Fraction(signal.start_s)
    if isinstance(start, str):
        moment = moment_of(start, f"{track.location}: start")
        if first is None or signal.zero != moment.zero:
            raise _incomparable(track, signal, "a signal whose stamps are such dates")
        return float(moment.start - first + (stamps.start if stamps.zero in ("number", "row") else 0))
    if start is not None:
        return float(Fraction(start) + (stamps.start if stamps.zero in ("number", "row") else 0))
    if stamps.zero == "row" and signal.zero != "row":
        return float(stamps.start)
    if not track.stated or first is None:
        if (first is not None) or (track.stated and stamps.zero != "number"):
            raise _incomparable(track, signal, "times of one clock")
        return float(stamps.start)
    if stamps.zero != signal.zero:
        raise _incomparable(track, signal, "times of one clock")
    passed = stamps.start - first
    if stamps.zero == "midnight":
        passed -= round(passed / DAY) * DAY
    return float(passed)


def moment_of(text: str, location: str) -> Stamps:
    """An ISO date as a moment on its clock.

    Raises:
        UserError: it is none.
    """
    dates = parse_dates([text], None, lambda _row: location)
    return Stamps(np.zeros(1), Fraction(int(dates.nanoseconds[0])) * SECONDS["ns"], dates.zero, "ns")


_CLOCKS = {
    "utc": "dates with a zone",
    "local": "dates without a zone",
    "midnight": "times of day",
    "number": "numbers",
    "row": "row numbers",
}


def _incomparable(track: Track, signal: Timed, expected: str) -> UserError:
    own = _CLOCKS[track.stamps.zero] if track.stated else "no stamps"
    return UserError(
        "labels and signal whose clocks cannot be compared",
        location=track.location,
        value=f"{own} for labels, {'no stamps' if signal.start_s is None else _CLOCKS[signal.zero]} for the signal",
        expected=expected,
        hint="State `start` of the labels: seconds after the first value of the signal (0: both begin together), or an ISO date on its clock. "
        "Dates without a zone: `time_zone`.",
    )


def _time_of_rows(times: NDArray[np.float64], signal: Timed) -> NDArray[np.float64]:
    """Times of row numbers of the file, whose signal has pauses that its rows do not count."""
    assert signal.rows is not None
    assert signal.rate_hz is not None
    rows, inside = times * signal.rate_hz, (times >= 0) & (times * signal.rate_hz <= signal.rows[-1])
    positions = np.searchsorted(signal.rows, np.floor(rows)) + rows % 1
    return np.where(inside, positions / signal.rate_hz, times)


def _events(track: Track, times: NDArray[np.float64], length: float, rate_hz: float) -> Timed:
    outside = (times < -_TOLERANCE_S) | (times > length + _TOLERANCE_S)
    findings: list[str] = []
    if outside.any():
        inside = times[~outside]
        dated = track.stamps.zero in ("utc", "local", "midnight")
        wanted = track.rule.outside == "drop" or dated
        if not wanted or not (len(inside) or track.rule.optional):
            raise UserError(
                "events outside of the recording",
                location=track.location,
                value=f"{int(outside.sum())} of {len(times)} events, from {times[0]:.6g} to {times[-1]:.6g} s",
                expected=f"0 to {length:.6g} s after the first value of the signal",
                hint=_event_hint(track, times, length, rate_hz),
            )
        findings.append(f"{int(outside.sum())} of {len(times)} events lie outside of the recording and are left out")
        times = inside
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) > 1 and counts.min() > 1:
        findings.append(f"{len(times) - len(moments)} of {len(times)} events were written twice and are left out")
        times = moments
    if len(times) >= _MANY_EVENTS and times[-1] < _FIRST_SHARE * length:
        findings.append(
            f"all {len(times)} events lie in the first {times[-1]:.3g} of {length:.6g} s: is their unit right?"
        )
    return Timed(times, None, attributes={"findings": findings} if findings else {})


def _check_label_unit(track: Track, times: NDArray[np.float64], length: float, rate_hz: float) -> None:
    """Refuse labels of no stated unit that would last far longer than the signal, where another unit fits.

    Raises:
        UserError: see above.
    """
    if track.rule.time_unit is not None or track.stamps.zero != "number" or not track.stated:
        return
    last = float(times.max()) if len(times) else 0.0
    fitting = _fitting_unit(float(times.min()), last, length, rate_hz) if last > _FAR_TOO_LONG * length else None
    if fitting is not None:
        raise UserError(
            "labels of a time far longer than that of the signal",
            location=track.location,
            value=f"labels from {times.min():.6g} to {last:.6g} s",
            expected=f"most within 0 to {length:.6g} s after its first value",
            hint=_hint_of_unit(fitting, rate_hz) + " State `time_unit: s` if they are seconds.",
        )


def _fitting_unit(first: float, last: float, length: float, rate_hz: float) -> str | None:
    """The unit in which times, taken for seconds, would fill a recording; None where there is none."""
    units = {"samples": 1 / rate_hz, **{name: float(seconds) for name, seconds in SECONDS.items()}}
    return next((u for u, s in units.items() if first >= 0 and length / 4 < last * s <= length + _TOLERANCE_S), None)


def _hint_of_unit(unit: str, rate_hz: float) -> str:
    rate = f"` with `rate_hz: {rate_hz:g}" if unit == "samples" else ""
    return f"`time_unit: {unit}{rate}` would fit."


def _event_hint(track: Track, times: NDArray[np.float64], length: float, rate_hz: float) -> str:
    """What would put events into a recording of this length."""
    rule, fitting = track.rule, None
    if rule.intervals is not None and not track.stated:
        return "Correct `interval_unit` or `start`; where they are events of a longer recording, state `outside: drop`."
    if rule.time_unit is None and track.stamps.zero == "number":
        fitting = _fitting_unit(float(times[0]), float(times[-1]), length, rate_hz)
    if fitting is not None:
        return _hint_of_unit(fitting, rate_hz)
    if rule.start is None and 0 < times[-1] - times[0] <= length + _TOLERANCE_S:
        return "Do they count from the start of the recording, or from another moment? State `start`."
    return "Correct `time_unit` or `rate_hz`; where they are events of a longer recording, state `outside: drop`."


def _holding(track: Track, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Until when each value holds: the next one, unless a pause lies between them."""
    assert track.values is not None
    rule, steps = track.rule, np.diff(times)
    hold = rule.hold_s or (1 / rule.rate_hz if rule.rate_hz and rule.time_unit != "samples" else None)
    if hold is None and not (steps > 0).any():
        raise UserError("a single label", location=track.location, expected="`hold_s`: how long it holds")
    if hold is None:
        hold = float(np.median(steps[steps > 0]))
        steps = np.where(steps <= PAUSE * hold, steps, hold)
        return times + np.append(steps, hold), track.values
    return times + np.minimum(np.append(steps, hold), hold), track.values


def _spans(track: Track, times: NDArray[np.float64], shift: float) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Ends of spans.

    Raises:
        UserError: two spans of different values overlap.
    """
    assert track.ends_s is not None
    assert track.values is not None
    ends = track.ends_s + shift
    order = np.argsort(times, kind="stable")
    overlap = (ends[order][:-1] > times[order][1:] + 1e-9) & (track.values[order][:-1] != track.values[order][1:])
    if overlap.any():
        first = int(np.argmax(overlap))
        raise UserError(
            "spans of different values that overlap",
            location=track.location,
            value=f"rows {order[first]} and {order[first + 1]}",
            expected="one value at a time",
        )
    return ends, track.values


def _on_grid(
    track: Track, times: NDArray[np.float64], ends: NDArray[np.float64], values: NDArray[Any], signal: Timed
) -> Timed:
    """Values that hold from a time to an end, at the times of a signal's grid."""
    assert signal.rate_hz is not None
    order = np.argsort(times, kind="stable")
    times, ends, values = times[order], ends[order], values[order]
    grid = np.arange(len(signal.values)) / signal.rate_hz + 1e-6 / signal.rate_hz
    label = np.searchsorted(times, grid, side="right") - 1
    held = label >= 0
    held[held] = grid[held] < ends[label[held]]
    text = values.dtype.kind == "U"
    aligned = np.full(len(grid), "" if text else np.nan, dtype=values.dtype if text else np.float32)
    aligned[held] = values[label[held]]
    if not (held.any() and ((aligned != "").any() if text else np.isfinite(aligned).any())) and not track.rule.optional:
        raise UserError(
            "labels that have no time in common with the signal",
            location=track.location,
            value=f"labels from {times[0]:.6g} to {ends.max():.6g} s" if len(times) else "no labels",
            expected=f"some within 0 to {len(signal.values) / signal.rate_hz:.6g} s after its first value",
            hint="Is the time unit or the zone of one of them right? State `optional: true` if this recording has no labels.",
        )
    return Timed(
        np.char.encode(aligned, "utf-8") if text else aligned,
        signal.rate_hz,
        signal.start_s,
        origin=signal.origin,
        zero=signal.zero,
    )
