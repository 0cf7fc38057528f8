"""One value a sample, in the unit of the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maekit.tasks import metrics
from maekit.tasks.task import Batch, Rows
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.core.backbone import Backbone


class Regression(Transfer):
    """Smooth L1 (Huber) on the label standardised by the training labels.

    Args:
        front, encoder: as in `Transfer`.
        mean, std: of the training labels; the output is turned back into their unit.
        within: a metric counts predictions closer than this to the label, in the label's unit.
        options: `tune`, `pooling`, `tuned_blocks` of `Transfer`.
    """

    label_mean: Tensor
    label_std: Tensor

    def __init__(
        self, front: nn.Module, encoder: Backbone, *, mean: float, std: float, within: float = 5.0, **options: Any
    ) -> None:
        super().__init__(front, encoder, 1, **options)
        self.within = within
        self.register_buffer("label_mean", torch.tensor(mean))
        self.register_buffer("label_std", torch.tensor(std))

    def forward(self, batch: Batch) -> Tensor:
        label = batch["label"].float()
        output = self.output(batch)[:, 0].float()
        return F.smooth_l1_loss(output, (label - self.label_mean) / self.label_std)

    def predict(self, batch: Batch) -> Tensor:
        """(batch,) in the unit of the label."""
        output = self.output(batch)[:, 0].float()
        return output * self.label_std + self.label_mean

    @torch.no_grad()
    def rows(self, batch: Batch) -> Rows:
        return {"index": batch["index"], "label": batch["label"].float(), "output": self.predict(batch)}

    def summarize(self, rows: Rows) -> dict[str, float]:
        scaled = (rows["output"] - rows["label"]) / self.label_std.cpu()
        loss = F.smooth_l1_loss(scaled, torch.zeros_like(scaled)).item()
        return {"loss": loss, **metrics.regression(rows["output"].numpy(), rows["label"].numpy(), self.within)}

    def selection(self) -> Mapping[str, bool]:
        return {"mae": False, "rmse": False, "loss": False}
