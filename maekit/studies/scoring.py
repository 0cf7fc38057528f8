"""From the predictions of many jobs to the metrics of a method, with intervals that come from groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.metrics.bootstrap import cohorts, interval
from maekit.studies.results import Difference, Kind, Method
from maekit.tracking import Tracker, log_likelihood_of, median_and_std

if TYPE_CHECKING:
    from maekit.studies.jobs import Result
    from maekit.tasks.label_kinds.base import LabelKind

Array = Any
EVEN_BINS, MARGIN = 161, 0.5
"""For tracking without a distribution: number of bins, and how far they go beyond the training labels, as a share of their range."""
PAUSE = 1.5
"""Windows further apart than so many usual hops do not follow each other."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of one method and one seed.

    Attributes:
        index: of the sample in its source.
        output: of each sample; NaN where there is none, a list of tables where a sample has several.
        label: of each sample, in the same form.
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

    def filled(self, by: Predictions, kind: LabelKind) -> Predictions:
        """With another method's output for samples without one."""
        position = {index: i for i, index in enumerate(by.index.tolist())}
        order = [position[index] for index in self.index.tolist()]
        instead = [by.output[i] for i in order] if isinstance(by.output, list) else by.output[order]
        return replace(self, output=kind.fill(self.output, instead))


def concatenate_folds(results: Sequence[Result], method: str, kind: LabelKind) -> Predictions:
    """The predictions of one method from the results of all folds."""
    outputs: list[Any] = []
    labels: list[Any] = []
    parts: dict[str, list[Array]] = {"index": [], "group": [], "position": [], "uncertainty": []}
    for result in results:
        outputs += result["methods"][method]
        labels += result.get("labels", {}).get(method) or result["label"]
        parts["index"].append(np.array(result["index"], dtype=np.int64))
        parts["group"].append(np.array(result["groups"], dtype=np.str_)[np.array(result["group"], dtype=np.int64)])
        if result["position"] is not None:
            parts["position"].append(_array(result["position"]).reshape(-1, 2))
        if any(method in other.get("uncertainty", {}) for other in results):
            unknown = [None] * len(result["index"])
            parts["uncertainty"].append(_array(result.get("uncertainty", {}).get(method, unknown)))
    whole = {name: np.concatenate(values) if values else None for name, values in parts.items()}
    return Predictions(output=kind.from_json(outputs), label=kind.from_json(labels), **whole)


def tracked(result: Result, method: str, dynamics: Mapping[str, float], lag_s: float, std: float) -> Result:
    """A result with this method alone, each output given all windows of its recording until `lag_s` later.

    Args:
        result: of a job; returned as it is where the method has no output at all.
        method: of the result.
        dynamics: of the training labels, see `maekit.tracking.LabelDynamics`.
        lag_s: seconds.
        std: standard deviation of an output around the label, where the method gives no distribution.
    """
    output = _array(result["methods"][method])
    if not np.isfinite(output).any():
        return result
    log_likelihood: list[Array | None]
    if method in result.get("distribution", {}):
        stated = result["distribution"][method]
        values, log_likelihood = _array(stated["values"]), list(_array(stated["log_probability"]))
    else:
        margin = MARGIN * (dynamics["highest"] - dynamics["lowest"])
        values = np.linspace(dynamics["lowest"] - margin, dynamics["highest"] + margin, EVEN_BINS)
        log_likelihood = [log_likelihood_of(value, std, values) for value in output]
    tracker = Tracker(values, dynamics["drift"], dynamics["window_s"], lag_s)
    recording, start = _array(result["position"]).T
    order = np.lexsort((start, recording))
    estimates = np.empty((len(order), 2))
    for run in np.split(order, np.flatnonzero(np.diff(recording[order])) + 1):
        probabilities = tracker.follow((start[i], log_likelihood[i]) for i in run)
        estimates[run] = [median_and_std(probability, values) for probability in probabilities]
    median, std_of = estimates.T.tolist()
    return result | {"methods": {method: median}, "uncertainty": {method: std_of}}


@dataclass(frozen=True)
class Scored:
    """A method with its metrics, kept by group, seed and resampled cohort, so that methods can be compared in pairs.

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
        intervals = {name: interval(values) for name, values in self.drawn.items()}
        return Method(self.rows, intervals, self.name, self.kind, self.by_group)

    def less(self, other: Scored) -> Difference:
        """This method's metrics less another's."""
        pairs = zip(self.rows, other.rows, strict=True)
        per_seed = [{name: one[name] - two[name] for name in one if name in two} for one, two in pairs]
        intervals = {name: interval(values - other.drawn[name]) for name, values in self.drawn.items()}
        return Difference(per_seed, intervals, self.name, other.name)


def scored(name: str, kind: Kind, per_seed: Sequence[Predictions], labels: LabelKind) -> Scored:
    """Metrics of a method over all samples, of each group and of resampled cohorts.

    Args:
        name: see `Method`.
        kind: see `Method`.
        per_seed: predictions of each seed, for the same samples.
        labels: their kind.
    """
    groups = np.unique(per_seed[0].group)
    names, count = groups.tolist(), len(groups)
    weights = cohorts(count, labels.draws)
    rows, by_group, drawn = [], [], []
    for predictions in per_seed:
        number = np.asarray(np.searchsorted(groups, predictions.group), dtype=np.int64)
        metrics = labels.cohort_metrics(predictions.output, predictions.label, number, count)
        whole = {metric: float(values[0]) for metric, values in metrics(np.ones((1, count))).items()}
        rows.append(whole | stated_uncertainty(predictions))
        by_group.append(metrics(np.eye(count)))
        drawn.append(metrics(weights))
    of_groups = _mean(by_group)
    each = {group: {metric: float(values[i]) for metric, values in of_groups.items()} for i, group in enumerate(names)}
    return Scored(name, kind, rows, each, _mean(drawn))


def stated_uncertainty(found: Predictions) -> dict[str, float]:
    """How far a stated standard deviation can be trusted; empty where none is stated for every sample.

    Returns:
        `covered`: the share of labels inside 1.96 standard deviations, 0.95 where they are right.
        `sure_half_mae`: the mean absolute error of the half of the samples with the smallest uncertainty.
    """
    if found.uncertainty is None or not np.isfinite(found.uncertainty).all():
        return {}
    error = np.abs(found.output - found.label)
    surer = np.argsort(found.uncertainty, kind="stable")[: max(len(error) // 2, 1)]
    covered = float((error <= 1.96 * found.uncertainty).mean())
    return {"covered": covered, "sure_half_mae": float(error[surer].mean())}


def _mean(per_seed: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {metric: np.mean([one[metric] for one in per_seed], axis=0) for metric in per_seed[0]}


def _array(values: list[Any]) -> Array:
    return np.array(values, dtype=np.float64)  # null becomes NaN
