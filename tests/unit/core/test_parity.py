"""With the same weights and noise, results equal those of independent implementations: `transformers`' ViTMAE and timm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from vitmae_pair import find, pair

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
    """The table of the released code in NumPy: sines and cosines of the column, then of the row."""
    omega = 1 / 10_000 ** (np.arange(12) / 12)
    rows = [
        np.concatenate([np.sin(w * omega), np.cos(w * omega), np.sin(h * omega), np.cos(h * omega)])
        for h in range(6)
        for w in range(5)
    ]
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
def test_encoder_equals_timm(shape: tuple[int, int, int]) -> None:
    """Names and features; unlike transformers' ViTMAE, timm also takes inputs that are not square."""
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
    encoder, decoder = TransformerConfig(48, 3, 4), TransformerConfig(32, 2, 4)
    return MaskedAutoencoder(patchifier, encoder=encoder, decoder=decoder, masking=RandomMasking(patchifier)).eval()
