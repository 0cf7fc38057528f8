"""The recipes of the image baseline against the published facts, stated here once more and apart from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maekit.build.models import size
from maekit.config.copying import copy_recipe
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.config.shipped import header, list_recipes, shipped_recipes
from maekit.core import Encoder, GridPatchifier, MaskedAutoencoder, RandomMasking
from maekit.core.targets.pca import PCATarget
from maekit.core.targets.pixels import RawTarget

HOME = "image/imagenet/"

# Top-1 in percent, as the paper gives them: (fine-tuned, linear) of a pretraining recipe, one number of a labelled one.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "pretrain_base_1600": (83.6, 68.0),
    "pretrain_large_1600": (85.9, 75.8),
    "pretrain_huge_1600": (86.9, 76.6),
    "pretrain_large_800": (85.4, 73.9),
    "pretrain_large_800_raw": (84.9, 73.5),
    "pretrain_large_1600_raw": (85.1, 75.1),
    "pretrain_base_800": (83.3, 65.1),  # a public rerun
    "finetune_base": (83.6,),
    "finetune_large": (85.9,),
    "finetune_huge": (86.9,),
    "finetune_huge_448": (87.8,),
    "linear_base": (68.0,),
    "linear_large": (75.8,),
    "linear_huge": (76.6,),
    "scratch_base": (82.3,),
    "scratch_large": (82.6,),
    "scratch_huge": (83.1,),
    "partial/large_blocks_half": (79.1,),
    "partial/large_blocks_1": (81.0,),
    "partial/large_blocks_2": (83.1,),
    "partial/large_blocks_4": (84.2,),
    "partial/large_blocks_6": (84.4,),
    "partial/large_blocks_12": (84.6,),
    "partial/large_blocks_18": (84.7,),
    "ablations/decoder_depth_1": (84.8, 65.5),
    "ablations/decoder_depth_2": (84.9, 70.0),
    "ablations/decoder_depth_4": (84.9, 71.9),
    "ablations/decoder_depth_12": (84.4, 73.3),
    "ablations/decoder_width_128": (84.9, 69.1),
    "ablations/decoder_width_256": (84.8, 71.3),
    "ablations/decoder_width_768": (84.4, 73.1),
    "ablations/decoder_width_1024": (84.3, 73.1),
    "ablations/encoder_mask_tokens": (84.2, 59.6),
    "ablations/target_pca": (84.6, 72.3),
    "ablations/target_tokens": (85.3, 71.6),
    "ablations/loss_all": (84.4, None),
    "ablations/augment_none": (84.0, 65.7),
    "ablations/augment_fixed_crop": (84.7, 73.1),
    "ablations/augment_colour_jitter": (84.3, 71.9),
    "ablations/masking_block_50": (83.9, 72.3),
    "ablations/masking_block_75": (82.8, 63.9),
    "ablations/masking_grid_75": (84.0, 66.0),
    "ablations/mask_ratio_10": (83.2, 54.6),
    "ablations/mask_ratio_20": (83.4, 58.9),
    "ablations/mask_ratio_30": (83.4, 61.7),
    "ablations/mask_ratio_40": (84.7, 67.0),
    "ablations/mask_ratio_50": (84.9, 69.9),
    "ablations/mask_ratio_60": (85.0, 71.8),
    "ablations/mask_ratio_70": (84.9, 73.2),
    "ablations/mask_ratio_80": (84.5, 71.8),
    "ablations/mask_ratio_90": (83.0, 66.1),
    "ablations/epochs_100": (82.3, 57.3),
    "ablations/epochs_200": (83.3, 64.4),
    "ablations/epochs_400": (84.3, 69.7),
}
WITHOUT = {
    "pretrain_base_1600_raw",
    "pretrain_base_800_raw",
    "pretrain_huge_1600_raw",
    "pretrain_huge_800",
    "pretrain_huge_800_raw",
    "tokenizer",
    "pretrain_base_800_cross",
}
MINE = {name.removeprefix(HOME) for name in shipped_recipes() if name.startswith(HOME)}


def loaded(name: str) -> LoadedRecipe:
    return load_recipe(HOME + name)


def test_references_are_what_was_published() -> None:
    assert set(PUBLISHED) | WITHOUT == MINE
    for name, figures in PUBLISHED.items():
        recipe = loaded(name).recipe
        assert recipe.reference is not None, name
        names = ("finetuned", "linear") if recipe.task.name == "pretraining" else ("accuracy",)
        expected = {n: f / 100 for n, f in zip(names, figures, strict=True) if f is not None}
        assert recipe.reference.metrics == pytest.approx(expected), name
        assert set(recipe.reference.tolerance) == set(expected), name
        assert all(0 < band <= 0.01 for band in recipe.reference.tolerance.values()), name
        text = header(shipped_recipes()[HOME + name])
        assert all(f"{figure} %" in text for figure in figures if figure is not None), (
            f"the header of {name} says it too"
        )
        assert "paper" in text
    for name in WITHOUT:
        assert loaded(name).recipe.reference is None, name


# depth, width, heads, patch, parameters of the whole autoencoder and of the encoder with its position table
SIZES = {
    "base": (12, 768, 12, 16, 111_907_840),
    "large": (24, 1024, 16, 16, 329_541_888),
    "huge": (32, 1280, 16, 14, 657_074_508),
}


@pytest.mark.parametrize("letter", SIZES)
def test_sizes_are_exact(letter: str) -> None:
    depth, width, heads, patch, count = SIZES[letter]
    for epochs in (800, 1600):
        for raw in ("", "_raw"):
            recipe = loaded(f"pretrain_{letter}_{epochs}{raw}").recipe
            encoder, decoder = size(recipe.model.encoder), size(recipe.model.decoder)
            assert (encoder.depth, encoder.width, encoder.heads) == (depth, width, heads)
            assert (decoder.depth, decoder.width, decoder.heads) == (8, 512, 16)
            assert (recipe.adapter.options["patch"], recipe.adapter.options["size"]) == (patch, 224)
            assert recipe.schedule.epochs == epochs
            assert recipe.model.target.name == ("raw" if raw else "patch_norm")
    grid = GridPatchifier((3, 224, 224), (patch, patch))
    with torch.device("meta"):
        model = MaskedAutoencoder(
            grid, encoder=encoder, decoder=decoder, masking=RandomMasking(grid), target=RawTarget(grid)
        )
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("letter", SIZES)
def test_settings_are_the_published_ones(letter: str) -> None:
    pretrain, tune = loaded(f"pretrain_{letter}_1600").recipe, loaded(f"finetune_{letter}").recipe
    probe, scratch = loaded(f"linear_{letter}").recipe, loaded(f"scratch_{letter}").recipe
    i = list(SIZES).index(letter)
    stated = {
        (4096, 1.5e-4, (0.9, 0.95), 0.05, 1.0, 40, 0.0): pretrain,
        (1024, (5e-4, 1e-3, 1e-3)[i], (0.9, 0.999), 0.05, (0.65, 0.75, 0.75)[i], 5, 1e-6): tune,
        (4096, 1e-4, (0.9, 0.95), 0.3, 1.0, 20, 1e-6): scratch,
    }
    for expected, recipe in stated.items():
        o, s = recipe.optimizer, recipe.schedule
        found = (
            recipe.training.batch_size,
            o.base_lr,
            o.betas,
            o.weight_decay,
            o.layer_decay,
            s.warmup_epochs,
            s.min_lr,
        )
        assert found == expected, recipe.name
        assert o.name == "adamw"
        assert o.clip_grad is None
    assert (tune.schedule.epochs, scratch.schedule.epochs, probe.schedule.epochs) == (
        (100, 300, 90),
        (50, 200, 50),
        (50, 200, 50),
    )[i]
    assert (tune.model.drop_path, pretrain.model.drop_path) == ((0.1, 0.2, 0.3)[i], 0)
    assert scratch.training.ema == 0.9999
    o = probe.optimizer
    assert (o.name, o.base_lr, o.momentum, o.trust_coefficient, o.weight_decay) == ("lars", 0.1, 0.9, 0.001, 0)
    assert (probe.training.batch_size, probe.schedule.warmup_epochs) == (16384, 10)
    assert probe.task.options == {"tune": "frozen", "pooling": "class"}
    assert probe.augment[0].options == {"kind": "area", "scale": [0.08, 1.0]}
    assert tune.task.options == {
        "tune": "full",
        "pooling": "mean",
        "smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "mixup_prob": 1.0,
        "switch_prob": 0.5,
    }
    assert [(choice.name, choice.options) for choice in tune.augment] == [
        ("crop", {"scale": [0.08, 1.0]}),
        ("flip", {}),
        ("rand_augment", {"config": "rand-m9-mstd0.5-inc1"}),
        ("erasing", {"share": 0.25}),
    ]
    assert [(choice.name, choice.options) for choice in pretrain.augment] == [
        ("crop", {"scale": [0.2, 1.0]}),
        ("flip", {}),
    ]
    assert tune.init is not None
    assert tune.init.recipe == f"pretrain_{letter}_1600.yaml"


def test_each_ablation_changes_one_thing() -> None:
    parent = loaded("pretrain_large_800_raw").recipe.model_dump()
    for name in sorted(MINE):
        if not name.startswith("ablations/"):
            continue
        mine = loaded(name).recipe.model_dump()
        changed = {
            f"{section}.{key}"
            for section in ("adapter", "data", "model", "task", "optimizer", "schedule", "training")
            for key in {*mine[section], *parent[section]}
            if mine[section].get(key) != parent[section].get(key)
        } | ({"augment"} if mine["augment"] != parent["augment"] else set())
        assert changed, name
        assert len(changed) == 1 or ("masking" in name and changed == {"model.masking", "model.mask_ratio"}), changed
        lines = [line for line in shipped_recipes()[HOME + name].read_text().splitlines() if line[0] not in "# "]
        assert len(lines) <= 4, f"{name} is short"


def test_448_pixels_are_32_by_32_patches() -> None:
    recipe = loaded("finetune_huge_448").recipe
    grid = GridPatchifier((3, 448, 448), (14, 14))
    assert (recipe.adapter.options["size"], recipe.adapter.options["patch"]) == (448, 14)
    with torch.device("meta"):
        encoder = Encoder(grid, size(recipe.model.encoder))
    assert grid.grid_size == (32, 32)
    assert encoder.pos_embed.shape == (1, 1025, 1280)


def test_pca_keeps_96_of_768() -> None:
    options = loaded("ablations/target_pca").recipe.model.target.options
    target = PCATarget(GridPatchifier((3, 224, 224), (16, 16)), **options)
    assert (target.dim, len(target.mean)) == (96, 768)


def test_listing_and_copying_cope_with_folders(tmp_path: Path) -> None:
    assert "image/imagenet" in list_recipes()
    assert list_recipes()["image/imagenet"] == len(MINE)
    inside = list_recipes("image/imagenet")
    assert isinstance(inside[HOME + "pretrain_base_1600"], Path)
    assert inside[HOME + "ablations"] == sum(name.startswith("ablations/") for name in MINE)
    assert len(list_recipes("image/imagenet/ablations/")) == inside[HOME + "ablations"]
    copied = copy_recipe(HOME + "partial/large_blocks_4", tmp_path)
    assert copied == tmp_path / "partial/large_blocks_4.yaml"
    assert load_recipe(copied).recipe == loaded("partial/large_blocks_4").recipe
    assert len(list(tmp_path.rglob("*.yaml"))) == 8, "what it extends and what it starts from"
