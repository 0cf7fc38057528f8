"""Recipes over recipes: what merges, what is replaced, where each value came from, and that a copy or a dump loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.config.copying import copy_recipe
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.config.schema import PRESET_NAMES, Recipe, json_schema
from maekit.config.shipped import shipped_recipes
from maekit.errors import UserError

GOOD = """\
name: mine
adapter: {name: heart_rate}
data: {spec: radar_phase_ecg}
schedule: {epochs: 3}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def extended(folder: Path, base: str, child: str, *overrides: str) -> LoadedRecipe:
    write(folder / "base.yaml", base)
    return load_recipe(write(folder / "child.yaml", "extends: base.yaml\n" + child), overrides)


@pytest.mark.parametrize(
    ("base", "child", "name", "options"),
    [
        ("span", "{length: 3}", "span", {"length": 3}),
        ("{name: span, length: 3}", "span", "span", {"length": 3}),
        ("{name: span, length: 3}", "block", "block", {}),
        ("{name: span, length: 3}", "{name: block}", "block", {}),
        ("{name: span, length: 3}", "{name: span, axis: time}", "span", {"length": 3, "axis": "time"}),
        ("{name: span, length: [1, 2]}", "{length: [3]}", "span", {"length": [3]}),
    ],
)
def test_choices_merge_by_name(base: str, child: str, name: str, options: dict[str, object], tmp_path: Path) -> None:
    recipe = extended(tmp_path, GOOD + f"model: {{masking: {base}}}\n", f"model: {{masking: {child}}}\n").recipe
    assert (recipe.model.masking.name, recipe.model.masking.options) == (name, options)


def test_another_kind_of_split_or_window_replaces(tmp_path: Path) -> None:
    base = GOOD.replace("ecg}", "ecg, split: {train: [a], test: [b]}, window: {axis: frame, length: 4, hop: 2}}")
    recipe = extended(tmp_path, base, "data: {split: {folds: 5}, window: {seconds: 10}}\n").recipe
    assert recipe.data.split is not None
    assert recipe.data.window is not None
    assert recipe.data.split.model_dump(exclude_unset=True) == {"folds": 5}
    assert recipe.data.window.model_dump(exclude_unset=True) == {"seconds": 10}
    recipe = extended(tmp_path, base, "data: {split: {validation: [c]}}\n", "data.window.seconds=5").recipe
    assert recipe.data.split is not None
    assert recipe.data.window is not None
    assert recipe.data.split.model_dump(exclude_unset=True) == {"train": ["a"], "test": ["b"], "validation": ["c"]}
    assert recipe.data.window.seconds == 5


def test_set_of_a_name_drops_the_options_of_the_other_but_not_what_was_set(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", GOOD + "model: {masking: {name: span, length: 3}}\n")
    assert load_recipe(path, ["model.masking.name=block"]).recipe.model.masking.options == {}
    assert load_recipe(path, ["model.masking.name=span"]).recipe.model.masking.options == {"length": 3}
    for order in (
        ["model.masking.size=2", "model.masking.name=block"],
        ["model.masking.name=block", "model.masking.size=2"],
    ):
        assert load_recipe(path, order).recipe.model.masking.options == {"size": 2}


def test_set_leaves_no_old_origin(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", GOOD + "model: {masking: {name: span, length: 3}}\n")
    loaded = load_recipe(path, ["model.masking={name: block, size: 2}", "adapter=image"])
    for keys in (("model", "masking", "name"), ("model", "masking", "size"), ("adapter", "name")):
        assert loaded.locate(*keys).startswith("--set "), keys
    assert loaded.locate("data", "spec") == f"{path}:3:8"


@pytest.mark.parametrize(
    "setting", ["seed", "=1", ".=1", "a..b=1", "extends=x.yaml", "model.encoder.width=8", "seed=[", "seed=!!int 5"]
)
def test_settings_that_are_none(setting: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", GOOD + "model: {encoder: vit_tiny}\n")
    with pytest.raises(UserError) as error:
        load_recipe(path, [setting])
    assert str(error.value).startswith(f"--set {setting}:")


def test_files_named_in_a_parent_elsewhere_stay_the_same_files(tmp_path: Path) -> None:
    write(
        tmp_path / "common" / "base.yaml", GOOD.replace("radar_phase_ecg", "own.yaml") + "init: {recipe: start.yaml}\n"
    )
    child = write(tmp_path / "mine" / "child.yaml", "extends: ../common/base.yaml\n")
    recipe = load_recipe(child).recipe
    assert recipe.init is not None
    assert (child.parent / recipe.data.spec).resolve() == tmp_path / "common" / "own.yaml"
    assert (child.parent / recipe.init.recipe).resolve() == tmp_path / "common" / "start.yaml"


def test_a_shipped_recipe_is_extended_and_started_from_by_its_name(tmp_path: Path) -> None:
    base = load_recipe("heart_rate/radar_phase_finetune")
    child = write(tmp_path / "a" / "child.yaml", "extends: heart_rate/radar_phase_finetune\nseed: 7\n")
    loaded = load_recipe(child)
    assert loaded.recipe.seed == 7
    assert loaded.recipe.model_copy(update={"seed": base.recipe.seed, "init": base.recipe.init}) == base.recipe
    assert loaded.recipe.init is not None
    assert loaded.recipe.init.recipe in shipped_recipes()
    assert base.pretraining_path is not None
    assert loaded.pretraining_path == base.pretraining_path.resolve()
    named = write(tmp_path / "b.yaml", GOOD + "init: {recipe: heart_rate/demo_pretrain}\n")
    assert load_recipe(named).pretraining_path == shipped_recipes()["heart_rate/demo_pretrain"]
    copied = copy_recipe(str(child), tmp_path / "copy")
    assert [path.name for path in copied.parent.iterdir()] == ["child.yaml"]
    assert load_recipe(copied).recipe == loaded.recipe


def test_extends_outside_is_refused_whether_or_not_it_is_there(tmp_path: Path) -> None:
    for outside in ("../../../../etc/passwd", "../../gone.yaml"):
        with pytest.raises(UserError, match="leaves the folder"):
            load_recipe(write(tmp_path / "a" / "b" / "c.yaml", f"extends: {outside}\n"))
    (tmp_path / "a" / "b" / "link.yaml").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="leaves the folder"):
        load_recipe(write(tmp_path / "a" / "b" / "c.yaml", "extends: link.yaml\n"))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("/etc/passwd", "relative"),
        ("5", "names one file"),
        ("[a]", "names one file"),
        (".", "extends a folder"),
        ("''", "extends a folder"),
        ("bas.yaml", "'base.yaml'"),
        ("x" * 300, "does not exist"),
    ],
)
def test_extends_that_is_none(value: str, part: str, tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", GOOD)
    with pytest.raises(UserError, match=part):
        load_recipe(write(tmp_path / "child.yaml", f"extends: {value}\n"))


def test_a_circle_shows_its_chain(tmp_path: Path) -> None:
    for one, other in ("ab", "bc", "ca"):
        write(tmp_path / f"{one}.yaml", f"extends: {other}.yaml\n")
    with pytest.raises(UserError, match=r"a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml"):
        load_recipe(tmp_path / "a.yaml")


def test_a_copy_over_folders_loads_and_never_overwrites(tmp_path: Path) -> None:
    write(tmp_path / "all" / "base" / "base.yaml", "# why\n" + GOOD)
    child = write(
        tmp_path / "all" / "mine" / "child.yaml", "extends: ../base/base.yaml\nseed: 4\ninit: {recipe: child.yaml}\n"
    )
    copied = copy_recipe(str(child), tmp_path / "copy")
    assert load_recipe(copied).recipe == load_recipe(child).recipe
    assert (tmp_path / "copy" / "base" / "base.yaml").read_text().startswith("# why")
    copied.write_text("changed")
    with pytest.raises(UserError, match="would overwrite"):
        copy_recipe(str(child), tmp_path / "copy")
    assert copied.read_text() == "changed"
    with pytest.raises(UserError, match="other folders"):
        copy_recipe(str(child), tmp_path / "one.yaml")


def test_a_copy_may_not_take_the_name_of_its_parent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has that name"):
        copy_recipe("heart_rate/demo_finetune", tmp_path / "demo_pretrain.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="would overwrite"):
        copy_recipe("heart_rate/demo_pretrain", tmp_path / "link.yaml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.yaml"]


@pytest.mark.parametrize(
    "text", ["extends: a.yaml\n", GOOD + "init: 5\n", GOOD.replace("{spec: radar_phase_ecg}", "[1]")]
)
def test_a_wrong_recipe_is_not_copied(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", text)
    with pytest.raises(UserError):
        copy_recipe(str(path), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_shows_copies_and_loads_again(name: str, tmp_path: Path) -> None:
    loaded = load_recipe(name)
    copied = copy_recipe(name, tmp_path / "copy")
    assert load_recipe(copied).recipe == loaded.recipe
    assert load_recipe(f"{name}.yaml").recipe == loaded.recipe
    for origins in (False, True):
        assert load_recipe(write(tmp_path / "shown.yaml", loaded.yaml(origins=origins))).recipe == loaded.recipe


def test_what_is_shown_cannot_be_changed_by_an_origin(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", GOOD)
    shown = load_recipe(path, ["description='one\n\nseed: 5'"]).yaml(origins=True)
    assert load_recipe(write(tmp_path / "b.yaml", shown)).recipe.seed == 0
    assert load_recipe(tmp_path / "b.yaml").recipe.description == "one\nseed: 5"


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
_options = st.dictionaries(
    (_text | st.sampled_from(["true", "1", "a: b", "nan", "#", "null"])).filter(lambda key: key not in ("name", "<<")),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**17), 10**17)
        | st.floats(allow_nan=False, allow_infinity=False)
        | _text
        | st.sampled_from(["001", "inf", "nan", "1e-4", "yes", "null", "1.", "a: b", "- a", "# c", "*x", "!!str"]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(_text.filter(lambda key: key != "<<"), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    max_size=4,
)
_sizes = st.sampled_from(PRESET_NAMES) | st.builds(
    lambda heads, factor, depth, drop: {"width": heads * factor, "depth": depth, "heads": heads, "drop_path": drop},
    st.integers(1, 16),
    st.integers(1, 64),
    st.integers(1, 40),
    st.floats(0, 0.99),
)
_names = st.lists(_text.filter(bool), max_size=3, unique=True)
_recipes = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,5}(/[a-z0-9]{1,5}){0,2}", fullmatch=True),
        "description": _text,
        "seed": st.integers(0, 10**17),
        "adapter": _options.map(lambda options: {**options, "name": "heart_rate"}),
        "data": st.fixed_dictionaries(
            {"spec": _text.filter(bool)},
            optional={
                "window": st.builds(lambda seconds: {"seconds": seconds}, st.floats(1e-6, 1e6))
                | st.builds(
                    lambda axis, length: {"axis": axis, "length": length, "pad": True},
                    _text.filter(bool),
                    st.integers(1, 99),
                ),
                "split": _names.map(lambda names: {"test": names})
                | st.integers(2, 9).map(lambda n: {"folds": n, "fold": 1})
                | _names.map(lambda names: {"folds": "leave_one_out", "exclude": names}),
                "labelled_groups": st.none() | st.integers(1, 9) | _names,
            },
        ),
        "model": st.fixed_dictionaries(
            {"encoder": _sizes, "decoder": _sizes, "mask_ratio": st.floats(0.01, 0.99)},
            optional={"masking": _options.map(lambda options: {**options, "name": "span"})},
        ),
        "schedule": st.builds(lambda epochs: {"epochs": epochs, "warmup_epochs": epochs / 3}, st.integers(1, 10**6)),
        "optimizer": st.fixed_dictionaries(
            {"base_lr": st.floats(1e-12, 10), "clip_grad": st.none() | st.floats(1e-3, 1e3)}
        ),
    }
)


@given(_recipes, st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_recipe_survives_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object], shown: bool
) -> None:
    recipe = Recipe.model_validate(content)
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(LoadedRecipe(recipe, path, {("seed",): "--set seed=\n1"}).yaml(origins=shown), encoding="utf-8")
    assert load_recipe(path).recipe == recipe


def test_schema_for_editors_lets_an_extending_file_leave_things_out() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert {"required": ["extends"]} in schema["anyOf"]
    assert {"type": "string"} in schema["$defs"]["Choice"]["anyOf"]
    assert schema["properties"]["data"] == {"$ref": "#/$defs/Data"}
    assert "required" not in schema["$defs"]["Data"]
    assert set(schema["properties"]) == {*Recipe.model_fields, "extends"}


def test_recipes_are_read_without_anything_heavy() -> None:
    code = (
        "import sys, maekit.config.load, maekit.config.schema;"
        "sys.exit(' '.join(m for m in ('torch', 'numpy', 'h5py', 'matplotlib', 'scipy') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_a_copy_that_a_killed_process_began_is_completed(tmp_path: Path) -> None:
    whole = copy_recipe("heart_rate/demo_finetune", tmp_path / "whole.yaml")
    base = tmp_path / "demo_pretrain.yaml"
    whole.unlink()
    copied = copy_recipe("heart_rate/demo_finetune", tmp_path / "mine.yaml")
    load_recipe(copied)
    with pytest.raises(UserError, match="would overwrite"):
        copy_recipe("heart_rate/demo_finetune", copied)
    copied.unlink()
    base.write_text(base.read_text() + "seed: 3\n")
    with pytest.raises(UserError, match=r"demo_pretrain.yaml: would overwrite"):
        copy_recipe("heart_rate/demo_finetune", copied)
    assert not copied.exists()
