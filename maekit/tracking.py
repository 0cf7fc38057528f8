"""Tracking of a slowly changing value through the windows of a recording."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

Array = Any
JUMP_RATE = 1e-6
"""Probability a second, for each bin, that the value jumps there, so that the tracker can leave a wrong path."""
SAME_TIME_S = 1e-6
OUTLIER_SHARE = 0.5
"""Probability that an estimate without a distribution says nothing about the value."""


@dataclass(frozen=True)
class LabelDynamics:
    """How fast continuous labels change along a recording.

    Attributes:
        window_s: length of a window.
        drift: standard deviation of the change in one second, see `drift_of`.
        lowest, highest: of the training labels.
    """

    window_s: float
    drift: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Tracker:
    """A hidden Markov model over bins of a value: forward filtering and fixed-lag smoothing.

    Rabiner, A Tutorial on Hidden Markov Models (Proc. IEEE 77, 1989), section III. The value is a random walk in continuous
    time, so that the distance of windows does not matter. Windows that overlap see the same samples: each is weighted by the
    share of its length since the last window with an estimate. The distribution of a window is taken as its likelihood. That
    of a model is a posterior, which contains the prior of the training labels: where windows tell little, the result is drawn
    to the training labels and its uncertainty is too small.

    Args:
        values: (bin,) of the bins, rising.
        drift: standard deviation of the value's change in one second, in its unit; see `drift_of`.
        window_s: length of a window.
        lag_s: how much later windows may be that are used for a value; 0 is causal.
    """

    values: NDArray[np.float64]
    drift: float
    window_s: float
    lag_s: float
    _moves: dict[float, NDArray[np.float64]] = field(default_factory=dict, repr=False, init=False)

    def follow(self, windows: Iterable[tuple[float, Array | None]]) -> Iterator[NDArray[np.float64]]:
        """The distribution (bin,) of each window of a recording, in order, as soon as the windows within the lag have come.

        Args:
            windows: time in seconds, rising, and the logarithm of each bin's probability from the window alone, up to a
                constant; None, or not finite, where there is no estimate.
        """
        track = Track(self)
        for time, log_likelihood in windows:
            yield from track.push(time, log_likelihood)
        yield from track.finish()

    def _move(self, step_s: float) -> NDArray[np.float64]:
        """(from, to) transition probabilities in so many seconds."""
        step_s = round(step_s, 3)
        if step_s not in self._moves:
            from scipy.linalg import expm

            self._moves[step_s] = expm(step_s * self._rates())
        return self._moves[step_s]

    def _rates(self) -> NDArray[np.float64]:
        """(from, to) transition rates a second: to both neighbours, so that mean and variance are those of the random walk, and jumps."""
        gaps = np.diff(self.values)
        gaps = np.r_[gaps[0], gaps, gaps[-1]]
        rates = np.full((len(self.values), len(self.values)), JUMP_RATE)
        for to, near, far in ((-1, gaps[:-1], gaps[1:]), (1, gaps[1:], gaps[:-1])):
            rate = self.drift**2 / (near * (near + far))
            inside = np.arange(max(-to, 0), len(self.values) - max(to, 0))
            rates[inside, inside + to] += rate[inside]
        np.fill_diagonal(rates, 0.0)
        return rates - np.diag(rates.sum(axis=1))


class Track:
    """One recording that a tracker follows window by window; the memory is that of the windows within the lag.

    Args:
        tracker: with its lag.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._waiting: deque[tuple[float, Array, Array]] = deque()  # time, likelihood, forward distribution
        self._forward = np.full(len(tracker.values), 1 / len(tracker.values))
        self._before = self._last_estimate = -np.inf

    def push(self, time: float, log_likelihood: Array | None) -> list[NDArray[np.float64]]:
        """Take the next window; gives the distributions of windows that wait for none any more, in order.

        Args:
            time: in seconds, rising.
            log_likelihood: see `Tracker.follow`.
        """
        ready = []
        while self._waiting and self._waiting[0][0] + self.tracker.lag_s < time - SAME_TIME_S:
            ready.append(self._smooth_first())
        likelihood = np.ones(len(self.tracker.values))
        if log_likelihood is not None and np.isfinite(log_likelihood).all():
            new_share = min((time - self._last_estimate) / self.tracker.window_s, 1.0)
            likelihood = np.exp((log_likelihood - np.max(log_likelihood)) * new_share)
            self._last_estimate = time
        forward = self._forward
        if np.isfinite(self._before):
            forward = forward @ self.tracker._move(time - self._before)
        forward = likelihood * forward
        self._forward = forward / forward.sum()
        self._waiting.append((time, likelihood, self._forward))
        self._before = time
        return ready

    def finish(self) -> list[NDArray[np.float64]]:
        """The distributions of the windows that still wait."""
        return [self._smooth_first() for _ in range(len(self._waiting))]

    def _smooth_first(self) -> NDArray[np.float64]:
        """Remove the first waiting window; gives its distribution given all that wait."""
        backward, following = np.ones(len(self.tracker.values)), None
        for time, likelihood, _ in reversed(self._waiting):
            if following is not None:
                backward = self.tracker._move(following[0] - time) @ (following[1] * backward)
                backward /= backward.sum()
            following = time, likelihood
        probability = self._waiting.popleft()[2] * backward
        return np.asarray(probability / probability.sum())


def check_lag(seconds: float) -> None:
    """Refuse a lag that is negative or not finite.

    Raises:
        UserError: as said.
    """
    if not 0 <= seconds < np.inf:
        raise UserError("not a lag", location="--track", value=seconds, expected="seconds, from 0 on")


def drift_of(label: Array, recording: Array, time_s: Array, window_s: float) -> float:
    """How fast labels change: the standard deviation of their change in one second, in their unit, as of a random walk.

    Each label is compared with the first that is at least a window later. Since each is an average over its window, the
    mean square of the difference is the variance in a second times the time between them less a third of the window. Noise
    of the labels counts as change. Where labels are few and far apart, a value that returns to its mean seems slower than it
    is. NaN where no two labels can be compared.

    Args:
        label: (windows,)
        recording: (windows,) number of the recording.
        time_s: (windows,) from the start of the recording.
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


def log_likelihood_of(value: float, std: float, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Log-likelihood over `values` of an estimate without a distribution: normal around it, or (`OUTLIER_SHARE`) uniform.

    None where the estimate is not within `values`.
    """
    if not values[0] <= value <= values[-1]:
        return None
    near = np.exp(-(((values - value) / std) ** 2) / 2)
    return np.asarray(np.log((1 - OUTLIER_SHARE) * near / near.sum() + OUTLIER_SHARE / len(values)))


def median_and_std(probability: Array, values: NDArray[np.float64]) -> tuple[float, float]:
    """Median and standard deviation of a distribution over bins, uniform within each."""
    between = (values[1:] + values[:-1]) / 2
    edges = np.r_[2 * values[0] - between[0], between, 2 * values[-1] - between[-1]]
    median = np.interp(0.5, np.r_[0.0, np.cumsum(probability)], edges)
    return float(median), float(np.sqrt(probability @ ((values - median) ** 2 + np.diff(edges) ** 2 / 12)))
