"""Momentum contrast (He et al., 2020, arXiv:1911.05722) between two signals of the same moment."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maekit.core.joint import PRIMARY, JointEncoder, SignalBatch
from maekit.core.losses import masked_mean
from maekit.tasks.transfer import pool

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_LOGIT_LEFT_OUT = -1e4


class MomentumContrast(nn.Module):
    """Each signal of a sample is a query for the other signal of the same sample among those of other samples.

    The query comes from the encoder that trains, the key from a momentum encoder, and the negatives are keys of earlier
    batches. In RADLER (Luo et al., CVPR-W 2025) the primary signal is the query and the other one the key; here both embeddings
    are trained from scratch, so the roles are also swapped, and the loss is the mean of both. Unlike in RADLER, both signals go
    through one joint encoder.

    Args:
        encoder: joint; copied.
        key: name of the other signal.
        dim: of the embeddings; 128 in the paper.
        queue: keys that are remembered.
        momentum: how slowly the keys' encoder follows.
        temperature: of the softmax.
        near: negatives from the same sample are left out, and those whose index in the source is at most so far away: rows
            of one recording that follow each other look alike.

    Raises:
        ValueError: numbers out of range, or no such signal.
    """

    def __init__(
        self, encoder: JointEncoder, key: str, *, dim: int, queue: int, momentum: float, temperature: float, near: int
    ) -> None:
        super().__init__()
        if key not in encoder.auxiliary:
            raise ValueError(f"key {key!r}, expected one of {', '.join(encoder.auxiliary)}")
        if min(dim, queue) < 1 or not 0 <= momentum < 1 or not temperature > 0 or near < 0:
            raise ValueError(
                f"dim={dim}, queue={queue}, momentum={momentum}, temperature={temperature}, near={near}: expected whole "
                "numbers from 1, a momentum from 0 and below 1, a temperature above 0, and near from 0"
            )
        self.names, self.momentum, self.temperature, self.near = (PRIMARY, key), momentum, temperature, near
        self.heads = nn.ModuleList(projection(encoder.width, dim) for _ in self.names)
        self.slow = deepcopy(encoder).requires_grad_(False)
        self.slow_heads = deepcopy(self.heads).requires_grad_(False)
        self.register_buffer("keys", F.normalize(torch.randn(2, queue, dim), dim=-1))
        self.register_buffer("indices", torch.full((queue,), -1))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    keys: Float[Tensor, "2 queue dim"]
    indices: Int[Tensor, " queue"]
    next: Int[Tensor, ""]

    def forward(
        self, encoder: JointEncoder, signals: Mapping[str, SignalBatch], index: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Loss of a batch, and the embeddings that `embeddings` gives, without a graph; in training the slow encoder follows, and the batch's keys are remembered.

        Args:
            encoder: that trains.
            signals: of the batch.
            index: of each sample in its source.
        """
        if self.training:
            self._follow(encoder)
        details = self.embeddings(encoder, signals)
        with torch.no_grad():
            keys = torch.stack(
                [head(one) for head, one in zip(self.slow_heads, self._pooled(self.slow, signals), strict=True)]
            )
            keys = F.normalize(keys.float(), dim=-1)
        # A place of the queue that was never filled, and what is the sample itself or next to it, is no negative.
        left_out = (self.indices < 0) | ((self.indices - index[:, None]).abs() <= self.near)
        losses = []
        for query, other in ((details["query"], 1), (details["key"], 0)):
            positive = einsum(query, keys[other], "batch dim, batch dim -> batch")[:, None]
            negative = einsum(query, self.keys[other].clone(), "batch dim, queue dim -> batch queue")
            logits = torch.cat([positive, negative.masked_fill(left_out, LARGEST_LOGIT_LEFT_OUT)], 1) / self.temperature
            loss = F.cross_entropy(
                logits, torch.zeros(len(query), dtype=torch.long, device=query.device), reduction="none"
            )
            losses.append(masked_mean(loss, details["paired"]))
        if self.training:
            self._remember(keys, index, details["paired"])
        return torch.stack(losses).mean(), {name: value.detach() for name, value in details.items()}

    def embeddings(self, encoder: JointEncoder, signals: Mapping[str, SignalBatch]) -> dict[str, Tensor]:
        """`query` and `key` (batch, dim) of the encoder that trains, and `paired`: whether a sample has both signals."""
        one, other = (
            F.normalize(head(x).float(), dim=-1)
            for head, x in zip(self.heads, self._pooled(encoder, signals), strict=True)
        )
        return {"query": one, "key": other, "paired": self._paired(signals)}

    def train(self, mode: bool = True) -> MomentumContrast:
        """What only follows is never in training."""
        super().train(mode)
        self.slow.eval()
        self.slow_heads.eval()
        return self

    def _pooled(self, encoder: JointEncoder, signals: Mapping[str, SignalBatch]) -> Iterator[Tensor]:
        """Each signal encoded by itself, the mean over its patches."""
        for name in self.names:
            tokens = encoder.encode_signals({name: signals[name]})[name]
            yield pool(tokens, signals[name].valid, "mean")

    def _paired(self, signals: Mapping[str, SignalBatch]) -> Bool[Tensor, " batch"]:
        there = torch.ones(len(signals[PRIMARY].x), dtype=torch.bool, device=signals[PRIMARY].x.device)
        for name in self.names:
            valid = signals[name].valid
            there = there if valid is None else there & valid.any(1)
        return there

    @torch.no_grad()
    def _follow(self, encoder: JointEncoder) -> None:
        for slow, fast in ((self.slow, encoder), (self.slow_heads, self.heads)):
            for theirs, ours in zip(slow.parameters(), fast.parameters(), strict=True):
                theirs.lerp_(ours, 1 - self.momentum)

    @torch.no_grad()
    def _remember(self, keys: Float[Tensor, "2 batch dim"], index: Tensor, paired: Tensor) -> None:
        """Of all processes, so that every one has the same queue."""
        index = torch.where(paired, index, -1)
        if dist.is_initialized() and dist.get_world_size() > 1:
            every = [torch.empty_like(keys) for _ in range(dist.get_world_size())]
            theirs = [torch.empty_like(index) for _ in every]
            dist.all_gather(every, keys.contiguous())
            dist.all_gather(theirs, index)
            keys, index = torch.cat(every, 1), torch.cat(theirs)
        size = self.keys.shape[1]
        keys, index = keys[:, -size:], index[-size:]
        places = (self.next + torch.arange(len(index), device=index.device)) % size
        self.keys[:, places], self.indices[places] = keys, index
        self.next.copy_((self.next + len(index)) % size)


def projection(width: int, dim: int) -> nn.Sequential:
    """Two layers, as in MoCo v2 (Chen et al., 2020)."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))


def partner_rank(query: Tensor, key: Tensor, temperature: float) -> dict[str, float]:
    """Where the partner of each sample stands among all, by cosine similarity, and the loss with all others as negatives."""
    alike = query @ key.T
    before = (alike > alike.diagonal()[:, None]).sum(1).float()
    return {
        "partner_rank": (before / (len(query) - 1)).mean().item(),
        "partner_first": (before == 0).float().mean().item(),
        "loss_contrast": F.cross_entropy(alike / temperature, torch.arange(len(query))).item(),
    }
