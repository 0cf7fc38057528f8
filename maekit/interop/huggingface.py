"""The layout of Hugging Face's ViTMAE: the names in hub files (transformers 4) and those of transformers 5 in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from maekit.core.autoencoder import Encoder
from maekit.core.decoder import SelfDecoder
from maekit.interop.official import PROJECTION, replace_stem, to_convolution, to_linear

if TYPE_CHECKING:
    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.core.patchify import GridPatchifier
    from maekit.interop.official import Weights

STEMS = {
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


def recognise(weights: Weights) -> bool:
    """Return whether the weights have the names of this layout, with or without the `vit.` of a whole model."""
    return any(name.removeprefix("vit.").startswith("embeddings.patch_embeddings.") for name in weights)


def read(weights: Weights) -> Weights:
    """Translate to maekit's names; queries, keys and values are joined. Unknown names stay as they are."""
    translated: Weights = {}
    qkv: dict[str, dict[int, Any]] = {}
    for name, value in weights.items():
        if not name.startswith(("vit.", "decoder.")):
            name = f"vit.{name}"  # an encoder alone
        block = BLOCK.fullmatch(name)
        if block is None:
            translated[replace_stem(name, STEMS) or name] = value
            continue
        stack, number, part, kind = block.groups()
        own_block = f"{'encoder' if stack.startswith('vit') else 'decoder'}.blocks.{number}"
        if part in QKV:
            qkv.setdefault(f"{own_block}.attn.qkv.{kind}", {})[QKV[part]] = value
        else:
            translated[f"{own_block}.{PARTS[part]}.{kind}" if part in PARTS else name] = value
    for name, parts in qkv.items():
        if len(parts) == 3:
            translated[name] = torch.cat([parts[i] for i in range(3)])
    if PROJECTION in translated:
        translated[PROJECTION] = to_linear(translated[PROJECTION])
    return translated


def write(weights: Weights, channels: int, patch: tuple[int, int]) -> Weights:
    """Translate from maekit's names (`encoder.*`, `decoder.*`) to those of hub files; arguments as of `official.write`."""
    stems = {own: name for name, own in STEMS.items()}
    foreign_parts = {own: name for name, own in reversed(PARTS.items())}
    translated: Weights = {}
    for name, value in weights.items():
        foreign_name = replace_stem(name, stems)
        if foreign_name is not None:
            translated[foreign_name] = to_convolution(value, channels, patch) if name == PROJECTION else value
            continue
        stack, _, number, *part, kind = name.split(".")
        block = f"{'vit.encoder.layer' if stack == 'encoder' else 'decoder.decoder_layers'}.{number}"
        if part == ["attn", "qkv"]:
            for projection, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                translated[f"{block}.attention.attention.{projection}.{kind}"] = third.contiguous()
        else:
            translated[f"{block}.{foreign_parts['.'.join(part)]}.{kind}"] = value
    return translated


def config(model: MaskedAutoencoder, patchifier: GridPatchifier, normalised: bool) -> dict[str, Any]:
    """Make the content of `config.json`.

    Args:
        model: its sizes are read.
        patchifier: of images.
        normalised: whether the model predicts normalised pixels.

    Raises:
        ValueError: a model that ViTMAE cannot represent.
    """
    channels, height, width = patchifier.sample_shape
    if height != width or patchifier.patch_size[0] != patchifier.patch_size[1]:
        raise ValueError(
            f"ViTMAE supports square images and patches only; these are {height} x {width} in {patchifier.patch_size}"
        )
    if not isinstance(model.decoder, SelfDecoder):
        raise ValueError("ViTMAE's decoder has self-attention; this one has cross-attention to visible patches")
    assert isinstance(model.encoder, Encoder), "export checks the kind of encoder first"
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
