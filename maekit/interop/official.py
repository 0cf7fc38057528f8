"""The layout of the MAE authors' checkpoints; timm's names for the encoder and a classifier are the same.

`cls_token`, `patch_embed.proj` (a convolution), `blocks.N`, `norm` for the encoder, `decoder_blocks.N` and so on for the
decoder; a fine-tuned model has `fc_norm` and `head`, a linear probe `head.0` (BatchNorm) and `head.1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from einops import rearrange

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, "Tensor"]

DECODER = {
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.pos_embed",
    "decoder_embed": "decoder.embed",
    "decoder_blocks": "decoder.blocks",
    "decoder_norm": "decoder.norm",
    "decoder_pred": "decoder.pred",
}
ENCODER = ("cls_token", "pos_embed", "patch_embed", "blocks", "norm")
HEAD = {"fc_norm": "norm", "head.0": "norm", "head.1": "head", "head": "head"}
PROJECTION = "encoder.patch_embed.proj.weight"


def recognise(weights: Weights) -> bool:
    """Whether the names are these."""
    return "cls_token" in weights and any(name.startswith("blocks.0.") for name in weights)


def read(weights: Weights) -> Weights:
    """To maekit's names: `encoder.*`, `decoder.*`, `norm.*`, `head.*`; what is not known keeps its name."""
    found = {}
    for name, value in weights.items():
        own = _own(name)
        found[own] = linear(value) if own == PROJECTION else value
    return found


def write(weights: Weights, channels: int, patch: tuple[int, int]) -> Weights:
    """From maekit's names; of pictures with `channels` cut into `patch`.

    Args:
        weights: `encoder.*`, `decoder.*`, `norm.*`, `head.*`.
        channels: of a sample.
        patch: height and width.
    """
    theirs = {own: name for name, own in DECODER.items()}
    probe = "norm.running_mean" in weights
    theirs |= {"norm": "head.0", "head": "head.1"} if probe else {"norm": "fc_norm", "head": "head"}
    found = {}
    for name, value in weights.items():
        if name == PROJECTION:
            value = convolution(value, channels, patch)
        stem = next((s for s in theirs if name == s or name.startswith(f"{s}.")), None)
        found[name.removeprefix("encoder.") if stem is None else theirs[stem] + name[len(stem) :]] = value
    return found


def linear(weight: Tensor) -> Tensor:
    """(width, channels, p1, p2) of a convolution to (width, p1 p2 channels) of a linear layer over patches."""
    return rearrange(weight, "width channel p1 p2 -> width (p1 p2 channel)").contiguous()


def convolution(weight: Tensor, channels: int, patch: tuple[int, int]) -> Tensor:
    """The inverse of `linear`."""
    p1, p2 = patch
    form = "width (p1 p2 channel) -> width channel p1 p2"
    return rearrange(weight, form, p1=p1, p2=p2, channel=channels).contiguous()


def _own(name: str) -> str:
    for stem, own in (DECODER | HEAD).items():
        if name == stem or name.startswith(f"{stem}."):
            return own + name[len(stem) :]
    return f"encoder.{name}" if name.split(".")[0] in ENCODER else name
