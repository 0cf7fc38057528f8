"""Recordings whose values are constant, clipped, or begin far off the rest, from one pass over them in constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.check.problems import Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

CLIPPED_SHARE = 0.005
"""Share of the values at the highest or lowest one from which on a recording may be clipped."""
SEVERE_START = 10.0
"""Distance of the first samples from the rest, in ranges of the rest of all recordings, from which on they decide the statistics of training."""
MOSTLY_CLIPPED = 0.25
"""Share from which on training would be wrong."""
_RAIL_RATIO = 4.0
"""Values at a rail over values just inside of it: few signals dwell at their extremes, and clipped ones do nowhere else."""
_NEAR_RAIL = 0.02
"""Width of "just inside", as a share of the range."""
_WORD_BITS = (16, 24)
"""Sizes of integers whose sign is often mistaken."""
_HEAD_SHARE = 0.1
_MIN_HEAD_ROWS = 4
_MAX_HEAD_ROWS = 1 << 16


@dataclass
class Rail:
    """How many values equal the extreme one, and how many lie near it.

    Attributes:
        value: the extreme one.
        at: values that equal it.
        near: values within `_NEAR_RAIL` of it.
        step: distance of the next value, which is beyond `_NEAR_RAIL` where few levels are stored.
        at_step: values that equal the next one.
    """

    value: float
    at: int = 0
    near: int = 0
    step: float = np.inf
    at_step: int = 0

    @property
    def cut_off(self) -> bool:
        """Whether far more values lie at the rail than just inside of it; zero is the natural end of powers and magnitudes."""
        return self.value != 0 and self.at > _RAIL_RATIO * max(self.near, self.at_step)

    def add_distances(self, distances: NDArray[Any], width: float) -> None:
        """Count values just inside by their positive distances from the rail."""
        self.near += int((distances <= width).sum())
        if not distances.size or (step := float(distances.min())) > self.step:
            return
        if step < self.step:
            self.step, self.at_step = step, 0
        self.at_step += int((distances == step).sum())


@dataclass(frozen=True)
class Transient:
    """First rows of a channel that are far off the rest.

    Attributes:
        location: the recording.
        channel: its name.
        distance: of the farthest value from the range of the rest.
        detail: that value, the range, and the rows up to the last one that is far off.
    """

    location: str
    channel: str
    distance: float
    detail: str


class ChannelLevels:
    """Range of one channel, the counts at its ends, and its first rows apart from the rest.

    Args:
        rows: of the recording.
    """

    def __init__(self, rows: int) -> None:
        self.head_rows = min(max(int(rows * _HEAD_SHARE), _MIN_HEAD_ROWS), _MAX_HEAD_ROWS, rows // 2)
        self.low, self.high = Rail(np.inf), Rail(-np.inf)
        self.count = 0
        self.rest_low, self.rest_high = np.inf, -np.inf
        self.below_middle, self.above_middle = -np.inf, np.inf
        self._head: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any], valid: NDArray[np.bool_], first: int) -> None:
        """Take in the next rows.

        Args:
            values: (rows, others) real numbers.
            valid: of the same shape; True where measured.
            first: number of the first of these rows.
        """
        in_head = max(min(self.head_rows - first, len(values)), 0)
        if in_head and values.shape[1] == 1:
            self._head.append(np.where(valid[:in_head, 0], values[:in_head, 0], np.nan))
        measured = values if valid.all() else values[valid]
        if not measured.size:
            return
        self.count += measured.size
        self._extend(self.low, float(measured.min()), measured, -1)
        self._extend(self.high, float(measured.max()), measured, 1)
        rest, rest_valid = values[in_head:], valid[in_head:]
        if rest.size and rest_valid.any():
            inside = rest if rest_valid.all() else rest[rest_valid]
            self.rest_low, self.rest_high = (
                min(self.rest_low, float(inside.min())),
                max(self.rest_high, float(inside.max())),
            )

    def add_near(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """In a second pass, count the values just inside of the rails."""
        width = _NEAR_RAIL * (self.high.value - self.low.value)
        measured = values[valid]
        self.low.add_distances((measured - self.low.value)[measured > self.low.value], width)
        self.high.add_distances((self.high.value - measured)[measured < self.high.value], width)

    @property
    def constant(self) -> bool:
        """Whether all measured values are equal."""
        return self.count > 1 and self.low.value == self.high.value

    @property
    def may_be_clipped(self) -> bool:
        """Whether enough values lie at a rail for a second pass."""
        return not self.constant and any(
            rail.value != 0 and rail.at >= max(CLIPPED_SHARE * self.count, 3) for rail in (self.low, self.high)
        )

    @property
    def word_bits(self) -> int | None:
        """Size of an integer, signed or not, whose range the values nearly fill; None if there is none."""
        low, high = self.low.value, self.high.value
        for bits in _WORD_BITS:
            size = 2.0**bits
            if -size / 2 <= low <= high < size and high - low > 0.75 * size and (low >= 0 or high < size / 2):
                return bits
        return None

    def add_middle(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """In a second pass, find the values next to the middle of the range of an integer."""
        assert self.word_bits is not None
        middle = 0.0 if self.low.value < 0 else 2.0 ** (self.word_bits - 1)
        measured = values[valid]
        self.below_middle = max(self.below_middle, float(measured.max(initial=-np.inf, where=measured < middle)))
        self.above_middle = min(self.above_middle, float(measured.min(initial=np.inf, where=measured >= middle)))

    @property
    def wrapped(self) -> bool:
        """After the second pass, whether all values lie near the two ends of the range of an integer, as with a wrong sign."""
        bits = self.word_bits
        if bits is None or self.below_middle == self.low.value or self.above_middle == self.high.value:
            return False  # a single number at one end means that there is no value
        return self.above_middle - self.below_middle > 0.5 * 2.0**bits

    def clipped_share(self) -> float:
        """Share of the values at rails where the signal was cut off, after the second pass."""
        if not self.may_be_clipped:  # no second pass
            return 0.0
        share = sum(rail.at for rail in (self.low, self.high) if rail.cut_off) / max(self.count, 1)
        both_ends = (self.low.at + self.high.at) / max(self.count, 1)
        return 0.0 if both_ends > 0.9 or share < CLIPPED_SHARE else share  # two levels and hardly more: a switch

    def transient(self, location: str, channel: str, rate_hz: float | None) -> Transient | None:
        """First rows of which some are farther off the rest than the rest is wide; None where none is."""
        head = np.concatenate(self._head) if self._head else np.zeros(0)
        span = self.rest_high - self.rest_low
        if not np.isfinite(span) or not span > 0 or not len(head):
            return None
        distance = np.maximum(self.rest_low - head, head - self.rest_high)
        if not (np.nan_to_num(distance, nan=-np.inf) > span).any():
            return None
        rows = int(np.flatnonzero(np.nan_to_num(distance, nan=-np.inf) > 0.1 * span)[-1]) + 1
        farthest = int(np.nanargmax(distance))
        seconds = f", {rows / rate_hz:.3g} s" if rate_hz else ""
        detail = (
            f"{head[farthest]:.4g} where the rest is {self.rest_low:.4g} to {self.rest_high:.4g}; {rows} rows{seconds}"
        )
        return Transient(location, channel, float(distance[farthest]), detail)

    @staticmethod
    def _extend(rail: Rail, extreme: float, values: NDArray[Any], sign: int) -> None:
        if sign * extreme > sign * rail.value:
            rail.value, rail.at = extreme, 0
        if sign * extreme >= sign * rail.value:
            rail.at += int((values == extreme).sum())


def level_problems(levels: Mapping[str, ChannelLevels], location: str, *, one_axis: bool = True) -> Iterator[Problem]:
    """Problems of one recording.

    Args:
        levels: of its channels by name, after both passes.
        location: the recording.
        one_axis: whether a channel is one number a row; the values of maps are often cut off on purpose.
    """
    constant = [name for name, level in levels.items() if level.constant]
    if constant and len(constant) == sum(level.count > 0 for level in levels.values()):
        yield Problem(
            "error",
            "constant recordings, in which nothing was measured",
            location,
            f"{levels[constant[0]].low.value:g} throughout",
            "Leave them out of `files` or `records`, or name the value in `signal.missing`.",
        )
        return
    for name, level in levels.items():
        place = f"{location} channel {name}" if name else location
        if level.constant:
            yield Problem("warning", "constant channels", place, f"{level.low.value:g} throughout")
            continue
        if level.wrapped:
            size = f"{2 ** (level.word_bits or 0)}"
            yield Problem(
                "error",
                "integers whose sign was mistaken, so that values jump from one end of their range to the other",
                place,
                f"{level.low.value:g} to {level.high.value:g}, and nothing from {level.below_middle:g} to {level.above_middle:g}",
                f"Add {size} to what is below 0 before converting, or read raw numbers as unsigned (`ru16_le`)."
                if level.low.value < 0
                else f"Subtract {size} from the upper values before converting, or read raw numbers as signed (`ri16_le`).",
            )
        if share := level.clipped_share():
            rails = " and ".join(f"{rail.value:g}" for rail in (level.low, level.high) if rail.cut_off)
            severity: Severity = "note" if not one_axis else "error" if share > MOSTLY_CLIPPED else "warning"
            yield Problem(
                severity,
                "clipped values",
                place,
                f"{share:.1%} at {rails}",
                "The sensor was driven beyond its range: leave out what is mostly clipped, or name the value in `signal.missing`."
                if one_axis
                else "The sensor, or who stored the values, cut them off there.",
            )


def start_problems(transients: Sequence[Transient], spans: Mapping[str, float]) -> Iterator[Problem]:
    """Problems of the first rows of recordings: errors where they decide the statistics of training.

    Args:
        transients: of all recordings.
        spans: by channel, the range of the values of all recordings after their first rows.
    """
    for start in transients:
        yield Problem(
            "error" if start.distance > SEVERE_START * spans[start.channel] else "warning",
            "first samples far off the rest",
            f"{start.location} channel {start.channel}" if start.channel else start.location,
            start.detail,
            "A filter that settles, or a sensor that is put in place: cut them off, or mark them in the dataset that `valid` names.",
        )
