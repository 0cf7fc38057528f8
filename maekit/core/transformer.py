"""Transformer sizes and the stack of timm blocks that encoder and decoder share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LONGEST_PLAIN_ATTENTION = 256
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Width x depth x heads of a pre-norm transformer; `drop_path` is the rate of the last block, growing linearly."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")


PRESETS = {
    "vit_tiny": TransformerConfig(192, 12, 3),
    "vit_small": TransformerConfig(384, 12, 6),
    "vit_base": TransformerConfig(768, 12, 12),
    "vit_large": TransformerConfig(1024, 24, 16),
    "vit_huge": TransformerConfig(1280, 32, 16),
}
"""ViT sizes of Dosovitskiy et al. (2021), with the tiny and small ones of Touvron et al. (2021)."""

PAPER_DECODER = TransformerConfig(512, 8, 16)
"""The MAE paper's decoder."""


def preset(name: str, *, drop_path: float = 0.0) -> TransformerConfig:
    """A preset by name, with a stochastic-depth rate of one's own."""
    return replace(PRESETS[name], drop_path=drop_path)


class Blocks(nn.ModuleList):
    """A stack of transformer blocks; `recomputed` ones run again in the backward pass instead of keeping what it needs."""

    recomputed = False


def blocks(config: TransformerConfig) -> Blocks:
    """timm blocks: names in the state dict line up with timm, Hugging Face's source and the authors' weights."""
    rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
    return Blocks(
        Block(config.width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=LayerNorm, drop_path=rate)
        for rate in rates
    )


def run(
    stack: Blocks, x: Float[Tensor, "batch token width"], keys: Bool[Tensor, "batch token"] | None
) -> Float[Tensor, "batch token width"]:
    """Through the blocks; `keys` False are tokens that nobody attends to (None: all are attended to)."""
    bias = None
    if keys is not None:
        bias = torch.zeros(keys.shape, dtype=x.dtype, device=x.device).masked_fill(~keys, -torch.inf)
        bias = rearrange(bias, "batch token -> batch 1 1 token")
    # Fused attention pays on a GPU and on long sequences. On two CPU cores a whole training step at 50 to 200 tokens took
    # 1.3 times as long with it.
    fused = x.is_cuda or x.shape[1] > LONGEST_PLAIN_ATTENTION
    for block in stack:
        attention = cast(Attention, block.attn)
        if attention.fused_attn != fused:
            attention.fused_attn = fused  # type: ignore[misc]  # Final for TorchScript alone
        if stack.recomputed and torch.is_grad_enabled():
            x = checkpoint(block, x, attn_mask=bias, use_reentrant=False)
        else:
            x = block(x, attn_mask=bias)
    return x


def initialise(module: nn.Module) -> None:
    """Xavier-uniform linear layers (the fused qkv as one), biases zero, layer norms one and zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
