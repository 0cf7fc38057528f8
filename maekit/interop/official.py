"""The layout of the MAE authors' checkpoints; timm's names for the encoder and a classifier are the same.

The encoder has `cls_token`, `patch_embed.proj` (a convolution), `blocks.N` and `norm`, the decoder `decoder_blocks.N` and
so on. A fine-tuned model has `fc_norm` and `head`, a linear probe `head.0` (BatchNorm) and `head.1`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from einops import rearrange

if TYPE_CHECKING:
    from collections.abc import Mapping

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
SEPARATE = re.compile(r"(blocks\.\d+\.attn\.)([qkv])(?:_proj)?\.(weight|bias)")
"""Queries, keys and values as layers of their own, as some variants of timm's blocks have them."""
PROJECTION = "encoder.patch_embed.proj.weight"


def recognise(weights: Weights) -> bool:
    """Return whether the weights have the names of this layout."""
    return "cls_token" in weights and any(name.startswith("blocks.0.") for name in weights)


def read(weights: Weights) -> Weights:
    """Translate to maekit's names: `encoder.*`, `decoder.*`, `norm.*`, `head.*`. Unknown names stay as they are.

    Queries, keys and values in layers of their own are joined.
    """
    translated = {}
    for name, value in _join_qkv(weights).items():
        own_name = replace_stem(name, DECODER | HEAD)
        if own_name is None:
            own_name = f"encoder.{name}" if name.split(".")[0] in ENCODER else name
        translated[own_name] = to_linear(value) if own_name == PROJECTION else value
    return translated


def _join_qkv(weights: Weights) -> Weights:
    """Weights whose queries, keys and values are one layer; where one of three is missing, they stay as they are."""
    parts: dict[str, dict[str, str]] = {}
    for name in weights:
        if match := SEPARATE.fullmatch(name):
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = name
    joined = dict(weights)
    for name, own in parts.items():
        if set(own) == set("qkv"):
            joined[name] = torch.cat([joined.pop(own[letter]) for letter in "qkv"])
    return joined


def write(weights: Weights, channels: int, patch: tuple[int, int]) -> Weights:
    """Translate from maekit's names.

    Args:
        weights: `encoder.*`, `decoder.*`, `norm.*`, `head.*`.
        channels: of an image.
        patch: height and width of a patch.
    """
    stems = {own: name for name, own in DECODER.items()}
    probe = "norm.running_mean" in weights
    stems |= {"norm": "head.0", "head": "head.1"} if probe else {"norm": "fc_norm", "head": "head"}
    translated = {}
    for name, value in weights.items():
        foreign_name = replace_stem(name, stems) or name.removeprefix("encoder.")
        translated[foreign_name] = to_convolution(value, channels, patch) if name == PROJECTION else value
    return translated


def replace_stem(name: str, stems: Mapping[str, str]) -> str | None:
    """Replace the first of `stems` that `name` equals or starts with, followed by a dot; None where there is none."""
    stem = next((stem for stem in stems if name == stem or name.startswith(f"{stem}.")), None)
    return None if stem is None else stems[stem] + name[len(stem) :]


def to_linear(weight: Tensor) -> Tensor:
    """Rearrange a convolution (width, channels, p1, p2) to a linear layer over patches (width, p1 p2 channels).

    A tensor of other axes is returned as it is, and does not fit.
    """
    if weight.ndim != 4:
        return weight
    return rearrange(weight, "width channel p1 p2 -> width (p1 p2 channel)").contiguous()


def to_convolution(weight: Tensor, channels: int, patch: tuple[int, int]) -> Tensor:
    """Inverse of `to_linear`."""
    p1, p2 = patch
    pattern = "width (p1 p2 channel) -> width channel p1 p2"
    return rearrange(weight, pattern, p1=p1, p2=p2, channel=channels).contiguous()
