"""A run is opened with the recipe and data spec that it was trained with, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maekit.build.identity import recipe_identity, spec_identity
from maekit.build.open_run import open_run
from maekit.config.data_spec import DataSpec, load_spec
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.config.shipped import shipped_recipes
from maekit.errors import UserError
from maekit.runs.embed import embed
from maekit.runs.evaluate import evaluate
from maekit.runs.train import finetune, pretrain


@pytest.fixture
def run(tiny: Path, tmp_path: Path) -> Path:
    return pretrain(tiny, runs=tmp_path, overrides=["schedule.epochs=1"]).folder


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edited_recipe_is_refused_wherever_the_run_is_opened(run: Path, tiny: Path, tmp_path: Path) -> None:
    metrics = evaluate(run)
    _edit(run / "recipe.yaml", "difference: true", "difference: false")
    uses: list[Callable[[], object]] = [
        lambda: evaluate(run),
        lambda: open_run(run, data=False),
        lambda: embed(run, tmp_path / "features.h5"),
        lambda: finetune(tiny, run, runs=tmp_path, overrides=["task=regression", "name=tuned"]),
    ]
    for use in uses:
        with pytest.raises(UserError, match=r"recipe\.yaml: edited since the run was trained: adapter"):
            use()
    _edit(run / "recipe.yaml", "difference: false", "difference: true")
    assert evaluate(run) == metrics


def test_an_edited_data_spec_is_refused(run: Path) -> None:
    spec = run / "data_spec.yaml"
    fields = json.loads(spec.read_text())
    spec.write_text(json.dumps(fields | {"title": "another"}))
    evaluate(run)
    spec.write_text(json.dumps(fields | {"missing_budget": 0.25}))
    with pytest.raises(UserError, match=r"data_spec\.yaml: edited since the run was trained: data spec"):
        evaluate(run)


def test_settings_for_one_command_and_comments_are_no_edits(run: Path) -> None:
    _edit(run / "recipe.yaml", "name: tiny", "# a note\nname: renamed")
    evaluate(run, overrides=["adapter.difference=false"])


def test_another_precision_is_not_resumed(run: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="they differ in precision"):
        pretrain(tiny, runs=tmp_path, overrides=["schedule.epochs=1", "training.precision=bfloat16"])


def test_recipes_have_the_same_identity_after_they_were_written_and_read(tmp_path: Path) -> None:
    names = list(shipped_recipes())
    assert names
    for name in names:
        loaded = load_recipe(name)
        recipe = loaded.recipe.model_copy(update={"init": None})
        written = tmp_path / "recipe.yaml"
        written.write_text(LoadedRecipe(recipe, loaded.path, loaded.origins).yaml())
        assert recipe_identity(load_recipe(written).recipe) == recipe_identity(loaded.recipe), name
        spec = load_spec(recipe.data.spec, loaded.path.parent)
        (tmp_path / "data_spec.yaml").write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
        assert spec_identity(load_spec("data_spec.yaml", tmp_path)) == spec_identity(spec), name


def test_a_key_with_its_default_does_not_change_the_identity_of_a_spec() -> None:
    text = {"name": "x", "files": "*.h5", "signal": {"path": "x", "axes": ["time"], "rate_hz": 50}}
    plain = DataSpec.model_validate(text)
    stated = DataSpec.model_validate(text | {"missing_budget": 0.5, "kind": "hdf5", "auxiliary": {}})
    other = DataSpec.model_validate(text | {"missing_budget": 0.4})
    assert spec_identity(plain) == spec_identity(stated) != spec_identity(other)
