"""Weights and masking by what happens in a patch: their algebra, what they may not tell, and as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from blobs import PICTURE, write
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.core import GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig, mask_patches
from maekit.core.energy import EnergyMasking, spread
from maekit.core.joint import PRIMARY, JointAutoencoder, JointEncoder, Sampled
from maekit.core.masking import scores_of
from maekit.core.targets.base import PatchNormTarget, RawTarget
from maekit.core.targets.mix import MixTarget, Part
from maekit.core.targets.weighted import WeightedTarget
from maekit.errors import UserError
from maekit.runs.train import pretrain

CUT = GridPatchifier((1, 24, 32), (4, 4), ("range", "doppler"))
SIZE = TransformerConfig(24, 1, 2)


def sparse(batch: int = 3, patches: int = 48, strong: int = 6, seed: int = 0) -> torch.Tensor:
    """Noise, and some patches in which ten times as much happens."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, patches, 16, generator=drawn)
    where = torch.rand(batch, patches, generator=drawn).argsort(1)[:, :strong]
    return x.scatter_reduce(1, where[..., None].expand(-1, -1, 16), torch.full_like(x, 10.0), "prod")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    power=st.floats(0, 3),
    floor=st.floats(0, 1),
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-50, 50),
    holes=st.floats(0, 0.9),
)
def test_weights_average_one_and_know_no_scale(
    seed: int, power: float, floor: float, scale: float, offset: float, holes: float
) -> None:
    x = sparse(seed=seed)
    valid = torch.rand(3, 48, generator=torch.Generator().manual_seed(seed)) >= holes
    valid[:, 0] = True
    weighted = WeightedTarget(CUT, of=RawTarget(CUT), power=power, floor=floor)
    weights = weighted.patch_weights(x, valid)
    torch.testing.assert_close((weights * valid).sum(1) / valid.sum(1), torch.ones(3), atol=1e-4, rtol=0)
    assert (weights[valid] >= floor - 1e-6).all()
    assert (weights[~valid] == 0).all()
    again = weighted.patch_weights(scale * (x + offset / 50), valid)
    torch.testing.assert_close(again, weights, atol=2e-3, rtol=2e-3)
    # More happens, more weight; and what was not measured, whatever it holds, changes nothing.
    order = torch.where(valid, spread(x), -1).argsort(1)
    assert (weights.gather(1, order).diff(dim=1) >= -1e-5).all()
    other = torch.where(valid[..., None], x, 1e3 * x)
    torch.testing.assert_close(weighted.patch_weights(other, valid), weights)


def test_weights_by_hand() -> None:
    x = torch.zeros(1, 4, 16)
    x[0, 0, ::2], x[0, 0, 1::2] = 5.0, 7.0  # a mean of 6 and a spread of 1
    x[0, 1, ::2], x[0, 1, 1::2] = 3.0, -3.0
    cut = GridPatchifier((1, 64), (16,))
    of = RawTarget(cut)
    for power, floor, expected in (
        (1.0, 0.0, [1.0, 3.0, 0.0, 0.0]),
        (2.0, 0.0, [0.4, 3.6, 0.0, 0.0]),
        (1.0, 0.1, [1.0, 2.8, 0.1, 0.1]),
    ):
        found = WeightedTarget(cut, of=of, power=power, floor=floor).patch_weights(x)
        torch.testing.assert_close(found, torch.tensor([expected]))
    torch.testing.assert_close(WeightedTarget(cut, of=of).patch_weights(torch.ones(2, 4, 16)), torch.ones(2, 4))


def test_the_loss_is_the_weighted_mean_over_what_was_removed() -> None:
    torch.manual_seed(0)
    weighted = WeightedTarget(CUT, of=PatchNormTarget(CUT))
    model = MaskedAutoencoder(CUT, encoder=SIZE, decoder=SIZE, masking=RandomMasking(CUT), target=weighted)
    patches = sparse()
    x, noise = CUT.unpatchify(patches), torch.rand(3, 48)
    out = model(x, noise=noise)
    errors = (out.pred - PatchNormTarget(CUT)(patches)).square().mean(-1)
    by_hand = (errors * weighted.patch_weights(patches))[out.mask].mean()
    torch.testing.assert_close(out.loss, by_hand)
    assert abs(out.loss - errors[out.mask].mean()) > 0.01
    plain = WeightedTarget(CUT, of=PatchNormTarget(CUT), power=0.0)
    model.target = plain
    torch.testing.assert_close(model(x, noise=noise).loss, errors[out.mask].mean())
    torch.testing.assert_close(plain.parts(out.pred, plain(patches))["unweighted"], errors)


def test_together_with_other_signals_its_own_is_weighted() -> None:
    torch.manual_seed(0)
    other = GridPatchifier((3, 4, 8), (4, 4))
    encoder = JointEncoder(CUT, SIZE, auxiliary={"other": other})
    weighted = WeightedTarget(CUT, of=RawTarget(CUT), power=2.0)
    joint = JointAutoencoder(
        CUT, encoder=encoder, decoder=SIZE, masking=EnergyMasking(CUT), target=weighted, mask_ratio=0.5
    )
    patches = sparse()
    signals = {
        PRIMARY: Sampled(CUT.unpatchify(patches), None, torch.rand(3, 48)),
        "other": Sampled(torch.randn(3, 3, 4, 8), None, torch.rand(3, 2)),
    }
    out = joint.together(signals)
    errors = (out[PRIMARY].pred - patches).square().mean(-1) * weighted.patch_weights(patches)
    torch.testing.assert_close(out[PRIMARY].loss, errors[out[PRIMARY].mask].mean())


def test_a_mix_is_weighted_as_a_whole() -> None:
    mix = MixTarget(CUT, parts=[Part("raw", RawTarget(CUT)), Part("patch_norm", PatchNormTarget(CUT), 0.5)])
    weighted = WeightedTarget(CUT, of=mix)
    x, pred = sparse(), torch.randn(3, 48, 32)
    assert set(weighted.parts(pred, weighted(x))) == {"unweighted", "raw", "patch_norm"}
    assert torch.equal(weighted.loss(pred, weighted(x)), mix.loss(pred, mix(x)))
    assert torch.equal(weighted.as_patches(pred), pred[..., :16])
    with pytest.raises(ValueError, match="weigh the whole mix"):
        MixTarget(CUT, parts=[Part("weighted", WeightedTarget(CUT, of=RawTarget(CUT)))])


def removed_of(masking: EnergyMasking, x: torch.Tensor, ratio: float, valid: torch.Tensor | None = None) -> Any:
    noise = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(1))
    return mask_patches(scores_of(masking, noise, x, valid), ratio, valid).mask


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0.1, 0.9), energetic=st.floats(0.05, 0.95))
def test_both_kinds_lose_the_same_share(seed: int, ratio: float, energetic: float) -> None:
    x = sparse(seed=seed)
    mask = removed_of(EnergyMasking(CUT, energetic=energetic), x, ratio)
    count = round(energetic * 48)
    much = spread(x).argsort(1, descending=True).argsort(1) < count
    assert mask.sum(1).tolist() == [48 - int(48 * (1 - ratio))] * 3
    share = mask.float().mean(1)
    for kind in (much, ~much):
        removed = (mask & kind).sum(1)
        assert ((removed - share * kind.sum(1)).abs() <= 1 + 1e-4).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), removed=st.floats(0.1, 0.9), holes=st.sampled_from([0.0, 0.3]))
def test_a_stated_share_is_removed_and_the_rest_stays(seed: int, removed: float, holes: float) -> None:
    x = sparse(seed=seed)
    valid = torch.rand(3, 48, generator=torch.Generator().manual_seed(seed)) >= holes
    x = torch.where(valid[..., None], x, 0.0)
    mask = removed_of(EnergyMasking(CUT, energetic=0.25, removed=removed), x, 0.5, valid)
    for one in range(3):
        measured = int(valid[one].sum())
        assert mask[one].sum() == measured - int(measured * 0.5)
        count = round(0.25 * measured)
        much = torch.where(valid[one], spread(x)[one], -1).argsort(descending=True)[:count]
        assert abs(int(mask[one, much].sum()) - removed * count) <= 1
        assert not (mask[one] & ~valid[one]).any()


def test_which_patch_is_removed_says_nothing_of_what_is_in_it() -> None:
    x = sparse(1, strong=12).expand(4000, -1, -1)
    noise = torch.rand(4000, 48, generator=torch.Generator().manual_seed(1))
    mask = mask_patches(scores_of(EnergyMasking(CUT), noise, x, None), 0.6).mask.float().mean(0)
    much = spread(x[:1])[0] > 3
    assert much.sum() == 12
    exact = (48 - int(48 * 0.4)) / 48
    assert mask[much].mean().item() == pytest.approx(exact, abs=0.015)
    assert mask[~much].mean().item() == pytest.approx(exact, abs=0.01)
    assert (mask - exact).abs().max() < 0.04
    # Asked for, it does: of the energetic the stated share.
    mask = mask_patches(scores_of(EnergyMasking(CUT, removed=0.75), noise, x, None), 0.6).mask.float().mean(0)
    assert mask[much].mean().item() == pytest.approx(0.75, abs=0.02)


def test_nothing_but_positions_reaches_the_encoder() -> None:
    """Removed patches turned upside down have the same spread, so the same are removed: no prediction changes."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(CUT, encoder=SIZE, decoder=SIZE, masking=EnergyMasking(CUT, removed=0.8), mask_ratio=0.6)
    patches, noise = sparse(), torch.rand(3, 48)
    out = model(CUT.unpatchify(patches), noise=noise)
    turned = torch.where(out.mask[..., None], -patches, patches)
    again = model(CUT.unpatchify(turned), noise=noise)
    assert torch.equal(again.mask, out.mask)
    torch.testing.assert_close(again.pred, out.pred)


def test_a_strategy_that_does_not_ask_is_given_noise_alone() -> None:
    class Old:
        def __call__(self, noise: torch.Tensor) -> torch.Tensor:
            return -noise

    noise = torch.rand(3, 48)
    assert torch.equal(scores_of(Old(), noise, sparse(), None), -noise)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyMasking(CUT, energetic=0.0), "energetic=0.0"),
        (lambda: EnergyMasking(CUT, removed=1.0), "removed=1.0"),
        (lambda: WeightedTarget(CUT, of=RawTarget(CUT), power=-1.0), "power=-1.0"),
        (lambda: WeightedTarget(CUT, of=RawTarget(CUT), floor=1.5), "floor=1.5"),
        (lambda: WeightedTarget(one := GridPatchifier((1, 8), (1,)), of=RawTarget(one)), "no spread"),
    ],
)
def test_nonsense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("blobs"))


@pytest.mark.parametrize("auxiliary", [[], ["task.name=joint", f"auxiliary={{picture: {PICTURE}}}"]])
def test_as_a_person_runs_it(recipe: Path, tmp_path: Path, auxiliary: list[str]) -> None:
    target = "model.target={name: weighted, of: {name: mix, parts: [raw, {name: patch_norm, weight: 0.5}]}, power: 2}"
    both = [target, "model.masking={name: energy, removed: 0.6}", *auxiliary]
    run = pretrain(recipe, runs=tmp_path, overrides=both).folder
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["loss_unweighted"] == pytest.approx(last["loss_raw"] + 0.5 * last["loss_patch_norm"], rel=1e-4)
    assert abs(last["loss"] - last["loss_unweighted"]) > 0.01
    assert last["loss_mean_patch"] > 0


def test_mistakes_in_a_recipe_are_placed(recipe: Path, tmp_path: Path) -> None:
    cases = {
        "model.target={name: weighted, of: 3}": "the target that is weighted",
        "model.target={name: weighted, of: {name: rwa}}": "Did you mean 'raw'",
        "model.target={name: weighted, of: tokens}": "predicts codes",
        "model.target={name: weighted, powre: 1}": "Did you mean 'power'",
        "model.target={name: weighted, floor: 2}": "floor from 0 to 1",
        "model.masking={name: energy, energetic: 2}": "shares between 0 and 1",
    }
    for override, message in cases.items():
        with pytest.raises(UserError, match=message):
            pretrain(recipe, runs=tmp_path, overrides=[override])
