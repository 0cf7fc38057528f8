"""Pretraining on signals that belong together: masked autoencoding of all, momentum contrast between two, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maekit.core.joint import PRIMARY, JointAutoencoder
from maekit.core.patchify import zero_invalid
from maekit.metrics.collapse import effective_rank, embedding_std
from maekit.tasks.momentum import MomentumContrast, partner_rank
from maekit.tasks.pretraining import Pretraining, pass_details
from maekit.tasks.signals import sampled
from maekit.tasks.task import Batch, EvalRows, TaskOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.core.autoencoder import MAEOutput, MaskedAutoencoder
    from maekit.core.joint import SignalBatch

JOINT_PRED = ".pred"
"""Of a signal called NAME, `NAME.pred` is predicted from all signals."""
EMBEDDINGS = ("query", "key", "paired")
"""What `MomentumContrast.embeddings` gives."""


class JointPretraining(Pretraining):
    """`masked` times the mean loss of the joint masked autoencoder, and `contrast` times that of momentum contrast.

    Args:
        front: front end of the primary signal; those of the auxiliary ones are `fronts`.
        model: joint.
        masked: weight of the masked autoencoder; 0 leaves it out.
        contrast: weight of the contrast between the primary signal and the one called `key`; 0 leaves it out.
        key: an auxiliary signal; may be left out where there is only one.
        dim, queue, momentum, temperature, near: of `MomentumContrast`.

    Raises:
        ValueError: weights that leave nothing, or no such signal.
    """

    model: JointAutoencoder

    def __init__(
        self,
        front: nn.Module,
        model: JointAutoencoder,
        *,
        masked: float = 1.0,
        contrast: float = 0.0,
        key: str | None = None,
        dim: int = 128,
        queue: int = 4096,
        momentum: float = 0.999,
        temperature: float = 0.07,
        near: int = 0,
    ) -> None:
        super().__init__(front, model)
        if not isinstance(model, JointAutoencoder):
            raise ValueError("there are no `auxiliary` signals to pretrain together with")
        if min(masked, contrast) < 0 or not max(masked, contrast) > 0:
            raise ValueError(f"masked={masked}, contrast={contrast}: expected weights of 0 or more, and one above it")
        self.masked, self.weight = masked, contrast
        if not masked:  # what has no loss takes no steps
            model.decoder.requires_grad_(False)
            model.decoders.requires_grad_(False)
        self.contrast: MomentumContrast | None = None
        if contrast:
            names = list(model.encoder.auxiliary)
            if key is None and len(names) > 1:
                raise ValueError(f"`key` is not given; the auxiliary signals are {', '.join(names)}")
            self.contrast = MomentumContrast(
                model.encoder,
                key or names[0],
                dim=dim,
                queue=queue,
                momentum=momentum,
                temperature=temperature,
                near=near,
            )

    @property
    def autoencoder(self) -> MaskedAutoencoder | None:
        """None where the contrast alone is trained, and nothing is masked."""
        return self.model if self.masked else None

    @property
    def can_be_sharded(self) -> bool:
        """Not with a contrast: the momentum encoder needs whole weights in every process."""
        return self.contrast is None

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Pretraining.forward`."""
        batch = self.inputs(batch)
        signals = sampled(batch, self.fronts)
        total, details = torch.zeros((), device=batch["index"].device), dict[str, Tensor]()
        if self.masked:
            outputs = self.model.forward_signals(signals)
            total = total + self.masked * torch.stack([out.loss for out in outputs.values()]).mean()
            primary = signals[PRIMARY]
            details = pass_details(primary.x, primary.valid, outputs[PRIMARY]) | _joint_details(signals, outputs)
            details["embedding"] = outputs[PRIMARY].latent[:, 0].detach()
        if self.contrast is not None:
            loss, embeddings = self.contrast(self.model.encoder, signals, batch["index"])
            total, details = total + self.weight * loss, details | embeddings
        return TaskOutput(total, details)

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """As of `Pretraining`, with the losses of all signals when all are seen, and the two contrasted embeddings."""
        signals, details = sampled(self.inputs(batch), self.fronts), dict[str, Tensor]()
        if self.masked:
            primary = signals[PRIMARY]
            details = self.eval_details(primary.x, primary.valid, batch["noise"])
            details |= _joint_details(signals, self.model.forward_signals(signals))
        if self.contrast is not None:
            details |= self.contrast.embeddings(self.model.encoder, signals)
        return self.train_rows(batch, details)

    @torch.no_grad()
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """As of `Pretraining`; in training the primary signal too is reconstructed from all."""
        rows: EvalRows = super().train_rows(batch, details) if self.masked else {"index": batch["index"]}
        for name in [key.removesuffix(JOINT_PRED) for key in details if key.endswith(JOINT_PRED)]:
            x, valid, pred, mask = (details.get(f"{name}.{key}") for key in ("x", "valid", "pred", "mask"))
            assert x is not None and pred is not None and mask is not None  # noqa: PT018
            target = self.model.target_of(name)
            patches = zero_invalid(self.model.encoder.patchifier_of(name).patchify(x), valid)
            scored = self.model.loss_mask(mask, valid, target)
            errors = target.loss(pred, target(patches, valid))
            rows[f"sum.{name or 'own'}"] = torch.where(scored, errors, 0.0).sum(1)
            rows[f"count.{name or 'own'}"] = scored.sum(1).float()
        return rows | {name: details[name] for name in EMBEDDINGS if name in details}

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """`loss` and the trivial predictors are of the primary signal alone; `together_NAME` is the loss when all are seen.

        `partner_rank` is the rank of the other signal of the same sample among those of all samples by similarity, from 0 for
        the first, 0.5 by chance; `partner_first` is the share ranked first. Where nothing is masked, `loss` is the contrast's.
        """
        metrics = super().compute_metrics(rows) if self.masked else {}
        for name in [key.removeprefix("sum.") for key in rows if key.startswith("sum.")]:
            metrics[f"together_{name}"] = (rows[f"sum.{name}"].sum() / rows[f"count.{name}"].sum().clamp(min=1)).item()
        if self.contrast is not None and rows["paired"].sum() > 1:
            query, key = (rows[name][rows["paired"]] for name in ("query", "key"))
            metrics |= partner_rank(query, key, self.contrast.temperature)
            metrics |= {"embedding_std": embedding_std(query).item(), "effective_rank": effective_rank(query).item()}
        return metrics if "loss" in metrics else metrics | {"loss": metrics.get("loss_contrast", float("nan"))}


def _joint_details(signals: Mapping[str, SignalBatch], outputs: Mapping[str, MAEOutput]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, out in outputs.items()
        for key, value in pass_details(signals[name].x, signals[name].valid, out).items()
    }
