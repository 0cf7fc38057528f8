"""Masked autoencoding as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maekit.core.patchify import zero_invalid
from maekit.metrics import trivial
from maekit.metrics.collapse import effective_rank, embedding_std
from maekit.tasks.mix import checked_share, refuse_auxiliary
from maekit.tasks.signals import standardised
from maekit.tasks.task import Batch, EvalRows, Task, TaskOutput
from maekit.tasks.verdict import Verdict, pretraining_verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from maekit.core.autoencoder import MAEOutput, MaskedAutoencoder
    from maekit.core.encoders.base import Backbone
    from maekit.tasks.parts import Parts


class Pretraining(Task):
    """The loss of a masked autoencoder, with that of two trivial predictors and a collapse monitor beside it.

    Args:
        front: signal to standardised samples and patch validity.
        model: the masked autoencoder.
        mix: augmentation: share of training samples that another of the batch is laid over; see `maekit.tasks.mix`.
    """

    has_autoencoder = True

    def __init__(self, front: nn.Module, model: MaskedAutoencoder, *, mix: float = 0.0) -> None:
        super().__init__()
        self.front, self.model, self.mix = front, model, checked_share(mix)

    @classmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """Front end and masked autoencoder."""
        return {"front": parts.make_front(), "model": parts.make_autoencoder()}

    @property
    def encoder(self) -> Backbone:
        """See `Task.encoder`."""
        return self.model.encoder

    @property
    def autoencoder(self) -> MaskedAutoencoder | None:
        """See `Task.autoencoder`."""
        return self.model

    def fit(self, patches: Iterable[Tensor]) -> None:
        """Fit the target, where it is learned from patches."""
        self.model.target.fit(patches)

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> Verdict:
        """The loss beside that of trivial predictors."""
        return pretraining_verdict(rows, self.model.target.average_of)

    def check_auxiliary(self, others: Collection[str]) -> None:
        """Refuse `mix`, which would change the sample alone."""
        refuse_auxiliary(self.mix, others)

    def inputs(self, batch: Batch) -> Batch:
        """See `Task.inputs`: standardised signals, in training some of them laid over each other."""
        return standardised(batch, self.front, self.fronts, mix=self.mix if self.training else 0.0)

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Task.forward`."""
        batch = self.inputs(batch)
        x, valid = batch["x"], batch.get("measured")
        out = self.model(x, valid=valid, noise=batch["noise"])
        return TaskOutput(out.loss, {"embedding": out.latent[:, 0].detach(), **pass_details(x, valid, out)})

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """Loss of each sample, of trivial predictors on the same patches, and its embedding, for which nothing is masked."""
        x, valid = self.front(batch["signal"], batch.get("valid"))
        return self.train_rows(batch, self.eval_details(x, valid, batch["noise"]))

    def eval_details(self, x: Tensor, valid: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        """The details of an evaluation pass, whose embedding is that of all patches."""
        out = self.model(x, valid=valid, noise=noise)
        return {"embedding": self.model.encoder(x, valid)[:, 0], **pass_details(x, valid, out)}

    @torch.no_grad()
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """See `Task.train_rows`; in training the embedding is that of the visible patches.

        The mean patch can be predicted for any target; interpolation only where a target has the shape of a patch.
        """
        x, valid, pred, mask = details["x"], details.get("valid"), details["pred"], details["mask"]
        patches = zero_invalid(self.model.patchifier.patchify(x), valid)
        target = self.model.target
        defined = target.loss_mask(valid)
        visible = ~mask if defined is None else ~mask & defined
        truth, scored = target(patches, valid), self.model.loss_mask(mask, valid)
        guesses = {"loss": pred, "loss_mean_patch": target.average(truth, visible)}
        if truth.shape == patches.shape:
            guesses["loss_interpolation"] = trivial.interpolation(self.model.patchifier, truth, visible)
        losses = {name: target.loss(guess, truth) for name, guess in guesses.items()}
        return {
            "index": batch["index"],
            "embedding": details["embedding"].float(),
            "scored": scored.sum(1).float(),
            **{name: torch.where(scored, loss, 0.0).sum(1) for name, loss in losses.items()},
        }

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Losses as means over the patches of the loss, and the collapse monitor over all embeddings."""
        scored = rows["scored"].sum().clamp(min=1)
        metrics = {name: (rows[name].sum() / scored).item() for name in rows if name.startswith("loss")}
        if len(rows["embedding"]) > 1:
            metrics["embedding_std"] = embedding_std(rows["embedding"]).item()
            metrics["effective_rank"] = effective_rank(rows["embedding"]).item()
        return metrics

    @property
    def blocks(self) -> list[nn.Module]:
        """See `Task.blocks`."""
        return [*self.model.encoder.blocks, *self.model.decoder.blocks]


def pass_details(x: Tensor, valid: Tensor | None, out: MAEOutput) -> dict[str, Tensor]:
    """What `Pretraining.train_rows` needs of a pass of a masked autoencoder; `valid` only where something is invalid."""
    details = {"x": x, "pred": out.pred.detach(), "mask": out.mask}
    return details if valid is None else details | {"valid": valid}
