"""One class a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from maekit.metrics.classification import classification_from_sums, classification_sums
from maekit.tasks.label_kinds.base import Outputs, SummedMetrics
from maekit.tasks.label_kinds.estimates import EstimateOutput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from maekit.data.sample import Source
    from maekit.report.content import Picture
    from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun
    from maekit.tasks.parts import LabelledData, Parts


class ClassLabels(SummedMetrics):
    """One of several named classes; a label is an index into their names.

    `output` of `Task.eval_step` are logits or log-probabilities (batch, classes).

    Args:
        classes: names, in the order of the label indices.
    """

    name = "classes"
    metric_names = ("accuracy", "balanced_accuracy")
    main_metrics = metric_names
    short_metrics = metric_names
    stratified = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @classmethod
    def fits(cls, source: Source) -> bool:
        """See `LabelKind.fits`."""
        return source.classes is not None and source.objects is None

    @classmethod
    def from_parts(cls, parts: Parts, options: Mapping[str, Any]) -> Self:
        """See `LabelKind.from_parts`."""
        del options
        return cls(parts.source.classes or ())

    @property
    def metric_titles(self) -> Mapping[str, str]:
        """See `LabelKind.metric_titles`."""
        return {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}

    def outputs(self, rows: Mapping[str, NDArray[Any]]) -> Outputs:
        """See `LabelKind.outputs`."""
        return rows["output"].argmax(1)

    def sums(self, outputs: Outputs, labels: Outputs, *, centre: float) -> NDArray[np.float64]:
        """See `LabelKind.sums`."""
        del centre
        return classification_sums(outputs.astype(np.int64), labels.astype(np.int64), len(self.classes))

    def from_sums(self, sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """See `LabelKind.from_sums`."""
        return classification_from_sums(sums)

    def constant(self, data: LabelledData) -> tuple[str, Outputs]:
        """See `LabelKind.constant`."""
        values, counts = np.unique(data.labels[data.split["train"]], return_counts=True)
        return "constant (most frequent class)", np.full(len(data.split["test"]), values[counts.argmax()])

    def figures(self, outputs: Outputs, labels: Outputs) -> list[Picture]:
        """The confusion matrix."""
        from maekit.report.figures import confusion

        counts = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        np.add.at(counts, (labels.astype(np.int64), outputs.astype(np.int64)), 1)
        return [confusion(counts, self.classes)]

    def make_recording_output(self, run: TrainedRun, options: PredictOptions) -> EstimateOutput:
        """See `LabelKind.make_recording_output`."""
        return EstimateOutput(run, options, names=("class", "probability"), classes=self.classes)

    def linear_model(self) -> Any:
        """See `LabelKind.linear_model`."""
        from sklearn.linear_model import RidgeClassifierCV

        return RidgeClassifierCV(np.logspace(-1, 5, 13))

    def neighbours_model(self, count: int) -> Any:
        """See `LabelKind.neighbours_model`."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(count, metric="cosine", weights="distance")
