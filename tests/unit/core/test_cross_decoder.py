"""The cross-attention decoder: independence of predictions, partial prediction, invalid patches, and use through a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maekit.core import GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig, mask_patches
from maekit.core.cross_decoder import CrossDecoder, choose_queries
from maekit.errors import UserError
from maekit.runs.evaluate import evaluate
from maekit.runs.reconstruct import reconstruct
from maekit.runs.train import pretrain

GRID = GridPatchifier((1, 24, 32), (4, 4), ("height", "width"))


def make(**options: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(
        GRID,
        encoder=TransformerConfig(24, 2, 2),
        decoder=TransformerConfig(16, 2, 2),
        masking=RandomMasking(GRID),
        **({"decoder_attention": "cross"} | options),  # type: ignore[arg-type]
    )


def test_predictions_do_not_depend_on_each_other() -> None:
    model = make().eval()
    latent, noise = torch.randn(2, 13, 24), torch.rand(2, 48)
    mask = mask_patches(noise, 0.75)
    everywhere, where = model.decoder(latent, mask, None, noise)
    assert torch.equal(where, mask.mask)
    assert isinstance(model.decoder, CrossDecoder)
    model.decoder.train().cross_mask_ratio = 0.5
    some, which = model.decoder(latent, mask, None, noise)
    assert which.sum(1).tolist() == [18, 18]
    assert (which <= mask.mask).all()
    assert torch.allclose(some[which], everywhere[which], atol=1e-6)
    assert (some[~which] == 0).all()
    other, _ = model.decoder.eval()(latent + 1, mask, None, noise)
    assert not torch.allclose(other[where], everywhere[where])
    assert everywhere[0][mask.mask[0]].std(dim=0).mean() > 0.01, "predictions differ between positions"


def test_training_predicts_a_share_and_evaluation_all() -> None:
    x, noise = torch.randn(2, 1, 24, 32), torch.rand(2, 48)
    model, whole = make(cross_mask_ratio=0.25), make()
    predicted = (model(x, noise=noise).pred != 0).all(-1)
    assert predicted.sum(1).tolist() == [9, 9]
    assert torch.equal(predicted, (model(x, noise=noise).pred != 0).all(-1)), "given noise, a step is repeatable"
    pred, target = model(x, noise=noise).pred, model.target(GRID.patchify(x))
    expected = ((pred - target) ** 2)[predicted].mean()
    assert torch.allclose(model(x, noise=noise).loss, expected, atol=1e-6)
    assert torch.allclose(model.eval()(x, noise=noise).loss, whole(x, noise=noise).loss, atol=1e-6)


def test_predicted_patches_are_drawn_independently_of_the_mask() -> None:
    noise = torch.rand(4000, 48)
    mask = mask_patches(noise, 0.75)
    ids, _ = choose_queries(mask.mask, noise, 0.25, most_removed=mask.mask.shape[1] - mask.ids_keep.shape[1])
    rank = mask.ids_restore.gather(1, ids).float() - 12  # among the removed, 0 to 35
    assert rank.mean() == pytest.approx(17.5, abs=0.3)
    assert rank.std() == pytest.approx(10.4, abs=0.3)


def test_values_of_invalid_patches_change_nothing() -> None:
    model, noise = make(cross_mask_ratio=0.5), torch.rand(2, 48)
    valid = torch.ones(2, 48, dtype=torch.bool)
    valid[0, :20] = False
    x = torch.randn(2, 1, 24, 32)
    holes = GRID.unpatchify(torch.where(valid[..., None], GRID.patchify(x), torch.nan))
    one, two = model(x, valid=valid, noise=noise), model(holes, valid=valid, noise=noise)
    assert torch.equal(one.loss, two.loss)
    assert ((one.pred != 0).any(-1) <= (one.mask & valid)).all()
    removed = one.mask.sum(1)
    assert removed[0] < removed[1]
    alone = model(x[:1], valid=valid[:1], noise=noise[:1])
    picked = (alone.pred != 0).all(-1)[0]
    assert torch.allclose(one.pred[0][picked], alone.pred[0][picked], atol=1e-5), "padding of a row is not attended to"
    assert picked.sum() == (removed[0] * 0.5).round()


def test_exclusive_options_are_refused() -> None:
    for options in (
        {"encoder_mask_tokens": True},
        {"loss_on": "all"},
        {"decoder_attention": "self", "cross_mask_ratio": 0.5},
    ):
        with pytest.raises(ValueError, match="decoder_attention"):
            make(**options)


def test_through_a_recipe(tiny: Path, tmp_path: Path) -> None:
    cross = ["model.decoder_attention=cross", "model.cross_mask_ratio=0.5", "training.activation_checkpointing=true"]
    run = pretrain(tiny, runs=tmp_path, overrides=[*cross, "schedule.epochs=3"]).folder
    metrics = evaluate(run)
    assert metrics["loss"] < 2
    assert metrics == evaluate(run)
    assert reconstruct(run, tmp_path / "pictures", count=1)
    with pytest.raises(UserError, match=r"decoder_attention.*Did you mean 'cross'"):
        pretrain(tiny, runs=tmp_path, overrides=["model.decoder_attention=cros"])
    for overrides, option in (
        (["model.cross_mask_ratio=0.5"], "cross_mask_ratio"),
        (["model.decoder_attention=cross", "model.loss_on=all"], "decoder_attention"),
    ):
        with pytest.raises(UserError, match=r"needs decoder_attention|excludes encoder_mask_tokens") as error:
            pretrain(tiny, runs=tmp_path, overrides=[*overrides, "name=b"])
        assert option in str(error.value.location)
