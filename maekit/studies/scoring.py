"""From the predictions of many jobs to the metrics of a method, with intervals that come from groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.metrics import scores as metrics
from maekit.studies.results import Difference, Kind, Method
from maekit.tracking import Tracker, around, median_and_std

if TYPE_CHECKING:
    from maekit.studies.jobs import Result

Array = Any
EVENLY, MARGIN = 161, 0.5
"""Where what is followed has no bins of its own: how many, and how far beyond the training labels, as a share of their range."""
PAUSE = 1.5
"""Windows further apart than so many usual hops do not follow each other."""


@dataclass(frozen=True)
class Predictions:
    """Of one method and one seed.

    Attributes:
        index: of the sample in its source.
        output: NaN where there is none.
        label: of each sample.
        group: name of each sample's group.
        position: (samples, 2) recording and start; None where samples are not windows of recordings.
        uncertainty: standard deviation that the model states; NaN where it does not, None where it never does.
    """

    index: Array
    output: Array
    label: Array
    group: Array
    position: Array | None
    uncertainty: Array | None = None

    def smoothed(self, windows: int) -> Predictions:
        """Each output replaced by the median of the `windows` around it (as many as there are at an end), in time order.

        Only windows of one recording that follow each other without a pause count; those without an output do not.
        """
        assert self.position is not None
        recording, start = self.position.T
        order = np.lexsort((start, recording))
        hops = np.diff(start[order])
        same = np.diff(recording[order]) == 0
        breaks = ~same | (hops > PAUSE * np.median(hops[same])) if same.any() else ~same
        output = self.output.copy()
        for run in np.split(order, np.flatnonzero(breaks) + 1):
            padded = np.pad(self.output[run], windows // 2, constant_values=np.nan)
            around = np.lib.stride_tricks.sliding_window_view(padded, windows)
            some = np.isfinite(around).any(1)
            output[run[some]] = np.nanmedian(around[some], axis=1)
        return replace(self, output=output, uncertainty=None)

    def filled(self, by: Predictions) -> Predictions:
        """With another method's output where this one has none."""
        value = dict(zip(by.index.tolist(), by.output.tolist(), strict=True))
        missing = ~np.isfinite(self.output)
        if not missing.any():
            return self
        output = self.output.copy()
        output[missing] = [value[i] for i in self.index[missing].tolist()]
        return replace(self, output=output)


def concatenate_folds(results: Sequence[Result], method: str) -> Predictions:
    """The predictions of one method from the results of all folds."""
    parts: dict[str, list[Array]] = {
        "index": [],
        "output": [],
        "label": [],
        "group": [],
        "position": [],
        "uncertainty": [],
    }
    for found in results:
        parts["index"].append(np.array(found["index"], dtype=np.int64))
        parts["output"].append(_array(found["methods"][method]))
        parts["label"].append(_array(found.get("labels", {}).get(method) or found["label"]))
        parts["group"].append(np.array(found["groups"], dtype=np.str_)[np.array(found["group"], dtype=np.int64)])
        if found["position"] is not None:
            parts["position"].append(_array(found["position"]).reshape(-1, 2))
        if any(method in other.get("uncertainty", {}) for other in results):
            unknown = [None] * len(found["index"])
            parts["uncertainty"].append(_array(found.get("uncertainty", {}).get(method, unknown)))
    whole = {name: np.concatenate(values) if values else None for name, values in parts.items()}
    return Predictions(**whole)


def followed(found: Result, method: str, pace: Mapping[str, float], ahead_s: float, std: float) -> Result:
    """A result with this method alone, each output told from all windows of its recording until `ahead_s` later.

    Args:
        found: of a job; returned as it is where the method has no output at all.
        method: of the result.
        pace: of the training labels, see `maekit.build.training_stats.Pace`.
        ahead_s: seconds.
        std: of an output around the label, where the method gives no distribution.
    """
    output = _array(found["methods"][method])
    if not np.isfinite(output).any():
        return found
    said: list[Array | None]
    if method in found.get("distribution", {}):
        stated = found["distribution"][method]
        values, said = _array(stated["values"]), list(_array(stated["log_probability"]))
    else:
        more = MARGIN * (pace["highest"] - pace["lowest"])
        values = np.linspace(pace["lowest"] - more, pace["highest"] + more, EVENLY)
        said = [around(value, std, values) for value in output]
    tracker = Tracker(values, pace["drift"], pace["window_s"], ahead_s)
    recording, start = _array(found["position"]).T
    order = np.lexsort((start, recording))
    told = np.empty((len(order), 2))
    for run in np.split(order, np.flatnonzero(np.diff(recording[order])) + 1):
        shares = tracker.follow((start[i], said[i]) for i in run)
        told[run] = [median_and_std(share, values) for share in shares]
    median, sure = told.T.tolist()
    return found | {"methods": {method: median}, "uncertainty": {method: sure}}


@dataclass(frozen=True)
class Scored:
    """An method with its metrics, kept by group, seed and resampled cohort, so that methods can be compared in pairs.

    Attributes:
        name, kind: see `Method`.
        rows: metrics of each seed.
        by_group: of each group, averaged over seeds.
        drawn: of each resampled cohort, averaged over seeds; methods of the same groups have the same cohorts.
    """

    name: str
    kind: Kind
    rows: list[dict[str, float]]
    by_group: dict[str, dict[str, float]]
    drawn: dict[str, Array]

    def method(self) -> Method:
        """As it is shown."""
        intervals = {name: metrics.interval(values) for name, values in self.drawn.items()}
        return Method(self.rows, intervals, self.name, self.kind, self.by_group)

    def less(self, other: Scored) -> Difference:
        """This method's metrics less another's."""
        pairs = zip(self.rows, other.rows, strict=True)
        per_seed = [{name: one[name] - two[name] for name in one if name in two} for one, two in pairs]
        intervals = {name: metrics.interval(values - other.drawn[name]) for name, values in self.drawn.items()}
        return Difference(per_seed, intervals, self.name, other.name)


def scored(name: str, kind: Kind, per_seed: Sequence[Predictions], *, within: float, classes: int | None) -> Scored:
    """Of one value or class a sample.

    Args:
        name, kind: see `Method`.
        per_seed: predictions of each seed, for the same samples.
        within: for regression.
        classes: how many there are; None for regression.
    """
    groups = sorted(set(per_seed[0].group.tolist()))
    of: metrics.OfSums = metrics.regression_of if classes is None else metrics.classification_of
    centre = float(np.mean(per_seed[0].label))

    def sums(found: Predictions, group: str) -> Array:
        mine = found.group == group
        output, label = found.output[mine], found.label[mine]
        if classes is None:
            return metrics.regression_sums(output, label, within, centre=centre)
        return metrics.classification_sums(output.astype(np.int64), label.astype(np.int64), classes)

    summed = np.array([[sums(found, group) for group in groups] for found in per_seed])
    rows = [row | stated_uncertainty(found) for row, found in zip(_by_row(of(summed.sum(1))), per_seed, strict=True)]
    by_group = _by_row({name: values.mean(0) for name, values in of(summed).items()})
    return Scored(name, kind, rows, dict(zip(groups, by_group, strict=True)), metrics.resampled(summed, of))


def stated_uncertainty(found: Predictions) -> dict[str, float]:
    """How far a stated standard deviation can be trusted: the share of labels inside 1.96 of it (`covered`, 0.95 where it
    is right), and the mean absolute error of the surer half of the samples (`sure_half_mae`).
    """
    if found.uncertainty is None or not np.isfinite(found.uncertainty).all():
        return {}
    error = np.abs(found.output - found.label)
    surer = np.argsort(found.uncertainty, kind="stable")[: max(len(error) // 2, 1)]
    covered = float((error <= 1.96 * found.uncertainty).mean())
    return {"covered": covered, "sure_half_mae": float(error[surer].mean())}


def _by_row(columns: dict[str, Array]) -> list[dict[str, float]]:
    return [
        {name: float(values[i]) for name, values in columns.items()} for i in range(len(next(iter(columns.values()))))
    ]


def _array(values: list[Any]) -> Array:
    return np.array(values, dtype=np.float64)  # null becomes NaN
