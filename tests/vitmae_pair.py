"""Our masked autoencoder and `transformers`' ViTMAE with one set of weights."""

from __future__ import annotations

import pytest
import torch

from maekit.core import GridPatchifier, MaskedAutoencoder, PatchNormTarget, RandomMasking, TransformerConfig

transformers = pytest.importorskip("transformers")


def pair(shape: tuple[int, int, int], patch: int, target: type) -> tuple[MaskedAutoencoder, torch.nn.Module]:
    """Our model and theirs with one set of weights; theirs on the square grid it insists on, or with tables replaced."""
    torch.manual_seed(0)
    channels, height, _ = shape
    patchifier = GridPatchifier(shape, (patch, patch), ("height", "width"))
    ours = MaskedAutoencoder(
        patchifier,
        encoder=TransformerConfig(48, 3, 4),
        decoder=TransformerConfig(32, 2, 4),
        masking=RandomMasking(patchifier),
        target=target(patchifier),
    )
    config = transformers.ViTMAEConfig(
        image_size=height,
        patch_size=patch,
        num_channels=channels,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=128,
        norm_pix_loss=target is PatchNormTarget,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():  # biases and norms too, so that no default hides an error
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    copy_weights(ours, theirs, patch, channels)
    return ours.eval(), theirs


def copy_weights(ours: MaskedAutoencoder, theirs: torch.nn.Module, patch: int, channels: int) -> None:
    state = theirs.state_dict()
    own = ours.state_dict()
    for name in state:
        state[name] = find(name, own, patch, channels)
    theirs.load_state_dict(state)


def find(name: str, own: dict[str, torch.Tensor], patch: int, channels: int) -> torch.Tensor:
    """Our tensor for one of their names."""
    fixed = {
        "vit.embeddings.cls_token": "encoder.cls_token",
        "vit.embeddings.position_embeddings": "encoder.pos_embed",
        "vit.embeddings.patch_embeddings.projection.bias": "encoder.patch_embed.proj.bias",
        "vit.layernorm.weight": "encoder.norm.weight",
        "vit.layernorm.bias": "encoder.norm.bias",
        "decoder.mask_token": "decoder.mask_token",
        "decoder.decoder_pos_embed": "decoder.pos_embed",
        "decoder.decoder_embed.weight": "decoder.embed.weight",
        "decoder.decoder_embed.bias": "decoder.embed.bias",
        "decoder.decoder_norm.weight": "decoder.norm.weight",
        "decoder.decoder_norm.bias": "decoder.norm.bias",
        "decoder.decoder_pred.weight": "decoder.pred.weight",
        "decoder.decoder_pred.bias": "decoder.pred.bias",
    }
    if name in fixed:
        return own[fixed[name]]
    if name == "vit.embeddings.patch_embeddings.projection.weight":
        flat = own["encoder.patch_embed.proj.weight"]
        return flat.view(-1, patch, patch, channels).permute(0, 3, 1, 2)
    parts = name.split(".")
    number = next(part for part in parts if part.isdigit())
    stack = "decoder" if name.startswith("decoder") else "encoder"
    prefix, kind = f"{stack}.blocks.{number}", parts[-1]
    for at, one in enumerate(("query", "key", "value", "q_proj", "k_proj", "v_proj")):
        if one in parts:
            return own[f"{prefix}.attn.qkv.{kind}"].chunk(3)[at % 3]
    places = {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output": "attn.proj",
        "o_proj": "attn.proj",
        "intermediate": "mlp.fc1",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
        "output.dense": "mlp.fc2",
    }
    for key, location in places.items():
        if f".{key}." in f".{name}.":
            return own[f"{prefix}.{location}.{kind}"]
    raise AssertionError(f"no tensor of ours for {name}")
