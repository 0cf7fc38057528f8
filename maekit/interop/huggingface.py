"""Hugging Face's ViTMAE: the names on its hub (transformers 4), and those that transformers 5 has in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from maekit.core.autoencoder import Encoder
from maekit.core.decoder import SelfDecoder
from maekit.interop.official import convolution, linear

if TYPE_CHECKING:
    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.core.patchify import GridPatchifier
    from maekit.interop.official import Weights

WHOLE = {
    "vit.embeddings.cls_token": "encoder.cls_token",
    "vit.embeddings.position_embeddings": "encoder.pos_embed",
    "vit.embeddings.patch_embeddings.projection": "encoder.patch_embed.proj",
    "vit.layernorm": "encoder.norm",
    "decoder.mask_token": "decoder.mask_token",
    "decoder.decoder_pos_embed": "decoder.pos_embed",
    "decoder.decoder_embed": "decoder.embed",
    "decoder.decoder_norm": "decoder.norm",
    "decoder.decoder_pred": "decoder.pred",
}
BLOCK = re.compile(
    r"(vit\.(?:encoder\.layer|layers)|decoder\.decoder_(?:layers|encoder\.layer))\.(\d+)\.(.+)\.(weight|bias)"
)
PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "mlp.fc1": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc2": "mlp.fc2",
}
QKV = {
    "attention.attention.query": 0,
    "attention.attention.key": 1,
    "attention.attention.value": 2,
    "attention.q_proj": 0,
    "attention.k_proj": 1,
    "attention.v_proj": 2,
}
PROJECTION = "encoder.patch_embed.proj.weight"


def recognise(weights: Weights) -> bool:
    """Whether the names are these, with or without the `vit.` that a whole model puts before the encoder's."""
    return any(name.removeprefix("vit.").startswith("embeddings.patch_embeddings.") for name in weights)


def read(weights: Weights) -> Weights:
    """To maekit's names; queries, keys and values become one. What is not known keeps its name."""
    found: Weights = {}
    thirds: dict[str, dict[int, Any]] = {}
    for name, value in weights.items():
        if not name.startswith(("vit.", "decoder.")):
            name = f"vit.{name}"  # an encoder alone
        block = BLOCK.fullmatch(name)
        if block is None:
            stem = next((s for s in WHOLE if name == s or name.startswith(f"{s}.")), None)
            found[name if stem is None else WHOLE[stem] + name[len(stem) :]] = value
            continue
        stack, number, part, kind = block.groups()
        own = f"{'encoder' if stack.startswith('vit') else 'decoder'}.blocks.{number}"
        if part in QKV:
            thirds.setdefault(f"{own}.attn.qkv.{kind}", {})[QKV[part]] = value
        else:
            found[f"{own}.{PARTS[part]}.{kind}" if part in PARTS else name] = value
    for name, parts in thirds.items():
        if len(parts) == 3:
            found[name] = torch.cat([parts[i] for i in range(3)])
    if PROJECTION in found:
        found[PROJECTION] = linear(found[PROJECTION])
    return found


def write(weights: Weights, channels: int, patch: tuple[int, int]) -> Weights:
    """From maekit's names (`encoder.*`, `decoder.*`) to those of the hub."""
    theirs = {own: name for name, own in WHOLE.items()}
    parts = {own: name for name, own in reversed(PARTS.items())}
    found: Weights = {}
    for name, value in weights.items():
        stem = next((s for s in theirs if name == s or name.startswith(f"{s}.")), None)
        if stem is not None:
            value = convolution(value, channels, patch) if name == PROJECTION else value
            found[theirs[stem] + name[len(stem) :]] = value
            continue
        stack, _, number, *inner, kind = name.split(".")
        location = f"{'vit.encoder.layer' if stack == 'encoder' else 'decoder.decoder_layers'}.{number}"
        if inner == ["attn", "qkv"]:
            for which, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{location}.attention.attention.{which}.{kind}"] = third.contiguous()
        else:
            found[f"{location}.{parts['.'.join(inner)]}.{kind}"] = value
    return found


def config(model: MaskedAutoencoder, patchifier: GridPatchifier, normalised: bool) -> dict[str, Any]:
    """`config.json` of a model with these sizes.

    Raises:
        ValueError: a shape that ViTMAE cannot have.
    """
    channels, height, width = patchifier.sample_shape
    if height != width or patchifier.patch_size[0] != patchifier.patch_size[1]:
        raise ValueError(
            f"ViTMAE takes square pictures and patches alone, these are {height} x {width} in {patchifier.patch_size}"
        )
    if not isinstance(model.decoder, SelfDecoder):
        raise ValueError("ViTMAE's decoder attends to all patches, this one to visible ones alone")
    assert isinstance(model.encoder, Encoder), "others have no place in this layout"
    encoder, decoder = model.encoder.config, model.decoder.config
    return {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "image_size": height,
        "patch_size": patchifier.patch_size[0],
        "num_channels": channels,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": int(encoder.width * encoder.mlp_ratio),
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": int(decoder.width * decoder.mlp_ratio),
        "mask_ratio": model.mask_ratio,
        "norm_pix_loss": normalised,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
