"""Estimates of a continuous value along a recording: smoothing, tracking, and refusal of uncertain ones."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import floor, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError
from maekit.tasks.label_kinds.estimates import Estimate, EstimateOutput
from maekit.tasks.label_kinds.recording_output import through
from maekit.tracking import SAME_TIME_S, Track, Tracker, check_lag, median_and_std

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from maekit.tasks.label_kinds.recording_output import PredictOptions, Stage, TrainedRun

UNCERTAIN = "uncertain"


class ValueOutput(EstimateOutput):
    """Values with their standard deviations, where the task states them.

    Args:
        run, options: see `RecordingOutput`.
        unit: of the label.

    Raises:
        UserError: options that do not go with the run.
    """

    options_used = frozenset({"smoothing", "track_s", "uncertain_above"})

    def __init__(self, run: TrainedRun, options: PredictOptions, *, unit: str) -> None:
        super().__init__(run, options, names=(unit or "value", "uncertainty"), unit=unit)
        if options.smoothing < 1 or options.smoothing % 2 == 0:
            raise UserError(
                "not a number of windows to smooth over",
                location="--smoothing",
                value=options.smoothing,
                expected="an odd number",
            )
        given = {"--uncertain-above": options.uncertain_above, "--track": options.track_s}
        for option, value in given.items():
            if value is not None and run.task.values is None:
                raise UserError(
                    "a run that does not say how uncertain it is",
                    location=option,
                    value=value,
                    expected="a task that predicts distributions, such as regression with `spread` or `bins`",
                )
        self.tracker = None if options.track_s is None else self._tracker(options.track_s)

    def _tracker(self, lag_s: float) -> Tracker:
        check_lag(lag_s)
        values, dynamics = self.run.task.values, self.run.label_dynamics
        assert values is not None
        if dynamics is None:
            raise UserError(
                "it is not known how fast the labels of this run change",
                location=str(self.run.folder),
                value="label_dynamics: null in training_stats.json",
                expected="a run trained on recordings of which two windows that do not overlap have different labels",
                hint="Remove the file if an earlier version wrote it; it is made again where the training data are at hand.",
            )
        return Tracker(values, dynamics.drift, dynamics.window_s, lag_s)

    def predictions(self, rows: Mapping[str, NDArray[Any]]) -> Sequence[tuple[float, float, Any]]:
        """Value, standard deviation and log-probabilities; NaN and None where the task states none."""
        values = rows["output"].tolist()
        if "uncertainty" not in rows:
            return [(value, nan, None) for value in values]
        log_probability = rows["log_probability"].astype(np.float64)
        return list(zip(values, rows["uncertainty"].tolist(), log_probability, strict=True))

    def stages(self) -> list[Stage[Estimate]]:
        """See `RecordingOutput.stages`."""
        limit, width = self.options.uncertain_above, self.options.smoothing
        found: list[Stage[Estimate]] = []
        if self.tracker is not None:
            found.append(Tracked(self.tracker))
        if limit is not None:
            found.append(WithoutUncertain(limit))
        return [*found, Smoothed(width)] if width > 1 else found

    def facts(self) -> dict[str, Any]:
        """See `RecordingOutput.facts`."""
        options = self.options
        return super().facts() | {
            "smoothing": options.smoothing,
            "track_s": nan if options.track_s is None else options.track_s,
            "uncertain_above": nan if options.uncertain_above is None else options.uncertain_above,
        }


class Smoothed:
    """Each value replaced by the median of the `width` rows around it; rows without an estimate stay and do not count.

    Args:
        width: an odd number.
    """

    def __init__(self, width: int) -> None:
        self.half = width // 2
        self._neighbours: deque[Estimate | None] = deque([None] * width, maxlen=width)

    def push(self, row: Estimate | None) -> list[Estimate]:
        """See `Stage.push`; None stands for what follows the last row."""
        self._neighbours.append(row)
        centre = self._neighbours[self.half]
        if centre is None or centre.reason:
            return [] if centre is None else [centre]
        valid = [float(one.value) for one in self._neighbours if one is not None and not one.reason]
        return [replace(centre, value=float(np.median(valid)))]

    def finish(self) -> list[Estimate]:
        """See `Stage.finish`."""
        return [row for _ in range(self.half) for row in self.push(None)]

    def rows_held(self, hop_s: float) -> int:
        """See `Stage.rows_held`."""
        del hop_s
        return self.half


class Tracked:
    """Each value and its uncertainty given all windows up to the tracker's lag; rows without an estimate stay.

    Args:
        tracker: with its lag.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.track, self._waiting = Track(tracker), deque[Estimate]()

    def push(self, row: Estimate) -> list[Estimate]:
        """See `Stage.push`."""
        self._waiting.append(row)
        return self._followed(self.track.push(row.time_s, row.log_probability))

    def finish(self) -> list[Estimate]:
        """See `Stage.finish`."""
        return self._followed(self.track.finish())

    def rows_held(self, hop_s: float) -> int:
        """See `Stage.rows_held`."""
        return floor((self.track.tracker.lag_s + SAME_TIME_S) / hop_s) + 1

    def _followed(self, probabilities: Sequence[NDArray[np.float64]]) -> list[Estimate]:
        found = []
        for probability in probabilities:
            row = self._waiting.popleft()
            value, std = median_and_std(probability, self.track.tracker.values)
            found.append(row if row.reason else replace(row, value=value, confidence=std, log_probability=None))
        return found


class WithoutUncertain:
    """Rows without their values where the task itself is too uncertain; the uncertainty stays.

    Args:
        limit: of the uncertainty, in the unit of the label.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def push(self, row: Estimate) -> list[Estimate]:
        """See `Stage.push`."""
        certain = row.reason or row.confidence <= self.limit
        return [row if certain else replace(row, value=nan, reason=UNCERTAIN)]

    def finish(self) -> list[Estimate]:
        """See `Stage.finish`."""
        return []

    def rows_held(self, hop_s: float) -> int:
        """See `Stage.rows_held`."""
        del hop_s
        return 0


def smoothed(rows: Iterable[Estimate], width: int) -> Iterator[Estimate]:
    """See `Smoothed`."""
    return through(rows, Smoothed(width))


def tracked(rows: Iterable[Estimate], tracker: Tracker) -> Iterator[Estimate]:
    """See `Tracked`."""
    return through(rows, Tracked(tracker))
