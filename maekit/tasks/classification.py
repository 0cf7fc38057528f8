"""One class a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maekit.metrics.classification import classification
from maekit.tasks.label_kinds.classes import ClassLabels
from maekit.tasks.mixing import Mixing
from maekit.tasks.task import Batch, EvalRows, TaskOutput
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.core.encoders.base import Backbone


class Classification(Transfer):
    """Cross entropy of a linear layer on the pooled features.

    Args:
        front, encoder: as in `Transfer`.
        classes: their names, in the order of the label indices.
        smoothing: label smoothing.
        mixup, cutmix: parameters of the beta distributions that the mixing ratio is drawn from; 0: never.
        mixup_prob: share of batches that are mixed at all.
        switch_prob: share of the mixed ones that take CutMix, where both are used.
        options: `tune`, `pooling`, `tuned_blocks` of `Transfer`.
    """

    label_kind = ClassLabels
    is_linear_classifier = True

    def __init__(
        self,
        front: nn.Module,
        encoder: Backbone,
        *,
        classes: Sequence[str],
        smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mixup_prob: float = 1.0,
        switch_prob: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(front, encoder, len(classes), **options)
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing={smoothing}, expected 0 or more and less than 1")
        self.labels = ClassLabels(classes)
        self.classes, self.smoothing = tuple(classes), smoothing
        self.mixing = None
        if mixup or cutmix:
            self.mixing = Mixing(
                encoder.patchifier.sample_shape,
                len(classes),
                mixup=mixup,
                cutmix=cutmix,
                prob=mixup_prob,
                switch_prob=switch_prob,
                smoothing=smoothing,
            )

    def inputs(self, batch: Batch) -> Batch:
        """See `Task.inputs`: standardised signals, in training mixed, then with soft labels as `target`."""
        found = super().inputs(batch)
        if self.mixing is None or not self.training or "target" in found:
            return found
        x, measured, target = self.mixing(found["x"], found.get("measured"), found["label"])
        return found | {"x": x, "target": target} | ({} if measured is None else {"measured": measured})

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Task.forward`."""
        batch = self.inputs(batch)
        if (target := batch.get("target")) is None:
            output = self.output(batch).float()
            loss = F.cross_entropy(output, batch["label"], label_smoothing=self.smoothing)
            return TaskOutput(loss, {"output": output.detach()})
        output = self.head(self.norm(self.features(batch["x"], batch.get("measured")))).float()
        details = {"output": output.detach(), "label": target.argmax(1)}
        return TaskOutput(F.cross_entropy(output, target), details)

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """`output`: logits (batch, classes)."""
        return self.train_rows(batch, {"output": self.output(batch).float()})

    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """See `Task.train_rows`; the class of a mixture is that of its larger part."""
        rows = {"index": batch["index"][: len(details["output"])]}
        return rows | ({"label": batch["label"]} if "label" in batch else {}) | details

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Loss without smoothing, accuracy, and with more than five classes top-5 accuracy."""
        output, label = rows["output"], rows["label"]
        metrics = {
            "loss": F.cross_entropy(output, label).item(),
            **classification(output.argmax(1).numpy(), label.numpy()),
        }
        if len(self.classes) > 5:
            metrics["top5"] = (output.topk(5).indices == label[:, None]).any(1).float().mean().item()
        return metrics
