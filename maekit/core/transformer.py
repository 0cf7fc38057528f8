"""Transformer sizes, and the stacks of blocks that encoders and decoders are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maekit.core.row_groups import update_selected

if TYPE_CHECKING:
    from timm.layers import Attention

LONGEST_PLAIN_ATTENTION = 256
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Width, depth and heads of a pre-norm transformer; `drop_path` is the rate of the last block, growing linearly."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")

    @property
    def parameters(self) -> int:
        """Number of weights of the blocks: four square products of attention, and two of the MLP."""
        return self.depth * round(self.width**2 * (4 + 2 * self.mlp_ratio))

    def drop_path_rates(self) -> list[float]:
        """Stochastic depth rate of each block, from 0 to `drop_path`."""
        return [self.drop_path * i / max(self.depth - 1, 1) for i in range(self.depth)]


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


class Blocks(nn.ModuleList):
    """A stack of blocks, any of which may be computed again in the backward pass to save memory."""

    grad_checkpointing = False
    update_all = False
    """Whether tokens that none attends to are computed too, from those that they attend to: for heads that read every patch."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the inputs of each block for the backward pass, which then computes the block again."""
        self.grad_checkpointing = enable

    def run_block(self, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        """Call one of the blocks, with gradient checkpointing where it is switched on."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(block, *inputs, use_reentrant=False))
        return cast(Tensor, block(*inputs))


class TransformerBlocks(Blocks):
    """timm's blocks: names in the state dict line up with timm, Hugging Face's source and the authors' weights."""

    def forward(
        self, x: Float[Tensor, "batch token width"], key_mask: Bool[Tensor, "batch token"] | None
    ) -> Float[Tensor, "batch token width"]:
        """Run all blocks; tokens where `key_mask` is False are attended to by none (None: all are attended to).

        Unless `update_all`, such tokens are left out where that saves time, and have no meaning afterwards.
        """
        if key_mask is None or self.update_all:
            return self._run(x, key_mask)
        return update_selected(x, key_mask, self._run)

    def _run(
        self, x: Float[Tensor, "batch token width"], key_mask: Bool[Tensor, "batch token"] | None
    ) -> Float[Tensor, "batch token width"]:
        bias = None
        if key_mask is not None:
            bias = torch.zeros(key_mask.shape, dtype=x.dtype, device=x.device).masked_fill(~key_mask, -torch.inf)
            bias = rearrange(bias, "batch token -> batch 1 1 token")
        # Fused attention pays on a GPU and on long sequences. On two CPU cores a whole training step at 50 to 200 tokens
        # took 1.3 times as long with it.
        fused = x.is_cuda or x.shape[1] > LONGEST_PLAIN_ATTENTION
        for block in self:
            attention = cast("Attention", block.attn)
            if attention.fused_attn != fused:
                attention.fused_attn = fused  # type: ignore[misc]  # Final for TorchScript alone
            x = self.run_block(block, x, bias)
        return x


def build_blocks(config: TransformerConfig) -> TransformerBlocks:
    """A stack of pre-norm self-attention blocks of this size."""
    from timm.models.vision_transformer import Block  # here, since timm with torchvision loads as long as torch itself

    return TransformerBlocks(
        Block(config.width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=LayerNorm, drop_path=rate)
        for rate in config.drop_path_rates()
    )


def with_class_token(key_mask: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch token"] | None:
    """A mask of tokens from one of patches: the class token in front may always be attended to."""
    return None if key_mask is None else nn.functional.pad(key_mask, (1, 0), value=True)


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
