"""One class a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maekit.tasks import metrics
from maekit.tasks.task import Batch, Rows
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maekit.core.autoencoder import Encoder


class Classification(Transfer):
    """Cross entropy over the pooled features.

    Args:
        front, encoder: as in `Transfer`.
        classes: their names, in the order of the label indices.
        smoothing: label smoothing.
        options: `tune`, `pooling`, `tuned_blocks` of `Transfer`.
    """

    def __init__(
        self, front: nn.Module, encoder: Encoder, *, classes: Sequence[str], smoothing: float = 0.0, **options: Any
    ) -> None:
        super().__init__(front, encoder, len(classes), **options)
        self.classes, self.smoothing = tuple(classes), smoothing

    def forward(self, batch: Batch) -> Tensor:
        output = self.output(batch["signal"], batch.get("valid"))
        return F.cross_entropy(output.float(), batch["label"], label_smoothing=self.smoothing)

    @torch.no_grad()
    def rows(self, batch: Batch) -> Rows:
        return {
            "index": batch["index"],
            "label": batch["label"],
            "output": self.output(batch["signal"], batch.get("valid")).float(),
        }

    def summarize(self, rows: Rows) -> dict[str, float]:
        loss = F.cross_entropy(rows["output"], rows["label"]).item()
        predicted = rows["output"].argmax(1)
        return {"loss": loss, **metrics.classification(predicted.numpy(), rows["label"].numpy())}

    def selection(self) -> Mapping[str, bool]:
        return {"accuracy": True, "balanced_accuracy": True, "loss": False}
