"""Any number of objects a sample, each at a place on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maekit.config.data_spec import OBJECT_CLASS, OBJECT_EXTENT
from maekit.errors import UserError
from maekit.metrics.average_precision import Matches, match, precision_and_recall
from maekit.metrics.similarity import similarity_of
from maekit.tasks.label_kinds import object_baselines
from maekit.tasks.label_kinds.base import CohortMetrics, LabelKind, Outputs, ReportSection
from maekit.tasks.label_kinds.detections import DetectionOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.data.sample import Source
    from maekit.metrics.plane import Plane
    from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun
    from maekit.tasks.parts import LabelledData, Parts


class ObjectLabels(LabelKind):
    """Tables of objects with coordinates on a plane, and where they have them classes, lengths and extents of boxes.

    `detections` of `Task.eval_step` are (batch, detection, column): both coordinates, with boxes both extents, class, score; the
    highest score first and NaN where there are fewer.

    Args:
        plane: coordinates of the cells.
        columns: of a label: the names of both axes, `class` where there are classes, `AXIS_extent` where boxes are used.
        classes: names; None where all objects are of one class.
        kappa: of each class, for object location similarity; see `maekit.metrics.similarity`.
        boxes: compare the overlap of boxes instead of locations; then no `kappa` is needed.

    Raises:
        ValueError: columns or numbers that do not go with the classes and the plane.
    """

    name = "objects"
    metric_names = ("ap", "ar", "ap50", "ap_counted", "ar_counted")
    main_metrics = ("ap", "ar")
    short_metrics = ("ap", "ap50", "ar")
    has_learned_baselines = True
    draws = 500  # each sorts and counts all detections anew

    def __init__(
        self,
        plane: Plane,
        columns: Sequence[str],
        classes: Sequence[str] | None,
        *,
        kappa: Sequence[float] | None = None,
        boxes: bool = False,
    ) -> None:
        self.plane, self.columns, self.boxes = plane, tuple(columns), boxes
        self.named = classes is not None
        self.classes = tuple(classes or ("object",))
        required = [*self.coordinate_columns, *([OBJECT_CLASS] if self.named else [])]
        missing = [column for column in required if column not in self.columns]
        if missing:
            raise ValueError(
                f"objects have no column {', '.join(missing)}: `label.objects` names {', '.join(self.columns)}"
            )
        check_per_class("kappa", kappa, self.classes)
        self.similarity = similarity_of(plane, kappa, boxes)

    @property
    def coordinate_columns(self) -> list[str]:
        """Columns of a label that a detection predicts: both coordinates, and with boxes both extents."""
        return [*self.plane.axes, *(f"{axis}{OBJECT_EXTENT}" for axis in self.plane.axes if self.boxes)]

    @classmethod
    def fits(cls, source: Source) -> bool:
        """See `LabelKind.fits`."""
        return source.objects is not None

    @classmethod
    def from_parts(cls, parts: Parts, options: Mapping[str, Any]) -> Self:
        """See `LabelKind.from_parts`."""
        source = parts.source
        kappa, boxes = options.get("kappa"), bool(options.get("boxes", False))
        return cls(parts.plane(), source.objects or (), source.classes, kappa=kappa, boxes=boxes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """See `LabelKind.metrics`."""
        return (*self.metric_names, *(f"ap_{name}" for name in self.classes if self.named))

    @property
    def metric_titles(self) -> Mapping[str, str]:
        """See `LabelKind.metric_titles`."""
        return {"ap": "Average precision", "ar": "Average recall"}

    def check(self, data: LabelledData) -> None:
        """Refuse training objects of which none lies on the plane: bins in place of coordinates, another unit or origin.

        Raises:
            UserError: no training object lies on the plane.
        """
        train = data.split["train"]
        if not len(train):
            return
        table = torch.as_tensor(np.asarray(data.labels[train], dtype=np.float64))
        where = table[..., [self.columns.index(axis) for axis in self.plane.axes]].reshape(-1, 2)
        where = where[where.isfinite().all(-1)]
        if not len(where) or self.plane.within(self.plane.cells(where)).any():
            return
        axes = self.plane.axes
        ranges = zip(axes, where.amin(0).tolist(), where.amax(0).tolist(), strict=True)
        cells = zip(axes, self.plane.coordinates, strict=True)
        expected = ", ".join(f"{axis} {float(c[0]):.4g} to {float(c[-1]):.4g}" for axis, c in cells)
        raise UserError(
            "no object of the training split lies on the map",
            location=f"data spec {data.spec.name}: label.objects",
            value=", ".join(f"{axis} {low:.4g} to {high:.4g}" for axis, low, high in ranges),
            expected=f"coordinates as `signal.steps` gives them: {expected}",
            hint="Convert the objects to these units (`maekit data check` shows both), or correct `start`, `step` and `unit`.",
        )

    def outputs(self, rows: Mapping[str, NDArray[Any]]) -> Outputs:
        """See `LabelKind.outputs`."""
        return present(rows["detections"])

    def on_plane(self, label: Float[Tensor, "... object column"]) -> Float[Tensor, "... object field"]:
        """Labels in the columns of detections, without the score: coordinates, extents, class; NaN outside of the plane."""
        # Stacked, since a list as an index would be copied to the device.
        columns = torch.stack([label[..., self.columns.index(name)] for name in self.coordinate_columns], -1)
        inside = self.plane.within(self.plane.cells(columns[..., :2]))
        return torch.where(inside[..., None], torch.cat([columns, self.classes_of(label)[..., None]], -1), torch.nan)

    def classes_of(self, label: Float[Tensor, "... object column"]) -> Float[Tensor, "... object"]:
        """Class index of each object of a label; 0 where they are all of one class."""
        if OBJECT_CLASS in self.columns:
            return label[..., self.columns.index(OBJECT_CLASS)]
        return torch.zeros_like(label[..., 0])

    def truth(self, data: LabelledData, indices: NDArray[np.int64]) -> Outputs:
        """See `LabelKind.truth`."""
        table = torch.from_numpy(np.asarray(data.labels[indices], dtype=np.float64))
        return present(self.on_plane(table).numpy())

    def from_json(self, values: list[Any]) -> Outputs:
        """See `LabelKind.from_json`."""
        return [np.array(rows, dtype=np.float64) for rows in values]

    def match(self, outputs: Outputs, labels: Outputs, group: NDArray[np.int64], groups: int) -> Matches:
        """Detections matched with true objects; see `maekit.metrics.average_precision.match`."""
        return match(outputs, labels, group, groups, len(self.classes), self.similarity)

    def cohort_metrics(self, outputs: Outputs, labels: Outputs, group: NDArray[np.int64], groups: int) -> CohortMetrics:
        """See `LabelKind.cohort_metrics`."""
        matches = self.match(outputs, labels, group, groups)

        def metrics(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            rows = [precision_and_recall(matches, weight, self.classes) for weight in weights]
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}

        return metrics

    def report(
        self, data: LabelledData, rows: Mapping[str, NDArray[Any]], metrics: Mapping[str, float], side: str
    ) -> ReportSection:
        """Metrics of each class, precision-recall curves and some samples; detectors without learning are left to studies."""
        from maekit.tasks.label_kinds.object_report import object_report

        return object_report(self, data, rows, metrics, side)

    def make_recording_output(self, run: TrainedRun, options: PredictOptions) -> DetectionOutput:
        """See `LabelKind.make_recording_output`."""
        return DetectionOutput(run, options, self)

    def constant(self, data: LabelledData) -> tuple[str, Outputs]:
        """See `LabelKind.constant`."""
        always = object_baselines.constant(self, data)
        return "constant (where objects were in training)", [always] * len(data.split["test"])

    def baselines(self, data: LabelledData) -> dict[str, Outputs]:
        """The adapter's detectors."""
        detectors = data.adapter.detectors()
        return {name: object_baselines.detect(self, data, one, "test") for name, one in detectors.items()}

    def learned_baselines(self, data: LabelledData) -> dict[str, Outputs]:
        """The adapter's detectors, with a logistic regression that tells classes and clutter apart."""
        return {
            f"{name}, logistic regression": object_baselines.detect_and_classify(self, data, one, "test")
            for name, one in data.adapter.detectors().items()
        }


def check_per_class(name: str, values: Sequence[float] | None, classes: Sequence[str]) -> None:
    """Refuse an option that does not have one positive number for each class.

    Raises:
        ValueError: as said.
    """
    if values is not None and (len(values) != len(classes) or not min(values) > 0):
        raise ValueError(f"{name}={list(values)}, expected one number above 0 for each of {', '.join(classes)}")


def present(tables: NDArray[Any]) -> list[NDArray[Any]]:
    """Of (sample, object, column) the table of each sample without the rows of NaN."""
    return [table[np.isfinite(table).all(-1)] for table in tables]
