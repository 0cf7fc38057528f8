"""Estimates of a continuous value along a recording: smoothing, tracking, and refusal of uncertain ones."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import chain, repeat
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError
from maekit.tasks.label_kinds.estimates import Estimate, EstimateOutput
from maekit.tracking import Tracker, check_lag, median_and_std

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun

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

    def process(self, rows: Iterator[Estimate]) -> Iterator[Estimate]:
        """See `RecordingOutput.process`."""
        if self.tracker is not None:
            rows = tracked(rows, self.tracker)
        limit = self.options.uncertain_above
        if limit is not None:
            rows = (without_uncertain(row, limit) for row in rows)
        return smoothed(rows, self.options.smoothing)

    def facts(self) -> dict[str, Any]:
        """See `RecordingOutput.facts`."""
        options = self.options
        return super().facts() | {
            "smoothing": options.smoothing,
            "track_s": nan if options.track_s is None else options.track_s,
            "uncertain_above": nan if options.uncertain_above is None else options.uncertain_above,
        }


def smoothed(rows: Iterator[Estimate], width: int) -> Iterator[Estimate]:
    """Each value replaced by the median of the `width` rows around it; rows without an estimate stay and do not count."""
    if width == 1:
        yield from rows
        return
    half = width // 2
    neighbours: deque[Estimate | None] = deque([None] * half, maxlen=width)
    for row in chain(rows, repeat(None, half)):
        neighbours.append(row)
        if len(neighbours) == width and (centre := neighbours[half]) is not None:
            valid = [float(one.value) for one in neighbours if one is not None and not one.reason]
            yield centre if centre.reason else replace(centre, value=float(np.median(valid)))


def tracked(rows: Iterator[Estimate], tracker: Tracker) -> Iterator[Estimate]:
    """Each value and its uncertainty given all windows up to the tracker's lag; rows without an estimate stay."""
    waiting: deque[Estimate] = deque()

    def windows() -> Iterator[tuple[float, NDArray[np.float64] | None]]:
        for row in rows:
            waiting.append(row)
            yield row.time_s, row.log_probability

    for probability in tracker.follow(windows()):
        row = waiting.popleft()
        value, std = median_and_std(probability, tracker.values)
        yield row if row.reason else replace(row, value=value, confidence=std, log_probability=None)


def without_uncertain(row: Estimate, limit: float) -> Estimate:
    """The row, without its value where the task itself is too uncertain; the uncertainty stays."""
    return row if row.reason or row.confidence <= limit else replace(row, value=nan, reason=UNCERTAIN)
