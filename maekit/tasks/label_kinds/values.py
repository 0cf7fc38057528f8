"""One value a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from maekit.metrics.regression import regression_from_sums, regression_sums
from maekit.tasks.label_kinds.base import Outputs, SummedMetrics
from maekit.tasks.label_kinds.value_estimates import ValueOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.data.sample import Source
    from maekit.report.content import Picture
    from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun
    from maekit.tasks.parts import LabelledData, Parts

WITHIN = 5.0


class ValueLabels(SummedMetrics):
    """A number, in the unit of the label.

    `output` of `Task.eval_step` are values (batch,); `uncertainty`, where a task gives it, their standard deviations.

    Args:
        within: the metric `within` counts predictions closer than this to their label, in the label's unit.
        unit: of the label.
    """

    name = "values"
    metric_names = ("mae", "rmse", "mape", "within", "r", "bias", "lower", "upper")
    lower_is_better = frozenset({"mae", "rmse", "mape", "mae_certain_half", "aurc", "sure_half_mae"})
    main_metrics = ("mae", "within")
    short_metrics = ("mae", "rmse", "within", "r")
    is_continuous = True

    def __init__(self, within: float = WITHIN, unit: str = "") -> None:
        self.within, self.unit = within, unit

    @classmethod
    def fits(cls, source: Source) -> bool:
        """See `LabelKind.fits`."""
        return source.classes is None and source.objects is None

    @classmethod
    def from_parts(cls, parts: Parts, options: Mapping[str, Any]) -> Self:
        """See `LabelKind.from_parts`."""
        label = parts.spec.label
        return cls(float(options.get("within", WITHIN)), label.unit if label else "")

    @property
    def metric_titles(self) -> Mapping[str, str]:
        """See `LabelKind.metric_titles`."""
        unit = f" {self.unit}" if self.unit else ""
        return {"mae": "Mean absolute error", "within": f"Share within {self.within:g}{unit}"}

    def unit_of(self, metric: str) -> str:
        """See `LabelKind.unit_of`."""
        return self.unit if metric in ("mae", "rmse", "bias", "lower", "upper") else ""

    def outputs(self, rows: Mapping[str, NDArray[Any]]) -> Outputs:
        """See `LabelKind.outputs`."""
        return rows["output"]

    def fill(self, outputs: Outputs, instead: Outputs) -> Outputs:
        """See `LabelKind.fill`."""
        return np.where(np.isfinite(outputs), outputs, instead)

    def sums(self, outputs: Outputs, labels: Outputs, *, centre: float) -> NDArray[np.float64]:
        """See `LabelKind.sums`."""
        return regression_sums(outputs, labels, self.within, centre=centre)

    def from_sums(self, sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """See `LabelKind.from_sums`."""
        return regression_from_sums(sums)

    def constant(self, data: LabelledData) -> tuple[str, Outputs]:
        """See `LabelKind.constant`."""
        median = float(np.median(data.labels[data.split["train"]]))
        return "constant (median of training)", np.full(len(data.split["test"]), median)

    def baselines(self, data: LabelledData) -> dict[str, Outputs]:
        """The adapter's estimators; NaN where one has no estimate."""
        return {
            name: np.array([estimate(data.source[int(i)]) for i in data.split["test"]], dtype=np.float64)
            for name, estimate in data.adapter.estimators().items()
        }

    def figures(self, outputs: Outputs, labels: Outputs) -> list[Picture]:
        """Prediction against label, and their differences."""
        from maekit.report.figures import agreement

        return [agreement(outputs, labels, self.unit)]

    def make_recording_output(self, run: TrainedRun, options: PredictOptions) -> ValueOutput:
        """See `LabelKind.make_recording_output`."""
        return ValueOutput(run, options, unit=self.unit)

    @property
    def assumed_std(self) -> float:
        """See `LabelKind.assumed_std`."""
        return self.within / 2

    def linear_model(self) -> Any:
        """See `LabelKind.linear_model`."""
        from sklearn.linear_model import RidgeCV

        return RidgeCV(np.logspace(-1, 5, 13))

    def neighbours_model(self, count: int) -> Any:
        """See `LabelKind.neighbours_model`."""
        from sklearn.neighbors import KNeighborsRegressor

        return KNeighborsRegressor(count, metric="cosine", weights="distance")
