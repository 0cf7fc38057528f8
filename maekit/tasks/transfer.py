"""A pretrained encoder under a new head: frozen, its last blocks, or all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from maekit.core.joint import PRIMARY, JointEncoder, SignalBatch
from maekit.core.losses import masked_mean
from maekit.tasks.shared_norm import SharedBatchNorm
from maekit.tasks.signals import sampled
from maekit.tasks.task import Batch, Task

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from maekit.core.encoders.base import Backbone

Tune = Literal["frozen", "partial", "full"]
Pooling = Literal["mean", "class"]
UNDECAYED = ("cls_token", "pos_embed", "kind")


class Transfer(Task):
    """Shared by classification and regression: pooling, the head, and which parameters train.

    As in the MAE paper: `full` and `partial` put a linear layer on the class token after the encoder's last norm, or on
    the mean of the patches after a norm of its own, which then stands for the encoder's; `frozen` is a linear probe, with a
    BatchNorm without affine parameters (over the batch of all processes) before the linear layer.

    Args:
        front: signal to standardised samples.
        encoder: pretrained or not.
        outputs: numbers that the head gives; None for some of each patch, and then nothing is pooled.
        each: numbers of each patch, then.
        tune: what trains: `frozen` the head alone, `partial` also the last `tuned_blocks` blocks, `full` all.
        pooling: `mean` of the measured patch tokens, or the `class` token.
        tuned_blocks: with `partial`; a half is the MLP of the block before, as in the paper.
        head_std: spread of the head's initial weights.
    """

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
                half = encoder.blocks[depth - whole - 1]
                if not isinstance(half, Block):
                    raise ValueError(f"tuned_blocks={tuned_blocks}: halves are of a transformer's blocks")
                half.norm2.requires_grad_(True)
                half.mlp.requires_grad_(True)
            for name in encoder.output_modules:
                encoder.get_submodule(name).requires_grad_(True)

    def train(self, mode: bool = True) -> Transfer:
        """A frozen encoder also keeps out of stochastic depth."""
        super().train(mode)
        if self.tune == "frozen":
            self.encoder.eval()
        return self

    def features(
        self, x: Float[Tensor, "batch *sample"], measured: Bool[Tensor, "batch patch"] | None
    ) -> Float[Tensor, "batch width"]:
        """Pooled features of what the front gives; nothing is masked."""
        with self._gradients():
            return pool(self.encoder(x, measured), measured, self.pooling)

    def signals(self, batch: Batch) -> dict[str, SignalBatch]:
        """The signals of a batch through their fronts, which are run here and nowhere else in a step."""
        with self._gradients():
            return sampled(batch, self.front, self.fronts)

    def tokens(self, signals: dict[str, SignalBatch]) -> Float[Tensor, "batch token width"]:
        """Tokens of the sample itself, encoded together with the auxiliary signals."""
        with self._gradients():
            if not self.fronts:
                return self.encoder(signals[PRIMARY].x, signals[PRIMARY].valid)
            assert isinstance(self.encoder, JointEncoder)
            return self.encoder.encode_signals(signals)[PRIMARY]

    def output(self, batch: Batch) -> Float[Tensor, "batch out"]:
        """Output of the head for a batch of prepared signals; where it reads each patch, `each` numbers a patch in a row."""
        return self.output_of(self.signals(batch))

    def output_of(self, signals: dict[str, SignalBatch]) -> Float[Tensor, "batch out"]:
        """As `output`, of signals that have been through their fronts."""
        tokens, measured = self.tokens(signals), signals[PRIMARY].valid
        if not self.each_patch:
            return self.head(self.norm(pool(tokens, measured, self.pooling)))
        patches = self.head(self.norm(rearrange(tokens[:, 1:], "batch patch width -> (batch patch) width")))
        return rearrange(patches, "(batch patch) each -> batch (patch each)", batch=len(tokens))

    def _gradients(self) -> AbstractContextManager[None]:
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != "frozen")

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.encoder.blocks)

    def depth_of(self, name: str) -> int | None:
        parts = name.split(".")
        if parts[0] != "encoder" or parts[1] in self.encoder.output_modules:
            return None
        return int(parts[2]) + 1 if parts[1] == "blocks" else 0

    def no_weight_decay(self) -> frozenset[str]:
        tables = [name for name, _ in self.encoder.named_parameters() if name.rpartition(".")[2] in UNDECAYED]
        return frozenset(f"encoder.{name}" for name in tables)


def pool(
    tokens: Float[Tensor, "batch token width"], measured: Bool[Tensor, "batch patch"] | None, pooling: Pooling
) -> Float[Tensor, "batch width"]:
    """The class token, or the mean over tokens of measured patches."""
    if pooling == "class":
        return tokens[:, 0]
    return masked_mean(tokens[:, 1:], measured, dim=1)[:, 0]
