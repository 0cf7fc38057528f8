"""One value a sample, in the unit of the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maekit.metrics import scores as metrics
from maekit.metrics.calibration import calibration
from maekit.tasks.bins import Bins
from maekit.tasks.readout import REACH, Distribution, Heteroscedastic, Point, Readout, Spread
from maekit.tasks.task import Batch, EvalRows
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.core.encoders.base import Backbone


class Regression(Transfer):
    """A value by itself (smooth L1 on the label standardised by the training labels), with its spread, or over bins.

    Args:
        front, encoder: as in `Transfer`.
        mean, std: of the training labels; the output is turned back into their unit.
        within: a metric counts predictions closer than this to the label, in the label's unit.
        spread: also predict the standard deviation of each prediction, by the likelihood of this distribution.
        bins: instead, classify over so many equal bins of the label; 0 is not at all. See `Bins`. Or over `patches`, each of
            which speaks for the value that it stands for: of an adapter whose patches stand for values of the label.
        bin_range: their outer edges, in the label's unit; by default 4 standard deviations of the training labels around
            their mean, which may be too narrow where few of them were taken.
        bin_smoothing: standard deviation by which a label is spread over bins, in its unit; by default three quarters
            of a bin (Farebrother et al., Stop Regressing, 2024, arXiv:2403.03950).
        bin_value: what of the distribution is predicted.
        places: values that the patches stand for, of the adapter.
        options: `tune`, `pooling`, `tuned_blocks` of `Transfer`.

    Raises:
        ValueError: bins that are none, bins and a spread at once, or options of bins without bins.
    """

    label_mean: Tensor
    label_std: Tensor

    def __init__(
        self,
        front: nn.Module,
        encoder: Backbone,
        *,
        mean: float,
        std: float,
        within: float = 5.0,
        spread: Spread | None = None,
        bins: int | Literal["patches"] = 0,
        bin_range: tuple[float, float] | None = None,
        bin_smoothing: float | None = None,
        bin_value: Literal["expectation", "median"] = "expectation",
        places: NDArray[np.float64] | None = None,
        **options: Any,
    ) -> None:
        readout: Readout
        if bins:
            if spread is not None:
                raise ValueError("`spread` is for a value by itself; bins have theirs from their distribution")
            low, high = bin_range or (mean - REACH * std, mean + REACH * std)
            if bins == "patches":
                edges, first = _edges_of_patches(places, low, high)
            else:
                edges, first = np.linspace(low, high, bins + 1), None
            smoothing = bin_smoothing if bin_smoothing is not None else 0.75 * (high - low) / max(len(edges) - 1, 1)
            if len(edges) < 3 or not low < high or not smoothing > 0:
                raise ValueError(
                    f"bins={bins} over {low:g} to {high:g}, smoothed by {smoothing:g}: expected at least 2 bins, a range "
                    "that rises and a smoothing above 0"
                )
            scaled = torch.from_numpy((edges - mean) / std)
            readout = Bins(scaled, smoothing / std, median=bin_value == "median", first=first)
        elif bin_range is not None or bin_smoothing is not None:
            raise ValueError("`bin_range` and `bin_smoothing` are of no effect without `bins`")
        else:
            readout = Point() if spread is None else Heteroscedastic(spread)
        super().__init__(front, encoder, readout.outputs, **options)
        self.readout, self.within = readout, within
        self.register_buffer("label_mean", torch.tensor(mean))
        self.register_buffer("label_std", torch.tensor(std))

    @property
    def values(self) -> NDArray[np.float64] | None:
        """(value,) rising, in the unit of the label, over which each prediction is a distribution; None where it is one value."""
        if not isinstance(self.readout, Distribution):
            return None
        return (self.readout.values().cpu().double() * self.label_std.item() + self.label_mean.item()).numpy()

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.output(batch).float(), batch).mean()

    def predict(self, batch: Batch) -> Tensor:
        """(batch,) in the unit of the label."""
        return self.estimate(batch)["output"]

    def estimate(self, batch: Batch) -> EvalRows:
        """`output` (batch,) in the unit of the label; with a spread or bins `uncertainty`, its standard deviation, and
        `log_probability` (batch, value) of each of `values`.
        """
        return self._in_units(self.output(batch).float())

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """All of `estimate` is among them."""
        output = self.output(batch).float()
        rows = {"index": batch["index"], "label": batch["label"].float(), "loss": self._loss(output, batch)}
        return rows | self._in_units(output)

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Errors, and where there is an uncertainty what it is worth."""
        output, label = rows["output"].numpy(), rows["label"].numpy()
        found = {"loss": rows["loss"].mean().item(), **metrics.regression(output, label, self.within)}
        if "uncertainty" in rows:
            found |= calibration(output - label, rows["uncertainty"].numpy())
        return found

    def selection(self) -> Mapping[str, bool]:
        return {"mae": False, "rmse": False, "loss": False}

    def _loss(self, output: Tensor, batch: Batch) -> Tensor:
        return self.readout.loss(output, (batch["label"].float() - self.label_mean) / self.label_std)

    def _in_units(self, output: Tensor) -> EvalRows:
        found = {"output": self.readout.value(output) * self.label_std + self.label_mean}
        if not isinstance(self.readout, Distribution):
            return found
        std = self.readout.std(output) * self.label_std
        return found | {"uncertainty": std, "log_probability": self.readout.log_probability(output)}


def _edges_of_patches(places: NDArray[np.float64] | None, low: float, high: float) -> tuple[NDArray[np.float64], int]:
    """Edges halfway between the values that patches stand for, of those inside the range, and which patch is the first."""
    if places is None:
        raise ValueError(
            "bins: patches is for an adapter whose patches stand for values of the label; give a number of bins"
        )
    inside = np.flatnonzero((places >= low) & (places <= high))
    if len(inside) < 2:
        raise ValueError(
            f"bin_range {low:g} to {high:g} holds {len(inside)} patches of {places[0]:g} to {places[-1]:g}"
        )
    values = places[inside]
    between = (values[1:] + values[:-1]) / 2
    return np.r_[2 * values[0] - between[0], between, 2 * values[-1] - between[-1]], int(inside[0])
