"""A value that moves slowly, followed through the windows of a recording: from what each says alone to what all say together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import expm

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

Array = Any
LOST = 1e-6
"""Chance a second, for each bin, that the value is there at once: a wrong path can be left."""
SAME_TIME_S = 1e-6
UNTRUE = 0.5
"""How often a value that comes without a distribution is taken to be anywhere else."""


@dataclass(frozen=True)
class Tracker:
    """A hidden Markov chain over the bins of a value: forward, and back from a fixed lag.

    Rabiner, A Tutorial on Hidden Markov Models (Proc. IEEE 77, 1989), section III. The value is a random walk in continuous
    time, so that nothing depends on how close windows lie. Windows that overlap see the same samples: each counts by the share
    of its length since the last one that said something. What a window says is taken as its likelihood; of a model it is a
    posterior, in which the training labels count: where windows say little, the value is drawn to those, and surer than it should be.

    Args:
        values: (bin,) that the bins stand for, rising.
        drift: standard deviation of the value's change in one second, in its unit; see `drift_of`.
        window_s: length of a window.
        ahead_s: how much later windows may be that a value is told from; 0 uses none that comes after.
    """

    values: NDArray[np.float64]
    drift: float
    window_s: float
    ahead_s: float
    _moves: dict[float, NDArray[np.float64]] = field(default_factory=dict, repr=False, init=False)

    def follow(self, windows: Iterable[tuple[float, Array | None]]) -> Iterator[NDArray[np.float64]]:
        """The distribution (bin,) of each window of a recording, in order, as soon as those ahead of it have been seen.

        Args:
            windows: time in seconds, rising, and what the window alone says: the logarithm of each bin's probability, up to a
                constant; None, or not finite, where it says nothing.
        """
        waiting: deque[tuple[float, Array, Array]] = deque()  # time, what was said, distribution without later ones
        forward = np.full(len(self.values), 1 / len(self.values))
        before = spoke = -np.inf
        for time, said in windows:
            while waiting and waiting[0][0] + self.ahead_s < time - SAME_TIME_S:
                yield self._looking_back(waiting)
            seen = np.ones(len(self.values))
            if said is not None and np.isfinite(said).all():
                seen = np.exp((said - np.max(said)) * min((time - spoke) / self.window_s, 1.0))
                spoke = time
            if np.isfinite(before):
                forward = forward @ self._move(time - before)
            forward = seen * forward
            forward /= forward.sum()
            waiting.append((time, seen, forward))
            before = time
        while waiting:
            yield self._looking_back(waiting)

    def _looking_back(self, waiting: deque[tuple[float, Array, Array]]) -> NDArray[np.float64]:
        """The distribution of the first that waits, which then waits no more."""
        later, after = np.ones(len(self.values)), None
        for time, seen, _ in reversed(waiting):
            if after is not None:
                later = self._move(after[0] - time) @ (after[1] * later)
                later /= later.sum()
            after = time, seen
        found = waiting.popleft()[2] * later
        return np.asarray(found / found.sum())

    def _move(self, step_s: float) -> NDArray[np.float64]:
        """(from, to) in so many seconds."""
        step_s = round(step_s, 3)
        if step_s not in self._moves:
            self._moves[step_s] = expm(step_s * self._rates())
        return self._moves[step_s]

    def _rates(self) -> NDArray[np.float64]:
        """(from, to) a second: to both neighbours, so that mean and variance are those of the walk, and rarely anywhere."""
        gaps = np.diff(self.values)
        gaps = np.r_[gaps[0], gaps, gaps[-1]]
        rates = np.full((len(self.values), len(self.values)), LOST)
        for to, near, far in ((-1, gaps[:-1], gaps[1:]), (1, gaps[1:], gaps[:-1])):
            rate = self.drift**2 / (near * (near + far))
            inside = np.arange(max(-to, 0), len(self.values) - max(to, 0))
            rates[inside, inside + to] += rate[inside]
        np.fill_diagonal(rates, 0.0)
        return rates - np.diag(rates.sum(axis=1))


def check_ahead(seconds: float) -> None:
    """Whether so much of what comes can be waited for.

    Raises:
        UserError: below zero, or no number.
    """
    if not 0 <= seconds < np.inf:
        raise UserError("not a time to wait", location="--track", value=seconds, expected="seconds, from 0 on")


def drift_of(label: Array, recording: Array, time_s: Array, window_s: float) -> float:
    """How fast labels move: the standard deviation of their change in one second, in their unit, as of a random walk.

    From each label and the first that is at least a window later: the mean square of their difference is, each being an
    average over its window, the variance of a second times the time between less a third of the window. Noise of the labels
    counts as movement. Where few labels are known, and those far apart, a value that comes back to its mean seems slower than
    it is. NaN where no two labels are.

    Args:
        label: (windows,)
        recording: (windows,) which one each is of.
        time_s: (windows,) in its recording.
        window_s: length of a window.
    """
    squares, seconds = 0.0, 0.0
    for one in np.unique(recording):
        mine = np.flatnonzero(recording == one)
        mine = mine[np.argsort(time_s[mine])]
        at = time_s[mine]
        then = np.searchsorted(at, at + window_s - SAME_TIME_S)
        now = np.flatnonzero(then < len(mine))
        squares += float(((label[mine[then[now]]] - label[mine[now]]) ** 2).sum())
        seconds += float((at[then[now]] - at[now] - window_s / 3).sum())
    return float(np.sqrt(squares / seconds)) if seconds > 0 else float("nan")


def around(value: float, std: float, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What a window says that gives a value and no distribution: near it, or (`UNTRUE`) nothing; None where it has no value
    among `values`.
    """
    if not values[0] <= value <= values[-1]:
        return None
    near = np.exp(-(((values - value) / std) ** 2) / 2)
    return np.asarray(np.log((1 - UNTRUE) * near / near.sum() + UNTRUE / len(values)))


def median_and_std(share: Array, values: NDArray[np.float64]) -> tuple[float, float]:
    """Of a distribution over bins, even within each."""
    between = (values[1:] + values[:-1]) / 2
    edges = np.r_[2 * values[0] - between[0], between, 2 * values[-1] - between[-1]]
    median = np.interp(0.5, np.r_[0.0, np.cumsum(share)], edges)
    return float(median), float(np.sqrt(share @ ((values - median) ** 2 + np.diff(edges) ** 2 / 12)))
