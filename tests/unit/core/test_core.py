"""The core: patchify and its inverse, masks as partitions, positions, masked means, independence of invalid patches."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.core import (
    PAPER_DECODER,
    PRESETS,
    BlockMasking,
    GridMasking,
    GridPatchifier,
    MaskedAutoencoder,
    Masking,
    PatchNormTarget,
    RandomMasking,
    RawTarget,
    SpanMasking,
    TransformerConfig,
    interpolate_positions,
    mask_patches,
    sincos_positions,
)
from maekit.core.losses import masked_mean, squared_error

ENCODER, DECODER = TransformerConfig(24, 2, 2), TransformerConfig(12, 1, 2)


@given(
    channels=st.integers(1, 3), axes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)
)
@settings(max_examples=40, deadline=None)
def test_unpatchify_inverts_patchify(channels: int, axes: list[tuple[int, int]]) -> None:
    patchifier = GridPatchifier((channels, *(g * p for g, p in axes)), [p for _, p in axes])
    x = torch.randn(2, *patchifier.sample_shape)
    patches = patchifier.patchify(x)
    assert patches.shape == (2, prod(patchifier.grid_size), patchifier.patch_dim)
    assert torch.equal(patchifier.unpatchify(patches), x)


def test_patch_order_is_row_column_channel() -> None:
    patchifier = GridPatchifier((3, 4, 6), (2, 3), ("height", "width"))
    x = np.arange(72).reshape(1, 3, 4, 6)
    third = patchifier.patchify(torch.from_numpy(x))[0, 2].numpy()
    expected = [x[0, c, 2 + i, j] for i in range(2) for j in range(3) for c in range(3)]
    assert third.tolist() == expected


def test_patchify_errors_say_shapes() -> None:
    with pytest.raises(ValueError, match=r"patch of 3 does not divide the time axis of 10 points.*\[1, 2, 5, 10\]"):
        GridPatchifier((1, 10), (3,), ("time",))
    with pytest.raises(ValueError, match=r"expects \(batch, 1, 10\).*got \(2, 1, 9\)"):
        GridPatchifier((1, 10), (5,), ("time",)).patchify(torch.zeros(2, 1, 9))


GRID = GridPatchifier((1, 24, 32), (4, 4), ("range", "doppler"))
STRATEGIES: dict[str, Masking] = {
    "random": RandomMasking(GRID),
    "block": BlockMasking(GRID, blocks=2),
    "grid": GridMasking(GRID),
    "span": SpanMasking(GRID, length=3, axis="doppler"),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_every_strategy_partitions_exactly(name: str, ratio: float) -> None:
    noise = torch.rand(5, 48)
    mask = mask_patches(STRATEGIES[name](noise), ratio)
    assert mask.mask.sum(1).tolist() == [48 - int(48 * (1 - ratio))] * 5
    kept = torch.zeros(5, 48, dtype=torch.bool).scatter(1, mask.ids_keep, True)
    assert torch.equal(kept, ~mask.mask)
    assert torch.equal(mask.ids_restore.sort(1).values, torch.arange(48).expand(5, -1))
    assert torch.equal(mask.mask, mask_patches(STRATEGIES[name](noise), ratio).mask)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.6, 0.75, 0.8, 0.9])
def test_rows_without_a_look_at_the_device_are_as_long(ratio: float) -> None:
    """What a full row keeps is known from its length: a device whose values cannot be read gives the same shapes."""
    for patches in [n for n in (*range(2, 30), 64, 196) if 0 < int(n * (1 - ratio)) < n]:
        scores, valid = torch.rand(1, patches), torch.ones(1, patches, dtype=torch.bool)
        unseen = mask_patches(scores.to("meta"), ratio, valid.to("meta"))
        assert unseen.ids_keep.shape == mask_patches(scores, ratio, valid).ids_keep.shape


def test_shapes_of_removed_regions() -> None:
    noise = torch.rand(50, 48)

    def as_grid(name: str, ratio: float) -> torch.Tensor:
        return mask_patches(STRATEGIES[name](noise), ratio).mask.view(50, 6, 8)

    grid = as_grid("grid", 0.75)
    assert not grid[:, ::2, ::2].any()
    assert set(grid.sum(dim=(1, 2)).tolist()) == {36}

    def neighbours_alike(mask: torch.Tensor) -> float:
        return (mask[:, :, 1:] == mask[:, :, :-1]).float().mean().item()

    alone = neighbours_alike(as_grid("random", 0.5))
    assert neighbours_alike(as_grid("span", 0.5)) > alone + 0.15
    assert neighbours_alike(as_grid("block", 0.5)) > alone + 0.15


def test_impossible_maskings_are_refused() -> None:
    line = GridPatchifier((1, 40), (4,), ("time",))
    with pytest.raises(ValueError, match="no axis 'frequency'"):
        SpanMasking(line, axis="frequency")
    with pytest.raises(ValueError, match="name the axis"):
        SpanMasking(GRID)
    with pytest.raises(ValueError, match="at least one must be kept"):
        MaskedAutoencoder(line, encoder=ENCODER, decoder=DECODER, masking=RandomMasking(line), mask_ratio=0.95)


def test_positions() -> None:
    table = sincos_positions((3, 5), 16)[0]
    assert not table[0].any()
    assert table.shape == (16, 16)
    same_column = table[1:].view(3, 5, 16)[:, 2]
    assert torch.equal(same_column[0, :8], same_column[1, :8])  # the first half encodes the column only
    assert not torch.equal(same_column[0, 8:], same_column[1, 8:])
    assert sincos_positions((2, 3, 4), 32).shape == (1, 25, 32)
    with pytest.raises(ValueError, match="too small"):
        sincos_positions((2, 2, 2), 4)


def test_positions_interpolate_like_bicubic() -> None:
    table = torch.randn(1, 1 + 12, 8)
    ours = interpolate_positions(table, (3, 4), (6, 5))
    plane = table[:, 1:].view(1, 3, 4, 8).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(plane, (6, 5), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 30, 8)
    assert torch.allclose(ours[:, 1:], theirs, atol=1e-5)
    assert torch.equal(ours[:, :1], table[:, :1])
    assert torch.equal(interpolate_positions(table, (3, 4), (3, 4)), table)


@pytest.mark.parametrize(
    ("name", "patch", "trainable", "whole"),
    [
        ("vit_base", 16, 111_655_680, 111_907_840),
        ("vit_large", 16, 329_239_296, 329_541_888),
        ("vit_huge", 14, 656_613_964, 657_074_508),
    ],
)
def test_parameter_counts(name: str, patch: int, trainable: int, whole: int) -> None:
    patchifier = GridPatchifier((3, 224, 224), (patch, patch), ("height", "width"))
    with torch.device("meta"):
        model = MaskedAutoencoder(
            patchifier, encoder=PRESETS[name], decoder=PAPER_DECODER, masking=RandomMasking(patchifier)
        )
    counts = [p.numel() for p in model.parameters() if p.requires_grad], [p.numel() for p in model.parameters()]
    assert (sum(counts[0]), sum(counts[1])) == (trainable, whole)


def make(target: type[RawTarget | PatchNormTarget] = PatchNormTarget, **options: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(
        GRID, encoder=ENCODER, decoder=DECODER, masking=RandomMasking(GRID), target=target(GRID), **options
    )


def test_values_of_invalid_patches_change_nothing() -> None:
    model, noise = make(RawTarget), torch.rand(3, 48)
    x, valid = torch.randn(3, 1, 24, 32), torch.rand(3, 48) > 0.4
    patches = GRID.patchify(x)
    outputs = []
    for filling in (0.0, 1e6, torch.nan):
        filled = GRID.unpatchify(torch.where(valid[..., None], patches, filling))
        out = model(filled, valid=valid, noise=noise)
        out.loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        outputs.append((out.loss, out.pred[valid], gradients, model.encoder(filled, valid)[:, 0]))
    for other in outputs[1:]:
        for expected, result in zip(outputs[0], other, strict=True):
            assert torch.equal(expected, result)
    assert outputs[0][0].isfinite()
    assert not (out.mask & ~valid).any()
    kept = (valid & ~out.mask).sum(1)
    assert torch.equal(kept, (valid.sum(1) * 0.25).int().clamp(min=1))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model, noise = make(), torch.rand(2, 48)
    x, valid = torch.randn(2, 1, 24, 32), torch.ones(2, 48, dtype=torch.bool)
    valid[1, 10:] = False
    in_batch = model(x, valid=valid, noise=noise).pred[1]
    alone = model(x[1:], valid=valid[1:], noise=noise[1:]).pred[0]
    assert torch.allclose(in_batch[valid[1]], alone[valid[1]], atol=1e-5)


def test_all_valid_equals_no_valid() -> None:
    model, noise, x = make(), torch.rand(2, 48), torch.randn(2, 1, 24, 32)
    plain, stated = model(x, noise=noise), model(x, valid=torch.ones(2, 48, dtype=torch.bool), noise=noise)
    assert torch.equal(plain.mask, stated.mask)
    assert torch.allclose(plain.pred, stated.pred, atol=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_loss_ignores_kept_patches(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.randn(2, 2, 6, 4, generator=generator)
    mask = torch.rand(2, 6, generator=generator) > 0.5
    changed = torch.where(mask[..., None], pred, torch.nan)
    assert torch.equal(
        masked_mean(squared_error(pred, target), mask), masked_mean(squared_error(changed, target), mask)
    )


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_masked_mean_is_the_mean_of_selected_values(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values, mask = torch.randn(3, 6, 4, generator=generator), torch.rand(3, 6, generator=generator) > 0.4
    mask[0, 0] = mask[2, 0] = True  # of the others some value is always selected
    mask[1] = False
    spoiled = torch.where(mask[..., None], values, torch.nan)
    torch.testing.assert_close(masked_mean(spoiled, mask), values[mask].mean())
    by_sample = masked_mean(spoiled, mask, dim=1)
    assert by_sample.shape == (3, 1, 4)
    for i in (0, 2):
        torch.testing.assert_close(by_sample[i, 0], values[i][mask[i]].mean(0))
    assert (by_sample[1] == 0).all()
    torch.testing.assert_close(masked_mean(values, None, dim=1)[:, 0], values.mean(1))


def test_initial_predictions_differ_between_positions() -> None:
    out = make()(torch.randn(2, 1, 24, 32))
    assert out.pred.std(dim=1).mean() > 0.01


def test_mask_tokens_in_the_encoder() -> None:
    model, noise = make(encoder_mask_tokens=True), torch.rand(2, 48)
    x = torch.randn(2, 1, 24, 32)
    out = model(x, noise=noise)
    hidden = GRID.unpatchify(torch.where(out.mask[..., None], 9.0, GRID.patchify(x)))
    assert torch.equal(model(hidden, noise=noise).pred, out.pred)
    assert model.encoder.encode(GRID.patchify(x), None, mask_patches(noise, 0.75)).shape[1] == 49
