"""One value a sample, in the unit of the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from maekit.metrics.calibration import calibration
from maekit.tasks.bins import Bins
from maekit.tasks.label_kinds.values import WITHIN, ValueLabels
from maekit.tasks.readout import REACH, Distribution, Heteroscedastic, PointReadout, Readout, Spread
from maekit.tasks.transfer import SampleTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.core.encoders.base import Backbone
    from maekit.tasks.parts import Parts
    from maekit.tasks.task import EvalRows


class Regression(SampleTask):
    """A point estimate (smooth L1 on the label standardised by the training labels), one with its spread, or a distribution over bins.

    Args:
        front, encoder: as in `Transfer`.
        mean, std: of the training labels; the output is turned back into their unit.
        within: the metric `within` counts predictions closer than this to their label, in the label's unit.
        spread: also predict the standard deviation of each prediction, by the likelihood of this distribution.
        bins: instead, classify over this many equal bins of the label; 0: do not. See `Bins`. Or over `patches`, where the
            patches of the adapter stand for values of the label.
        bin_range: outer edges of the bins, in the label's unit; by default 4 standard deviations of the training labels
            around their mean, which may be too narrow where there are few of them.
        bin_smoothing: standard deviation by which a label is spread over bins, in its unit; by default three quarters
            of a bin (Farebrother et al., Stop Regressing, 2024, arXiv:2403.03950).
        bin_value: which statistic of the distribution is predicted.
        patch_values: values of the label that the patches stand for, one a patch.
        options: `tune`, `pooling`, `tuned_blocks` of `Transfer`.

    Raises:
        ValueError: fewer than two bins, bins together with a spread, or options of bins without bins.
    """

    label_kind = ValueLabels
    label_mean: Tensor
    label_std: Tensor

    def __init__(
        self,
        front: nn.Module,
        encoder: Backbone,
        *,
        mean: float,
        std: float,
        within: float = WITHIN,
        spread: Spread | None = None,
        bins: int | Literal["patches"] = 0,
        bin_range: tuple[float, float] | None = None,
        bin_smoothing: float | None = None,
        bin_value: Literal["expectation", "median"] = "expectation",
        patch_values: NDArray[np.float64] | None = None,
        **options: Any,
    ) -> None:
        readout: Readout
        if bins:
            if spread is not None:
                raise ValueError("`spread` is for a value by itself; bins have theirs from their distribution")
            low, high = bin_range or (mean - REACH * std, mean + REACH * std)
            if bins == "patches":
                edges, first = _edges_of_patches(patch_values, low, high)
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
            readout = PointReadout() if spread is None else Heteroscedastic(spread)
        super().__init__(front, encoder, readout.outputs, **options)
        self.readout, self.labels = readout, ValueLabels(within)
        self.register_buffer("label_mean", torch.tensor(mean))
        self.register_buffer("label_std", torch.tensor(std))

    @classmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """As of `Transfer`, with mean and standard deviation of the training labels; without the data both come with the weights."""
        labels = parts.training_labels().astype(np.float64)
        mean, std = (float(labels.mean()), float(labels.std()) or 1.0) if len(labels) else (0.0, 1.0)
        return super().build_arguments(parts) | {"mean": mean, "std": std, "patch_values": parts.patch_values()}

    @classmethod
    def reads_patches(cls, options: Mapping[str, Any]) -> bool:
        """See `Transfer.reads_patches`."""
        return options.get("bins") == "patches"

    @property
    def values(self) -> NDArray[np.float64] | None:
        """(value,) rising, in the unit of the label, over which each prediction is a distribution; None for a point estimate."""
        if not isinstance(self.readout, Distribution):
            return None
        return (self.readout.values().cpu().double() * self.label_std.item() + self.label_mean.item()).numpy()

    def losses(self, output: Float[Tensor, "batch out"], label: Tensor) -> Float[Tensor, "batch"]:
        """See `SampleTask.losses`."""
        return self.readout.loss(output, (label.float() - self.label_mean) / self.label_std)

    def predictions(self, output: Float[Tensor, "batch out"]) -> EvalRows:
        """Values, and with a spread or bins their uncertainty.

        Returns:
            `output` (batch,) in the unit of the label, `uncertainty`, its standard deviation, and `log_probability`
            (batch, value) of each of `values`.
        """
        rows = {"output": self.readout.value(output) * self.label_std + self.label_mean}
        if not isinstance(self.readout, Distribution):
            return rows
        std = self.readout.std(output) * self.label_std
        return rows | {"uncertainty": std, "log_probability": self.readout.log_probability(output)}

    def serve(self, signal: Tensor) -> Tensor:
        """Values in the unit of the label."""
        return self.predictions(self.output({"signal": signal}))["output"]

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """As of `Transfer`, and where there is an uncertainty how well it is calibrated."""
        metrics = super().compute_metrics(rows)
        if "uncertainty" in rows:
            metrics |= calibration((rows["output"] - rows["label"]).numpy(), rows["uncertainty"].numpy())
        return metrics


def _edges_of_patches(
    patch_values: NDArray[np.float64] | None, low: float, high: float
) -> tuple[NDArray[np.float64], int]:
    """Bin edges halfway between the patch values inside the range, and the index of the first patch inside."""
    if patch_values is None:
        raise ValueError(
            "bins: patches is for an adapter whose patches stand for values of the label; give a number of bins"
        )
    inside = np.flatnonzero((patch_values >= low) & (patch_values <= high))
    if len(inside) < 2:
        raise ValueError(
            f"bin_range {low:g} to {high:g} holds {len(inside)} patches of {patch_values[0]:g} to {patch_values[-1]:g}"
        )
    values = patch_values[inside]
    between = (values[1:] + values[:-1]) / 2
    return np.r_[2 * values[0] - between[0], between, 2 * values[-1] - between[-1]], int(inside[0])
