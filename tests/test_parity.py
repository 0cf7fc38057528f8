"""With the same weights and noise, everything equals an independent implementation: `transformers`' ViTMAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maekit.core import (
    GridPatchifier,
    MaskedAutoencoder,
    PatchNormTarget,
    RandomMasking,
    RawTarget,
    TransformerConfig,
    sincos_positions,
)

transformers = pytest.importorskip("transformers")


def pair(shape: tuple[int, int, int], patch: int, target: type) -> tuple[MaskedAutoencoder, torch.nn.Module]:
    """Our model and theirs with one set of weights; theirs on the square grid it insists on, or with tables replaced."""
    torch.manual_seed(0)
    channels, height, _ = shape
    patchifier = GridPatchifier(shape, (patch, patch), ("height", "width"))
    ours = MaskedAutoencoder(
        patchifier, encoder=TransformerConfig(48, 3, 4), decoder=TransformerConfig(32, 2, 4),
        masking=RandomMasking(patchifier), target=target(patchifier),
    )  # fmt: skip
    config = transformers.ViTMAEConfig(
        image_size=height, patch_size=patch, num_channels=channels, hidden_size=48, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=192, decoder_hidden_size=32, decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4, decoder_intermediate_size=128, norm_pix_loss=target is PatchNormTarget,
        layer_norm_eps=1e-6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
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
        "vit.layernorm.weight": "encoder.norm.weight", "vit.layernorm.bias": "encoder.norm.bias",
        "decoder.mask_token": "decoder.mask_token", "decoder.decoder_pos_embed": "decoder.pos_embed",
        "decoder.decoder_embed.weight": "decoder.embed.weight", "decoder.decoder_embed.bias": "decoder.embed.bias",
        "decoder.decoder_norm.weight": "decoder.norm.weight", "decoder.decoder_norm.bias": "decoder.norm.bias",
        "decoder.decoder_pred.weight": "decoder.pred.weight", "decoder.decoder_pred.bias": "decoder.pred.bias",
    }  # fmt: skip
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
        "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output": "attn.proj", "o_proj": "attn.proj",
        "intermediate": "mlp.fc1", "fc1": "mlp.fc1", "fc2": "mlp.fc2", "output.dense": "mlp.fc2",
    }  # fmt: skip
    for key, place in places.items():
        if f".{key}." in f".{name}.":
            return own[f"{prefix}.{place}.{kind}"]
    raise AssertionError(f"no tensor of ours for {name}")


@pytest.mark.parametrize("target", [RawTarget, PatchNormTarget])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32)])
def test_forward_and_gradients_equal_transformers(shape: tuple[int, int, int], target: type) -> None:
    ours, theirs = pair(shape, 8, target)
    x, noise = torch.randn(3, *shape), torch.rand(3, 16)
    mine, reference = ours(x, noise=noise), theirs(x, noise=noise)
    assert torch.equal(mine.mask, reference.mask.bool())
    assert torch.allclose(mine.loss, reference.loss, atol=1e-5)
    assert torch.allclose(mine.pred, reference.logits, atol=1e-5)
    mine.loss.backward()
    reference.loss.backward()
    own = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and "pos" not in name:
            assert torch.allclose(find(name, own, 8, shape[0]), parameter.grad, atol=1e-5), name
            compared += 1
    assert compared > 60


def test_positions_equal_their_formula() -> None:
    """The release's table, said in NumPy: the column's sines and cosines, then the row's."""
    omega = 1 / 10_000 ** (np.arange(12) / 12)
    rows = [
        np.concatenate([np.sin(w * omega), np.cos(w * omega), np.sin(h * omega), np.cos(h * omega)])
        for h in range(6) for w in range(5)
    ]  # fmt: skip
    assert np.allclose(sincos_positions((6, 5), 48)[0, 1:].numpy(), np.array(rows), atol=1e-6)


def test_attention_with_and_without_fusion_agree() -> None:
    import maekit.core.transformer as transformer

    ours, _ = pair((1, 32, 32), 8, RawTarget)
    x, noise = torch.randn(2, 1, 32, 32), torch.rand(2, 16)
    plain = ours(x, noise=noise).pred
    longest, transformer.LONGEST_PLAIN_ATTENTION = transformer.LONGEST_PLAIN_ATTENTION, 0
    try:
        fused = ours(x, noise=noise).pred
    finally:
        transformer.LONGEST_PLAIN_ATTENTION = longest
    assert torch.allclose(plain, fused, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 48), (2, 24, 16)])
def test_encoder_is_timms(shape: tuple[int, int, int]) -> None:
    """Names and features; timm also takes inputs that are not square, which transformers' ViTMAE does not."""
    import timm

    ours, _ = pair(shape, 8, RawTarget) if shape[1] == shape[2] else (alone(shape), None)
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=shape[1:], patch_size=8, in_chans=shape[0], embed_dim=48, depth=3, num_heads=4, num_classes=0
    )
    assert set(ours.encoder.state_dict()) == set(theirs.state_dict())
    state = dict(ours.encoder.state_dict())
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].view(48, 8, 8, shape[0]).permute(0, 3, 1, 2)
    theirs.load_state_dict(state)
    x = torch.randn(2, *shape)
    assert torch.allclose(ours.encoder(x), theirs.eval().forward_features(x), atol=1e-5)


def alone(shape: tuple[int, int, int]) -> MaskedAutoencoder:
    patchifier = GridPatchifier(shape, (8, 8), ("height", "width"))
    sizes = {"encoder": TransformerConfig(48, 3, 4), "decoder": TransformerConfig(32, 2, 4)}
    return MaskedAutoencoder(patchifier, masking=RandomMasking(patchifier), **sizes).eval()
