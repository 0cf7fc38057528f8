"""A decoder in which removed patches look at visible ones only, and not at each other (CrossMAE, Fu et al., 2024).

Every prediction is then independent of the others, so that training may predict some of the removed patches only. Of
that paper this is the cross-attention decoder and the partial prediction; its inter-block attention, which gives each block a
mixture of the encoder's layers of its own, is left out: all blocks read the encoder's output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maekit.core.positions import sincos_positions
from maekit.core.transformer import Blocks, LayerNorm, TransformerConfig, initialise

if TYPE_CHECKING:
    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier


class CrossBlock(nn.Module):
    """Cross attention from `queries` to `memory`, then an MLP; both pre-norm and residual."""

    def __init__(self, config: TransformerConfig, drop_path: float) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        queries: Float[Tensor, "batch query width"],
        memory: Float[Tensor, "batch token width"],
        readable: Bool[Tensor, "batch 1 1 token"] | None,
    ) -> Float[Tensor, "batch query width"]:
        """`readable` False are tokens of the memory that only fill up a row."""
        heads = "batch token (head dim) -> batch head token dim"
        q = rearrange(self.q(self.norm1(queries)), heads, head=self.heads)
        k, v = (rearrange(half, heads, head=self.heads) for half in self.kv(memory).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=readable)
        x = queries + self.drop_path(self.proj(rearrange(read, "batch head token dim -> batch token (head dim)")))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CrossDecoder(nn.Module):
    """From encoded visible patches to predictions for chosen removed ones."""

    def __init__(self, patchifier: Patchifier, config: TransformerConfig, encoder_width: int, out_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        positions = sincos_positions(patchifier.grid_size, config.width, prefix_tokens=0)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = Blocks(CrossBlock(config, rate) for rate in rates)
        self.norm = LayerNorm(config.width)
        self.pred = nn.Linear(config.width, out_dim)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, latent: Float[Tensor, "batch token width"], mask: Mask, noise: Float[Tensor, "batch patch"], share: float
    ) -> tuple[Float[Tensor, "batch patch out"], Bool[Tensor, "batch patch"]]:
        """Predictions in place (zero where there is none), and where they are: `share` of the removed patches."""
        ids, real = choose(mask.mask, noise, share)
        memory = self.embed(latent)
        x = self.mask_token + self.pos_embed[0, ids]
        readable = None
        if mask.padding is not None:
            readable = F.pad(~mask.padding, (1, 0), value=True)[:, None, None]
        for block in self.blocks:
            if self.blocks.recomputed and torch.is_grad_enabled():
                x = checkpoint(block, x, memory, readable, use_reentrant=False)
            else:
                x = block(x, memory, readable)
        some = self.pred(self.norm(x))
        pred = some.new_zeros(*mask.mask.shape, some.shape[-1])
        pred = pred.scatter(1, repeat(ids, "batch query -> batch query out", out=some.shape[-1]), some)
        return pred, torch.zeros_like(mask.mask).scatter(1, ids, real)


def choose(
    removed: Bool[Tensor, "batch patch"], noise: Float[Tensor, "batch patch"], share: float
) -> tuple[Int[Tensor, "batch query"], Bool[Tensor, "batch query"]]:
    """`share` of the removed patches of each sample, at least one, and which of them only fill up the row.

    Drawn from the low digits of the noise, which say nothing of the order that the high digits removed patches in.
    """
    counts = (removed.sum(1, keepdim=True) * share).round().clamp(min=1)
    order = torch.where(removed, (noise * 4096) % 1, torch.inf).argsort(dim=1, stable=True)
    longest = int(counts.max())
    ids = order[:, :longest]
    return ids, (torch.arange(longest, device=ids.device) < counts) & removed.gather(1, ids)
