"""A training step of maekit and of its peers: the same encoder, the paper's decoder, AdamW, forward, backward and update.

Each function gives a loss from a batch (batch, channels, height, width); every peer as its own documentation uses it.
A 1-D signal is a picture of height one. `None`: the peer cannot run that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]
RATIO = 0.75


@dataclass(frozen=True)
class Work:
    """What is trained: a sample's (channels, height, width), its patch, and the encoder."""

    shape: tuple[int, int, int]
    patch: tuple[int, int]
    width: int
    depth: int
    heads: int

    @property
    def grid(self) -> tuple[int, int]:
        return self.shape[1] // self.patch[0], self.shape[2] // self.patch[1]

    @property
    def flops(self) -> float:
        """Multiplications and additions of the matrix products of one sample, forward and backward, as published:
        the encoder on the visible patches and the class token, the decoder (512 wide, 8 blocks) on all."""
        patches = self.grid[0] * self.grid[1]
        dim = self.shape[0] * self.patch[0] * self.patch[1]
        seen, all_ = 1 + int(patches * (1 - RATIO)), 1 + patches

        def blocks(tokens: int, width: int, depth: int) -> int:
            return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

        ends = 2 * (seen * self.width * 512 + all_ * 512 * dim)
        embedding = 2 * patches * dim * self.width
        # The gradient of the patches themselves is never needed.
        return 3 * (blocks(seen, self.width, self.depth) + blocks(all_, 512, 8) + ends) + 2 * embedding

    @property
    def square(self) -> bool:
        return self.grid[0] == self.grid[1] and self.patch[0] == self.patch[1]


def maekit(work: Work) -> tuple[nn.Module, Loss]:
    """The core, through the same public classes that a recipe builds."""
    from maekit.core import PAPER_DECODER, GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig

    patchifier = GridPatchifier(work.shape, work.patch, ("height", "width"))
    model = MaskedAutoencoder(
        patchifier,
        encoder=TransformerConfig(work.width, work.depth, work.heads),
        decoder=PAPER_DECODER,
        masking=RandomMasking(patchifier),
        mask_ratio=RATIO,
    )
    return model, lambda x: model(x).loss


def transformers(work: Work) -> tuple[nn.Module, Loss] | None:
    """Hugging Face's ViTMAE, which follows the authors' code line by line; square pictures only."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    if not work.square or work.shape[1] != work.shape[2]:
        return None
    config = ViTMAEConfig(
        image_size=work.shape[1],
        patch_size=work.patch[0],
        num_channels=work.shape[0],
        hidden_size=work.width,
        num_hidden_layers=work.depth,
        num_attention_heads=work.heads,
        intermediate_size=4 * work.width,
        norm_pix_loss=True,
        mask_ratio=RATIO,
    )
    model = ViTMAEForPreTraining(config)
    return model, lambda x: model(pixel_values=x).loss


def lightly(work: Work) -> tuple[nn.Module, Loss]:
    """lightly's MAE parts put together as in its MAE example."""
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    patches = work.grid[0] * work.grid[1]
    vit = VisionTransformer(
        img_size=work.shape[1:],
        patch_size=work.patch,
        in_chans=work.shape[0],
        embed_dim=work.width,
        depth=work.depth,
        num_heads=work.heads,
        num_classes=0,
    )
    # Its own position tables are for square grids; what they hold does not change the time of a step.
    start = {} if work.square else {"weight_initialization": "skip", "pos_embed_initialization": "skip"}
    parts = nn.ModuleDict(
        {
            "backbone": MaskedVisionTransformerTIMM(vit=vit, **start),
            "embed": nn.Linear(work.width, 512),
            "decoder": MaskedVisionTransformerDecoderTIMM(
                num_patches=patches, embed_dim=512, depth=8, num_heads=16, initialize_weights=work.square
            ),
            "pred": nn.Linear(512, work.patch[0] * work.patch[1] * work.shape[0]),
        }
    )
    backbone, decoder = parts["backbone"], parts["decoder"]

    def cut(x: Tensor) -> Tensor:
        if work.square and work.shape[1] == work.shape[2]:
            return utils.patchify(x, work.patch[0])
        rows = x.unflatten(2, (work.grid[0], work.patch[0])).unflatten(4, (work.grid[1], work.patch[1]))
        return torch.einsum("nchpwq->nhwpqc", rows).flatten(3).flatten(1, 2)

    def loss(x: Tensor) -> Tensor:
        keep, mask = utils.random_token_mask(size=(len(x), patches + 1), mask_ratio=RATIO, device=x.device)
        encoded = parts["embed"](backbone.encode(images=x, idx_keep=keep))
        tokens = utils.repeat_token(decoder.mask_token, (len(x), patches + 1))
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        pred = parts["pred"](utils.get_at_index(decoder.decode(decoder.preprocess(tokens)), mask))
        target = utils.get_at_index(cut(x), mask - 1)
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        return nn.functional.mse_loss(pred, (target - mean) / (var + 1e-6) ** 0.5)

    return parts, loss


def vit_pytorch(work: Work) -> tuple[nn.Module, Loss]:
    """vit-pytorch's MAE around its ViT; its target is the raw patch, its decoder has no class token."""
    from vit_pytorch import MAE, ViT

    encoder = ViT(
        image_size=work.shape[1:],
        patch_size=work.patch,
        num_classes=1,
        dim=work.width,
        depth=work.depth,
        heads=work.heads,
        dim_head=work.width // work.heads,
        mlp_dim=4 * work.width,
        channels=work.shape[0],
        pool="mean",  # with its class token its positions do not broadcast (1.26)
    )
    model = MAE(
        encoder=encoder, masking_ratio=RATIO, decoder_dim=512, decoder_depth=8, decoder_heads=16, decoder_dim_head=32
    )
    return model, model


CONTENDERS: dict[str, Callable[[Work], tuple[nn.Module, Loss] | None]] = {
    "maekit": maekit,
    "transformers": transformers,
    "lightly": lightly,
    "vit-pytorch": vit_pytorch,
}


def optimizer(name: str, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW: fused as maekit's recipes have it, torch's default as the peers' examples have it."""
    return torch.optim.AdamW(
        [p for p in parameters if p.requires_grad],
        lr=1e-4,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=name == "maekit" or None,
    )
