"""A pretrained encoder under a new head: frozen, its last blocks, or all of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.joint import PRIMARY, JointEncoder, SignalBatch
from maekit.core.losses import masked_mean
from maekit.tasks.shared_norm import SharedBatchNorm
from maekit.tasks.signals import sampled, standardised
from maekit.tasks.task import Batch, EvalRows, Task, TaskOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from maekit.core.encoders.base import Backbone
    from maekit.tasks.label_kinds.base import LabelKind
    from maekit.tasks.parts import Parts

Tune = Literal["frozen", "partial", "full"]
Pooling = Literal["mean", "class"]
UNDECAYED = ("cls_token", "pos_embed", "kind")


class Transfer(Task):
    """Base class of tasks with labels: pooling, a linear head, and which parameters train.

    As in the MAE paper: `full` and `partial` put a linear layer on the class token after the encoder's last norm, or on
    the mean of the patches after a norm of its own, which replaces the encoder's; `frozen` is a linear probe, with a
    BatchNorm without affine parameters (over the batch of all processes) before the linear layer.

    A subclass declares `label_kind`, sets `labels` in its constructor, and implements `losses` and `predictions`.

    Args:
        front: signal to standardised samples.
        encoder: pretrained or not.
        outputs: numbers that the head gives for a sample; None: `each` numbers for every patch, and nothing is pooled.
        each: numbers for every patch, where `outputs` is None.
        tune: what trains: `frozen` the head alone, `partial` also the last `tuned_blocks` blocks, `full` all.
        pooling: `mean` of the valid patch tokens, or the `class` token.
        tuned_blocks: with `partial`; a half is the MLP of the block before, as in the paper.
        head_std: standard deviation of the head's initial weights.

    Attributes:
        labels: the label kind, with what it knows of the data.
    """

    needs_labels = True
    encoder: Backbone
    labels: LabelKind

    def __init__(
        self,
        front: nn.Module,
        encoder: Backbone,
        outputs: int | None,
        each: int = 1,
        *,
        tune: Tune = "full",
        pooling: Pooling = "mean",
        tuned_blocks: float = 4,
        head_std: float = 2e-5,
    ) -> None:
        super().__init__()
        depth = len(encoder.blocks)
        if tune == "partial" and not (0 <= tuned_blocks <= depth and 2 * tuned_blocks % 1 == 0):
            raise ValueError(
                f"tuned_blocks={tuned_blocks}, expected 0 to the {depth} blocks of the encoder, in halves: the half of a "
                "block is its MLP"
            )
        self.front, self.encoder, self.tune, self.pooling = front, encoder, tune, pooling
        width = encoder.width
        self.norm: nn.Module
        if tune == "frozen":
            self.norm = SharedBatchNorm(width)
            head_std = 0.01
        elif pooling == "mean" or outputs is None:
            self.norm = nn.LayerNorm(width, eps=1e-6)
            encoder.norm = nn.Identity()
        else:
            self.norm = nn.Identity()
        self.each_patch = outputs is None
        encoder.blocks.update_all = self.each_patch
        self.head = nn.Linear(width, outputs or each)
        nn.init.trunc_normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)
        encoder.requires_grad_(False)
        if tune == "full":
            encoder.requires_grad_(True)
        elif tune == "partial":
            whole = int(tuned_blocks)
            for block in encoder.blocks[depth - whole :]:
                block.requires_grad_(True)
            if tuned_blocks % 1:
                from timm.models.vision_transformer import Block

                half = encoder.blocks[depth - whole - 1]
                if not isinstance(half, Block):
                    raise ValueError(f"tuned_blocks={tuned_blocks}: halves are of a transformer's blocks")
                half.norm2.requires_grad_(True)
                half.mlp.requires_grad_(True)
            for name in encoder.output_modules:
                encoder.get_submodule(name).requires_grad_(True)

    @classmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """Front end and encoder, and class names where the labels have some."""
        arguments: dict[str, Any] = {"front": parts.make_front(), "encoder": parts.make_encoder()}
        return arguments if parts.source.classes is None else arguments | {"classes": parts.source.classes}

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """The mean loss, and the metrics of the label kind."""
        arrays = {name: values.numpy() for name, values in rows.items()}
        return {"loss": rows["loss"].mean().item(), **self.labels.score(self.labels.outputs(arrays), arrays["label"])}

    def serve(self, signal: Tensor) -> Tensor:
        """Output of the head."""
        return self.output({"signal": signal})

    def train(self, mode: bool = True) -> Transfer:
        """Set training mode; a frozen encoder stays in evaluation mode, so that it has no stochastic depth."""
        super().train(mode)
        if self.tune == "frozen":
            self.encoder.eval()
        return self

    def features(
        self, x: Float[Tensor, "batch *sample"], measured: Bool[Tensor, "batch patch"] | None
    ) -> Float[Tensor, "batch width"]:
        """Pooled features of standardised samples; nothing is masked."""
        with self._gradients():
            return pool(self.encoder(x, measured), measured, self.pooling)

    def tokens(self, signals: Mapping[str, SignalBatch]) -> Float[Tensor, "batch token width"]:
        """Tokens of the sample, encoded together with its auxiliary signals.

        Args:
            signals: standardised, as `sampled` gives them.
        """
        with self._gradients():
            if not self.fronts:
                return self.encoder(signals[PRIMARY].x, signals[PRIMARY].valid)
            assert isinstance(self.encoder, JointEncoder)
            return self.encoder.encode_signals(signals)[PRIMARY]

    def output(self, batch: Batch) -> Float[Tensor, "batch out"]:
        """Output of the head for a batch of prepared signals, or for the `inputs` of one."""
        return self.head_output(self.signals(batch))

    def signals(self, batch: Batch) -> dict[str, SignalBatch]:
        """Every signal of a batch of prepared signals, or of the `inputs` of one, standardised."""
        return sampled(standardised(batch, self.front, self.fronts), self.fronts)

    def inputs(self, batch: Batch) -> Batch:
        """See `Task.inputs`: standardised signals."""
        return standardised(batch, self.front, self.fronts)

    def head_output(self, signals: Mapping[str, SignalBatch]) -> Float[Tensor, "batch out"]:
        """Output of the head for standardised signals; where patches are not pooled, `each` numbers a patch in a row."""
        tokens = self.tokens(signals)
        if not self.each_patch:
            return self.head(self.norm(pool(tokens, signals[PRIMARY].valid, self.pooling)))
        patches = self.head(self.norm(rearrange(tokens[:, 1:], "batch patch width -> (batch patch) width")))
        return rearrange(patches, "(batch patch) each -> batch (patch each)", batch=len(tokens))

    def _gradients(self) -> AbstractContextManager[None]:
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != "frozen")

    @property
    def blocks(self) -> list[nn.Module]:
        """See `Task.blocks`."""
        return list(self.encoder.blocks)

    def depth_of(self, name: str) -> int | None:
        """See `Task.depth_of`."""
        parts = name.split(".")
        if parts[0] != "encoder" or parts[1] in self.encoder.output_modules:
            return None
        return int(parts[2]) + 1 if parts[1] == "blocks" else 0

    def no_weight_decay(self) -> frozenset[str]:
        """See `Task.no_weight_decay`."""
        tables = [name for name, _ in self.encoder.named_parameters() if name.rpartition(".")[2] in UNDECAYED]
        return frozenset(f"encoder.{name}" for name in tables)


class SampleTask(Transfer):
    """A task whose head gives one prediction a sample: a subclass says what it means and what it costs.

    Args:
        front, encoder, outputs, options: as of `Transfer`.
    """

    @abstractmethod
    def losses(self, output: Float[Tensor, "batch out"], label: Tensor) -> Float[Tensor, "batch"]:
        """Loss of each sample.

        Args:
            output: of the head, float32.
            label: as the data source has it.
        """

    @abstractmethod
    def predictions(self, output: Float[Tensor, "batch out"]) -> EvalRows:
        """Predictions in the form that the label kind reads, by name.

        Args:
            output: of the head, float32.
        """

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Task.forward`."""
        output = self.output(batch).float()
        return TaskOutput(self.losses(output, batch["label"]).mean(), {"output": output.detach()})

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """`index` and `predictions`; where the batch has labels also `label` and `loss`."""
        return self.train_rows(batch, {"output": self.output(batch).float()})

    @torch.no_grad()
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """See `Task.train_rows`; `details` has `output` of the head."""
        output = details["output"]
        rows = {"index": batch["index"], **self.predictions(output)}
        if "label" in batch:
            rows |= {"label": batch["label"], "loss": self.losses(output, batch["label"])}
        return rows


def pool(
    tokens: Float[Tensor, "batch token width"], measured: Bool[Tensor, "batch patch"] | None, pooling: Pooling
) -> Float[Tensor, "batch width"]:
    """The class token, or the mean over the tokens of valid patches."""
    if pooling == "class":
        return tokens[:, 0]
    return masked_mean(tokens[:, 1:], measured, dim=1)[:, 0]
