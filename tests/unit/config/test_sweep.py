"""`--sweep`: short names of keys, grids, names of folders, and what a person gets to read for a mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maekit.config.load import load_recipe
from maekit.config.schema import Recipe
from maekit.config.sweep import GridPoint, full_key, grid, parse_sweep
from maekit.errors import UserError

RECIPE = "heart_rate/demo_pretrain"


def points(*settings: str) -> list[GridPoint]:
    return grid(parse_sweep(settings))


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("mask_ratio", "model.mask_ratio"),
        ("masking", "model.masking"),
        ("target", "model.target"),
        ("seconds", "data.window.seconds"),
        ("window.seconds", "data.window.seconds"),
        ("base_lr", "optimizer.base_lr"),
        ("label_fraction", "data.label_fraction"),
        ("adapter.patch_s", "adapter.patch_s"),
        ("masking.length", "model.masking.length"),
        ("encoder.width", "model.encoder.width"),
        ("init.epochs", "init.schedule.epochs"),
        ("init.recipe", "init.recipe"),
        ("task.tune", "task.tune"),
    ],
)
def test_the_end_of_a_key_is_enough(short: str, full: str) -> None:
    assert full_key(short, "") == full
    assert full_key(full, "") == full


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mask_ration=0.5", "Did you mean 'mask_ratio'"),
        ("width=8,16", "model.encoder.width, model.decoder.width"),
        ("seed=1,2", "Seeds are set by --seeds"),
        ("data.split.fold=0,1", "every fold is run"),
        ("mask_ratio", "--sweep key=a,b,c"),
        ("mask_ratio=", "--sweep key=a,b,c"),
        ("mask_ratio=0.5,0.50", "a value twice"),
        ("patch_s=0.2", "adapter.KEY"),
        ("mask_ratio=[0.5", "--sweep mask_ratio=[0.5"),
        ("mask_ratio.low=1", "Did you mean"),
    ],
)
def test_mistakes_are_named(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_sweep([setting])
    assert message in str(caught.value)


def test_a_key_is_swept_once() -> None:
    with pytest.raises(UserError, match=r"model\.mask_ratio is swept twice"):
        parse_sweep(["mask_ratio=0.5", "model.mask_ratio=0.7"])


def test_grid_overrides_load_and_keep_the_options_of_a_choice() -> None:
    found = points("mask_ratio=0.3,0.75", "masking=random,span")
    assert [point.folder for point in found] == [
        "mask_ratio-0.3_masking-random",
        "mask_ratio-0.3_masking-span",
        "mask_ratio-0.75_masking-random",
        "mask_ratio-0.75_masking-span",
    ]
    models = [load_recipe(RECIPE, point.overrides()).recipe.model for point in found]
    assert [model.mask_ratio for model in models] == [0.3, 0.3, 0.75, 0.75]
    assert [(model.masking.name, model.masking.options) for model in models[:2]] == [
        ("random", {}),
        ("span", {"length": 2}),
    ]
    assert load_recipe(RECIPE, points("base_lr=5e-5")[0].overrides()).recipe.optimizer.base_lr == 5e-5
    mapping = points("masking={name: span, length: 4}")[0]
    assert load_recipe(RECIPE, mapping.overrides()).recipe.model.masking.options == {"length": 4}


def test_labels_do_not_collide() -> None:
    found = points("masking.length=2", "data.window.length=100", "encoder.width=8", "decoder.width=8", "init.epochs=3")
    assert list(found[0].labelled()) == ["masking.length", "length", "encoder.width", "decoder.width", "init.epochs"]
    assert points() == [GridPoint()]
    assert points()[0].folder == ""


def test_folders_become_names_of_runs() -> None:
    long = "x" * 300
    for value in ("a/b.yaml", "{name: span, length: 4}", "null", "[1, 2]", '"ä ö"', "1e-5", long, "'..'", "'-'"):
        point = points(f"init.recipe={value}")[0]
        name = f"study/{point.folder}"
        assert (
            Recipe.model_validate({"name": name, "adapter": "a", "data": {"spec": "s"}, "schedule": {"epochs": 1}}).name
            == name
        )


@given(
    st.lists(
        st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=60), min_size=2, max_size=8, unique=True
    )
)
def test_folders_tell_values_apart(values: list[str]) -> None:
    import json

    try:
        found = points("description=" + ",".join(map(json.dumps, values)))
    except UserError:  # what YAML cannot hold
        return
    assert len({point.folder for point in found}) == len(values)
    assert [point.labelled()["description"] for point in found] == values


def test_only_keeps_the_order() -> None:
    point = points("mask_ratio=0.3", "seconds=5", "masking=span")[0].only(lambda key: key.startswith("model."))
    assert point.labelled() == {"mask_ratio": 0.3, "masking": "span"}
    assert str(point) == "mask_ratio 0.3, masking span"
