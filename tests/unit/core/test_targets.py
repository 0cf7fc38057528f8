"""Principal components, tokens, tokenizers and the loss on all patches: by definition, then through a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from maekit.build.experiment import build_experiment
from maekit.build.open_run import open_run
from maekit.build.tasks import TrainingPatches
from maekit.build.weights import read_weights
from maekit.config.load import load_recipe
from maekit.core import GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig
from maekit.core.masking import mask_patches
from maekit.core.structured_masking import BlockMasking, GridMasking
from maekit.core.targets.pca import PCATarget
from maekit.core.targets.pixels import RawTarget
from maekit.core.targets.tokens import TokenTarget
from maekit.core.tokenizer import FiniteScalarTokenizer
from maekit.errors import UserError
from maekit.plugins import load_file
from maekit.runs.embed import embed
from maekit.runs.evaluate import evaluate
from maekit.runs.reconstruct import reconstruct
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain

GRID = GridPatchifier((3, 32, 32), (8, 8), ("height", "width"))
SMALL = TransformerConfig(16, 1, 2)
TOKENIZER = ["name=tok", "task={name: tokenizer, levels: [4, 3], width: 16, depth: 1, heads: 2}"]
QUICK = ["schedule.epochs=1", "schedule.warmup_epochs=0"]


def patches(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 192) with a falling spectrum of variances, like natural images."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(192, 192, generator=generator) * torch.arange(1, 193) ** -1.0
    return torch.randn(count, 192, generator=generator) @ mixing.T + 3


def test_pca_equals_scikit_learn() -> None:
    target, values = PCATarget(GRID, factors=5), patches(4000)
    target.fit(torch.split(values, 900))
    theirs = PCA(5).fit(values.double().numpy())
    ours = target(values[None])[0].numpy()
    expected = theirs.transform(values.double().numpy())
    assert np.allclose(np.abs(ours), np.abs(expected), atol=2e-3)
    turned_back = target.as_patches(target(values[None]))[0].numpy()
    assert np.allclose(turned_back, theirs.inverse_transform(expected), atol=2e-3)
    whole = PCATarget(GRID, factors=192)
    whole.fit([values])
    assert torch.allclose(whole.as_patches(whole(values[None])), values[None], atol=1e-3)


def test_pca_refuses_too_few_or_degenerate_patches() -> None:
    with pytest.raises(ValueError, match="from 3 training patches"):
        PCATarget(GRID, factors=5).fit([patches(3)])
    flat = torch.zeros(500, 192)
    flat[:, :2] = torch.randn(500, 2)
    with pytest.raises(ValueError, match="vary along 2 components"):
        PCATarget(GRID, factors=5).fit([flat])
    with pytest.raises(ValueError, match="expected 1 to the 192 numbers"):
        PCATarget(GRID, factors=193)


class Quarters:
    """A tokenizer without parameters: the quarter of the value range that a patch's mean falls in."""

    vocabulary = 4

    def __init__(self, patchifier: GridPatchifier) -> None:
        self.patchifier = patchifier

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bucketize(self.patchifier.patchify(x).mean(-1), torch.tensor([-0.5, 0.0, 0.5]))


def test_tokens_are_predicted_by_cross_entropy() -> None:
    target = TokenTarget(GRID, tokenizer=Quarters(GRID))
    x = torch.randn(2, 3, 32, 32) + torch.tensor([-1.0, 0.3])[:, None, None, None]
    codes = target(GRID.patchify(x))
    assert codes.shape == (2, 16, 1)
    assert codes[0].unique().tolist() == [0]
    pred = torch.randn(2, 16, 4)
    expected = -pred.softmax(-1).gather(-1, codes)[..., 0].log()
    assert torch.allclose(target.loss(pred, codes), expected, atol=1e-5)
    visible = torch.zeros(2, 16, dtype=torch.bool)
    visible[:, :8] = True
    guess = target.average(codes, visible)
    assert torch.allclose(guess.exp().sum(-1), torch.ones(2, 16))
    assert target.loss(guess, codes)[0].mean() < 0.1
    assert target.statistics(GRID.patchify(x)) is None
    with pytest.raises(ValueError, match="expected one a patch"):
        TokenTarget(GRID, tokenizer=Quarters(GridPatchifier((3, 32, 32), (16, 16))))(GRID.patchify(x))


def test_loss_on_all_patches_counts_the_visible_ones() -> None:
    def make(**options: object) -> MaskedAutoencoder:
        torch.manual_seed(0)
        return MaskedAutoencoder(
            GRID,
            encoder=SMALL,
            decoder=SMALL,
            masking=RandomMasking(GRID),
            target=RawTarget(GRID),
            **options,  # type: ignore[arg-type]
        )

    x, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    everywhere = make(loss_on="all")(x, noise=noise)
    assert torch.allclose(everywhere.loss, F.mse_loss(everywhere.pred, GRID.patchify(x)))
    removed = make()(x, noise=noise)
    assert torch.equal(removed.pred, everywhere.pred)
    assert not torch.allclose(removed.loss, everywhere.loss)
    valid = torch.ones(2, 16, dtype=torch.bool)
    valid[:, 3] = False
    some = make(loss_on="all")(x, valid=valid, noise=noise)
    kept = valid.clone()
    assert torch.allclose(some.loss, F.mse_loss(some.pred[kept], GRID.patchify(x)[kept]))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 128), (2, 8, 4, 16)])
def test_fsq_tokenizer_gives_one_code_a_patch_on_any_number_of_axes(shape: tuple[int, ...]) -> None:
    patchifier = GridPatchifier(shape, (8, 8) if len(shape) == 3 else (16,) if len(shape) == 2 else (4, 2, 4))
    tokenizer = FiniteScalarTokenizer(patchifier, levels=[5, 4, 3], width=24, depth=1, heads=2)
    assert not tokenizer.trained
    x = 5 * torch.randn(64, *shape)
    out = tokenizer(x)
    assert out.codes.shape == (64, np.prod(patchifier.grid_size))
    assert torch.equal(out.codes, tokenizer.codes(x))
    assert set(out.codes.unique().tolist()) <= set(range(60))
    assert len(out.codes.unique()) > 30
    out.loss.backward()
    assert tokenizer.embed.weight.grad is not None
    assert tokenizer.embed.weight.grad.abs().sum() > 0, "the gradient passes the rounding"
    assert tokenizer.trained


def test_equal_codes_mean_equal_reconstructions() -> None:
    """The decoder depends on the codes alone."""
    tokenizer = FiniteScalarTokenizer(GRID, levels=[3, 3], width=16, depth=0, heads=2).eval()
    out = tokenizer(torch.randn(300, 3, 32, 32))
    tokens = tokenizer.pred(tokenizer.decoder_norm(tokenizer.from_code(torch.zeros(2)) + tokenizer.pos_embed))
    middle = out.codes == 4  # (1, 1) of 3 x 3: both numbers zero
    assert middle.any()
    assert torch.allclose(out.pred[middle], tokens.expand_as(out.pred)[middle], atol=1e-5)


def test_invalid_patches_do_not_train_the_tokenizer() -> None:
    tokenizer = FiniteScalarTokenizer(GRID, levels=[5, 5], width=16, depth=1, heads=2)
    x, valid = torch.randn(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.bool)
    valid[:, 5] = False
    holes = GRID.unpatchify(torch.where(valid[..., None], GRID.patchify(x), torch.nan))
    assert torch.equal(tokenizer(x, valid).loss, tokenizer(holes, valid).loss)


def test_masking_as_in_the_paper() -> None:
    """Grid 75 keeps exactly one of every 2 x 2; block masking removes patches whose neighbours are removed too."""
    grid = GridPatchifier((3, 224, 224), (16, 16))
    noise = torch.rand(8, 196)
    kept = ~mask_patches(GridMasking(grid)(noise), 0.75).mask.view(8, 14, 14)
    assert kept[:, ::2, ::2].all()
    assert kept.sum() == 8 * 49
    shares = {}
    for name, masking in (("block", BlockMasking(grid)), ("random", RandomMasking(grid))):
        removed = mask_patches(masking(noise), 0.5).mask.view(8, 14, 14)
        assert removed.sum() == 8 * 98
        shares[name] = (removed[:, 1:] & removed[:, :-1]).sum() / removed[:, 1:].sum()
    assert shares["block"] > 0.75
    assert shares["random"] < 0.6


def test_fitted_components_are_saved_in_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    run = pretrain(tiny, runs=tmp_path, overrides=[*QUICK, "model.target={name: pca, factors: 3}"]).folder
    experiment, task = open_run(run)
    trained = read_weights(run)["model.target.components"]
    assert trained.abs().sum() > 0
    assert torch.equal(task.model.target.components, trained)  # type: ignore[union-attr, arg-type]
    again = PCATarget(experiment.adapter.patchifier, factors=3)
    again.fit(TrainingPatches(build_experiment(load_recipe(run / "recipe.yaml"))))
    assert torch.equal(again.components, trained)
    assert "3 principal components" in report(run).read_text()
    assert reconstruct(run, tmp_path / "pictures", count=1)
    with pytest.raises(UserError, match=r"tiny.yaml.*from \d+ training patches|expected 1 to the 10 numbers"):
        pretrain(tiny, runs=tmp_path, overrides=[*QUICK, "model.target={name: pca, factors: 30}", "name=b"])


def test_a_tokenizer_from_training_to_target(tiny: Path, tmp_path: Path) -> None:
    trained = pretrain(tiny, runs=tmp_path, overrides=[*TOKENIZER, "schedule.epochs=6"])
    assert trained.metrics["codes_used"] > 1
    assert trained.metrics["perplexity"] <= trained.metrics["codes_used"] <= 12
    assert "of 12 codes in use" in report(trained.folder).read_text()
    target = f"model.target={{name: tokens, tokenizer: {trained.folder}}}"
    run = pretrain(tiny, runs=tmp_path, overrides=[target, *QUICK]).folder
    weights, theirs = read_weights(run), read_weights(trained.folder)
    same = [name for name in theirs if name.startswith("tokenizer.")]
    assert len(same) > 10
    assert all(torch.equal(weights[f"model.target.{name}"], theirs[name]) for name in same)
    trained.folder.rename(tmp_path / "elsewhere")
    assert evaluate(run)["loss"] < 10
    assert "cannot be turned back" in report(run).read_text()
    assert "frequencies of the visible codes" in report(run).read_text()
    with pytest.raises(UserError, match="cannot be turned back"):
        reconstruct(run, tmp_path / "pictures")
    with pytest.raises(UserError, match="never trained"):
        pretrain(run / "recipe.yaml", runs=tmp_path, overrides=["name=again"])
    with pytest.raises(UserError, match="no encoder of samples"):
        embed(tmp_path / "elsewhere", tmp_path / "features.h5")


def test_mistakes_with_tokenizers(tiny: Path, tmp_path: Path) -> None:
    base = pretrain(tiny, runs=tmp_path, overrides=QUICK).folder
    cases = {
        "tokens": "needs a tokenizer",
        "{name: tokens, tokenizer: runs/none}": "no run of a tokenizer here",
        "{name: tokens, tokenizer: fsq}": "A plug-in is written `{name: fsq}`",
        f"{{name: tokens, tokenizer: {base}}}": "not the run of a tokenizer",
        "{name: tokens, tokenizer: {name: fsqq}}": "Did you mean 'fsq'",
        "{name: tokens, tokenizer: {name: fsq}}": "never trained",
        "{name: tokens, tokenizer: {name: fsq, level: [3]}}": "Did you mean 'levels'",
        "{name: tokens, tokenizer: {name: fsq, levels: [2]}}": "each at least 3",
        "{name: tokens, tokenizer: {name: fsq}, vocabulary: 3}": "tokens has no option vocabulary",
        "{name: raw, tokenizer: x}": "raw has no option tokenizer",
    }
    for target, message in cases.items():
        with pytest.raises(UserError, match=message):
            pretrain(tiny, runs=tmp_path, overrides=[f"model.target={target}", "name=b"])
    with pytest.raises(UserError, match="a task without labels"):
        finetune(tiny, "random", runs=tmp_path, overrides=TOKENIZER)
    other = pretrain(tiny, runs=tmp_path, overrides=[*TOKENIZER, *QUICK]).folder
    moved = [f"model.target={{name: tokens, tokenizer: {other}}}", "data.split={validation: [p002], test: [p003]}"]
    with pytest.raises(UserError, match="another normalisation"):
        pretrain(tiny, runs=tmp_path, overrides=[*moved, "name=c"])


def test_a_tokenizer_from_a_plug_in_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "thirds.py").write_text("""\
import torch
from maekit.plugins import register


@register("tokenizers", "thirds")
class Thirds:
    vocabulary = 3

    def __init__(self, patchifier, *, at: float = 0.5):
        self.patchifier, self.at = patchifier, at

    def codes(self, x):
        return torch.bucketize(self.patchifier.patchify(x).mean(-1), torch.tensor([-self.at, self.at]))
""")
    load_file(tmp_path / "thirds.py")
    target = "model.target={name: tokens, tokenizer: {name: thirds, at: 0.1}}"
    run = pretrain(tiny, runs=tmp_path, overrides=[target, *QUICK]).folder
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["loss"] < 3
    assert "loss_interpolation" not in rows[-1]
    assert evaluate(run)["loss_mean_patch"] > 0
