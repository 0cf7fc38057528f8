"""Base classes of label kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np

from maekit.report.content import Picture, Table
from maekit.tasks.label_kinds.recording_output import PredictOptions, RecordingOutput, TrainedRun
from maekit.tasks.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.sample import Source
    from maekit.tasks.parts import LabelledData, Parts

Outputs: TypeAlias = Any
"""Predictions or labels of many samples: an array with one entry a sample, or a list with one table a sample."""
CohortMetrics: TypeAlias = "Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]"
"""From (cohort, group) weights, how often each group counts in each cohort, to (cohort,) values by metric."""


class LabelKind(ABC):
    """What the labels of a data set are, and what follows from it: metrics, baselines, probes, drawings.

    A task names its label kind in `Task.label_kind`. The same object serves evaluation, reports, studies, probes and
    `maekit predict`, for built-in kinds and for those of installed packages.

    Attributes:
        name: of the labels, in the plural, for messages.
        metric_names: in the order of tables; the first is the primary metric.
        lower_is_better: metrics of which a smaller value is better.
        main_metrics: compared in verdicts and curves, with an interval in every table.
        short_metrics: columns of short tables.
        stratified: whether a share of the labels is drawn class by class.
        is_continuous: whether the label is a number that changes gradually along a recording, so that running medians
            and tracking apply.
        has_learned_baselines: whether `learned_baselines` gives any.
        draws: resampled cohorts of a bootstrap.
    """

    name: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    main_metrics: ClassVar[tuple[str, ...]]
    short_metrics: ClassVar[tuple[str, ...]]
    stratified: ClassVar[bool] = False
    is_continuous: ClassVar[bool] = False
    has_learned_baselines: ClassVar[bool] = False
    draws: ClassVar[int] = 2000
    unit: str = ""

    @classmethod
    @abstractmethod
    def fits(cls, source: Source) -> bool:
        """Whether the labels of a source are of this kind."""

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Parts, options: Mapping[str, Any]) -> Self:
        """The kind as a recipe has it.

        Args:
            parts: of the experiment.
            options: of the recipe's task.

        Raises:
            ValueError: options that do not go with the labels.
        """

    @property
    def metrics(self) -> tuple[str, ...]:
        """`metric_names`, and those that depend on the data, such as one a class."""
        return self.metric_names

    @property
    def metric_titles(self) -> Mapping[str, str]:
        """Titles of the figures that show `main_metrics`. Default: their names."""
        return {name: name for name in self.main_metrics}

    @property
    def primary(self) -> str:
        """The metric that methods are ranked by."""
        return self.metric_names[0]

    def unit_of(self, metric: str) -> str:
        """Unit of a metric; empty where it has none."""
        del metric
        return ""

    def column(self, metric: str) -> str:
        """Heading of a metric's column: its name, with the unit where it has one."""
        unit = self.unit_of(metric)
        return f"{metric} [{unit}]" if unit else metric

    @property
    def assumed_std(self) -> float:
        """Standard deviation of an estimate that states none, for tracking continuous labels."""
        return float("nan")

    def check(self, data: LabelledData) -> None:  # noqa: B027 (no objection is a fine answer)
        """Refuse training labels that cannot be right. Default: nothing to object.

        Raises:
            UserError: labels that cannot be right.
        """

    # Predictions of samples

    @abstractmethod
    def outputs(self, rows: Mapping[str, NDArray[Any]]) -> Outputs:
        """The predictions in what `Task.eval_step` gives of many samples, in the form of the labels."""

    def truth(self, data: LabelledData, indices: NDArray[np.int64]) -> Outputs:
        """The labels of some samples, in the form that predictions are compared with."""
        return data.labels[indices]

    def from_json(self, values: list[Any]) -> Outputs:
        """Predictions or labels that were written as nested lists; null becomes NaN."""
        return np.array(values, dtype=np.float64)

    def fill(self, outputs: Outputs, instead: Outputs) -> Outputs:
        """`outputs`, with those of `instead` for samples without a prediction. Default: every sample has one."""
        del instead
        return outputs

    # Scores

    @abstractmethod
    def cohort_metrics(self, outputs: Outputs, labels: Outputs, group: NDArray[np.int64], groups: int) -> CohortMetrics:
        """A function that computes the metrics of cohorts.

        Args:
            outputs: of each sample.
            labels: of each sample.
            group: of each sample, a number below `groups`.
            groups: how many there are.
        """

    def score(self, outputs: Outputs, labels: Outputs) -> dict[str, float]:
        """The metrics of some samples."""
        metrics = self.cohort_metrics(outputs, labels, np.zeros(len(labels), dtype=np.int64), 1)(np.ones((1, 1)))
        return {name: float(values[0]) for name, values in metrics.items()}

    def is_better(self, value: float, other: float, metric: str = "") -> bool:
        """Whether a value of a metric (by default the primary one) is better than another."""
        return value < other if (metric or self.primary) in self.lower_is_better else value > other

    # Predictions without a network, for the test split

    @abstractmethod
    def constant(self, data: LabelledData) -> tuple[str, Outputs]:
        """The same prediction for every sample of the test split, from the training labels; and its name."""

    def baselines(self, data: LabelledData) -> dict[str, Outputs]:
        """What the adapter's own methods predict without learning, by name. Default: nothing."""
        del data
        return {}

    def learned_baselines(self, data: LabelledData) -> dict[str, Outputs]:
        """What shallow models on the adapter's own methods predict, by name. Default: nothing."""
        del data
        return {}

    def without_learning(self, data: LabelledData) -> dict[str, Outputs]:
        """`baselines`, with the constant for samples of which they say nothing, and the constant."""
        name, constant = self.constant(data)
        return {other: self.fill(outputs, constant) for other, outputs in self.baselines(data).items()} | {
            name: constant
        }

    # Reports

    def report(
        self, data: LabelledData, rows: Mapping[str, NDArray[Any]], metrics: Mapping[str, float], side: str
    ) -> ReportSection:
        """What the report of a run says of its predictions.

        Args:
            data: with the labels.
            rows: what `Task.eval_step` gives of the samples of the side.
            metrics: of the run on the side.
            side: `test`, where methods without learning are shown beside the run, or `validation`.
        """
        table = [["this run", *(metrics[name] for name in self.short_metrics)]]
        good = None
        if side == "test":
            truth = self.truth(data, data.split[side])
            scores = {name: self.score(one, truth) for name, one in self.without_learning(data).items()}
            table += [[name, *(score[metric] for metric in self.short_metrics)] for name, score in scores.items()]
            good = all(self.is_better(metrics[self.primary], score[self.primary]) for score in scores.values())
        verb = {True: "is better than", False: "is NOT better than", None: "was not compared with"}[good]
        value = f"{metrics[self.primary]:.3f} {self.unit_of(self.primary)}".rstrip()
        note = f"{len(rows['index'])} samples of groups not seen in training."
        return ReportSection(
            Verdict(
                f"The {self.primary} of {value} on the {side} split {verb} that of the predictors without learning.",
                good,
            ),
            [Table(f"Metrics on the {side} split", ["", *map(self.column, self.short_metrics)], table, note)],
            self.figures(self.outputs(rows), self.truth(data, rows["index"])),
        )

    def figures(self, outputs: Outputs, labels: Outputs) -> list[Picture]:
        """Figures of predictions and labels. Default: none."""
        del outputs, labels
        return []

    # Recordings

    def make_recording_output(self, run: TrainedRun, options: PredictOptions) -> RecordingOutput[Any] | None:
        """What `maekit predict` makes of predictions along a recording. Default: None, with which it is refused.

        Raises:
            UserError: options that do not go with the run.
        """
        del run, options
        return None

    # Models on features of the whole sample

    def linear_model(self) -> Any:
        """A scikit-learn model for a linear probe; None where one prediction a sample means nothing."""
        return None

    def neighbours_model(self, count: int) -> Any:
        """A scikit-learn model of the `count` nearest neighbours by cosine distance; None as for `linear_model`."""
        del count


class SummedMetrics(LabelKind):
    """A label kind whose metrics are functions of sums over samples."""

    @abstractmethod
    def sums(self, outputs: Outputs, labels: Outputs, *, centre: float) -> NDArray[np.float64]:
        """Sums over samples that all metrics are functions of.

        Args:
            outputs: of each sample.
            labels: of each sample.
            centre: near the mean label; the same for all sums that are added.
        """

    @abstractmethod
    def from_sums(self, sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Metrics from (cohort, *sums)."""

    def cohort_metrics(self, outputs: Outputs, labels: Outputs, group: NDArray[np.int64], groups: int) -> CohortMetrics:
        """See `LabelKind.cohort_metrics`."""
        centre = float(np.mean(labels))
        sums = np.stack([self.sums(outputs[group == i], labels[group == i], centre=centre) for i in range(groups)])
        return lambda weights: self.from_sums(np.tensordot(weights, sums, axes=(1, 0)))


@dataclass(frozen=True)
class ReportSection:
    """What a report says of predictions: verdict, tables and figures."""

    verdict: Verdict
    tables: list[Table]
    figures: list[Picture] = field(default_factory=list)
