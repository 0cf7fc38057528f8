"""Training a tokenizer whose codes are the target of a masked autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maekit.core.losses import squared_error
from maekit.core.patchify import zero_invalid
from maekit.core.targets.base import mean_patch
from maekit.core.tokenizer import FiniteScalarTokenizer
from maekit.tasks.signals import standardised
from maekit.tasks.task import Batch, EvalRows, Task, TaskOutput
from maekit.tasks.verdict import Verdict, pretraining_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maekit.tasks.parts import Parts


class Tokenizing(Task):
    """Reconstruction through discrete codes, with the mean patch beside it, and how much of the vocabulary is in use.

    Args:
        front: signal to standardised samples and patch validity; its `patchifier` is the tokenizer's.
        levels, width, depth, heads: of `FiniteScalarTokenizer`.
    """

    def __init__(
        self, front: nn.Module, *, levels: Sequence[int] = (8, 8, 8), width: int = 256, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.front = front
        self.tokenizer = FiniteScalarTokenizer(
            front.patchifier,  # type: ignore[arg-type]
            levels=levels,
            width=width,
            depth=depth,
            heads=heads,
        )

    @classmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """The front end."""
        return {"front": parts.make_front()}

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> Verdict:
        """The loss beside that of the mean patch, and how much of the vocabulary is in use."""
        text, good = pretraining_verdict(rows)
        last = next((row for row in reversed(rows) if "codes_used" in row), None)
        if last is not None:
            used, of = last["codes_used"], self.tokenizer.vocabulary
            text += f" {used:.0f} of {of} codes in use (perplexity {last['perplexity']:.0f})."
        return Verdict(text, good)

    def inputs(self, batch: Batch) -> Batch:
        """See `Task.inputs`: standardised signals."""
        return standardised(batch, self.front, self.fronts)

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Task.forward`."""
        batch = self.inputs(batch)
        x, valid = batch["x"], batch.get("measured")
        out = self.tokenizer(x, valid)
        measured = torch.ones_like(out.codes, dtype=torch.bool) if valid is None else valid
        return TaskOutput(out.loss, {"x": x, "measured": measured, "pred": out.pred.detach(), "codes": out.codes})

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """Squared error of each sample, that of its mean patch, and how often each code stands in it."""
        return self.train_rows(batch, self(batch).details)

    @torch.no_grad()
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """See `Task.train_rows`."""
        measured = details["measured"]
        patches = zero_invalid(self.tokenizer.patchifier.patchify(details["x"]), measured)
        guesses = {"loss": details["pred"], "loss_mean_patch": mean_patch(patches, measured)}
        return {
            "index": batch["index"],
            "measured": measured.sum(1).float(),
            "codes": torch.where(measured, details["codes"], -1),
            **{name: _squared_error(guess, patches, measured) for name, guess in guesses.items()},
        }

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Losses as means over measured patches; `codes_used` of the vocabulary; `perplexity`, exp of the codes' entropy."""
        measured = rows["measured"].sum().clamp(min=1)
        codes = rows["codes"][rows["codes"] >= 0]
        share = torch.bincount(codes, minlength=self.tokenizer.vocabulary).double() / max(len(codes), 1)
        return {
            "loss": (rows["loss"].sum() / measured).item(),
            "loss_mean_patch": (rows["loss_mean_patch"].sum() / measured).item(),
            "codes_used": float((share > 0).sum()),
            "perplexity": torch.special.entr(share).sum().exp().item(),
        }

    @property
    def blocks(self) -> list[nn.Module]:
        """See `Task.blocks`."""
        return [*self.tokenizer.encoder, *self.tokenizer.decoder]


def _squared_error(pred: Tensor, patches: Tensor, measured: Tensor) -> Tensor:
    return torch.where(measured, squared_error(pred, patches), 0.0).sum(1)
