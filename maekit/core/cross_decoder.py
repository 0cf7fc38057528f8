"""A decoder in which removed patches attend to visible ones only, and not to each other (CrossMAE, Fu et al., 2024).

Every prediction is then independent of the others, so that training may predict only some of the removed patches. Of that
paper this is the cross-attention decoder and the partial prediction. Its inter-block attention, which gives each block its
own mixture of the encoder's layers, is left out: all blocks read the encoder's output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maekit.core.decoder import Decoder
from maekit.core.row_groups import can_be_read
from maekit.core.transformer import Blocks, LayerNorm, TransformerConfig

if TYPE_CHECKING:
    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier


class CrossBlock(nn.Module):
    """Cross-attention from `queries` to `memory`, then an MLP; both pre-norm and residual."""

    def __init__(self, config: TransformerConfig, drop_path: float) -> None:
        super().__init__()
        from timm.layers import DropPath, Mlp

        width, self.heads = config.width, config.heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        queries: Float[Tensor, "batch query width"],
        memory: Float[Tensor, "batch token width"],
        key_mask: Bool[Tensor, "batch 1 1 token"] | None,
    ) -> Float[Tensor, "batch query width"]:
        """One block; tokens of the memory where `key_mask` is False are not attended to."""
        heads = "batch token (head dim) -> batch head token dim"
        q = rearrange(self.q(self.norm1(queries)), heads, head=self.heads)
        k, v = (rearrange(half, heads, head=self.heads) for half in self.kv(memory).chunk(2, dim=-1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=key_mask)
        x = queries + self.drop_path(self.proj(rearrange(attended, "batch head token dim -> batch token (head dim)")))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CrossDecoder(Decoder):
    """Predicts removed patches by cross-attention to encoded visible ones.

    Args:
        patchifier, config, encoder_width, out_dim: as of `Decoder`.
        cross_mask_ratio: share of the removed patches that is predicted in training; in evaluation all are.
    """

    prefix_tokens = 0

    def __init__(
        self,
        patchifier: Patchifier,
        config: TransformerConfig,
        encoder_width: int,
        out_dim: int,
        *,
        cross_mask_ratio: float = 1.0,
    ) -> None:
        super().__init__(patchifier, config, encoder_width, out_dim)
        self.cross_mask_ratio = cross_mask_ratio

    @staticmethod
    def build_blocks(config: TransformerConfig) -> Blocks:
        """A stack of cross-attention blocks of this size."""
        return Blocks(CrossBlock(config, rate) for rate in config.drop_path_rates())

    def forward(
        self,
        latent: Float[Tensor, "batch token width"],
        mask: Mask,
        valid: Bool[Tensor, "batch patch"] | None,
        noise: Float[Tensor, "batch patch"],
    ) -> tuple[Float[Tensor, "batch patch out"], Bool[Tensor, "batch patch"]]:
        """Predict removed patches, all or a random share of them; predictions are zero elsewhere."""
        # Removed patches are valid, and padding of the kept ones is masked below.
        share = self.cross_mask_ratio if self.training else 1.0
        most = mask.mask.shape[1] - mask.ids_keep.shape[1]
        if valid is not None and can_be_read(valid):
            most = int(mask.mask.sum(1).max())  # fewer, where no row is valid throughout
        ids, is_query = choose_queries(mask.mask, noise, share, most_removed=most)
        memory = self.embed(latent)
        queries = self.mask_token + self.pos_embed[0, ids]
        key_mask = None
        if mask.padding is not None:
            key_mask = rearrange(nn.functional.pad(~mask.padding, (1, 0), value=True), "batch token -> batch 1 1 token")
        for block in self.blocks:
            queries = self.blocks.run_block(block, queries, memory, key_mask)
        values = self.pred(self.norm(queries)) * is_query[..., None]
        pred = values.new_zeros(*mask.mask.shape, values.shape[-1])
        pred = pred.scatter(1, repeat(ids, "batch query -> batch query out", out=values.shape[-1]), values)
        return pred, torch.zeros_like(mask.mask).scatter(1, ids, is_query)


def choose_queries(
    removed: Bool[Tensor, "batch patch"], noise: Float[Tensor, "batch patch"], share: float, *, most_removed: int
) -> tuple[Int[Tensor, "batch query"], Bool[Tensor, "batch query"]]:
    """Draw a share of the removed patches of each sample, at least one.

    They are drawn by the low digits of the noise, which are independent of the order in which the high digits removed them.

    Args:
        removed: (batch, patch) True where removed.
        noise: (batch, patch) uniform in [0, 1).
        share: of the removed patches.
        most_removed: patches that are removed from any sample at most; known without waiting for the device.

    Returns:
        Indices of patches, and which of them are real: False where one only fills up the row.
    """
    counts = (removed.sum(1, keepdim=True) * share).round().clamp(min=1)
    order = torch.where(removed, (noise * 4096) % 1, torch.inf).argsort(dim=1, stable=True)
    longest = max(1, round(most_removed * share))
    ids = order[:, :longest]
    return ids, (torch.arange(longest, device=ids.device) < counts) & removed.gather(1, ids)
