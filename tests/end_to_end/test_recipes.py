"""Recipes: what they may say, where a mistake is found, and that every shipped one builds and takes a step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_stand_ins import stand_in_task

from maekit.config.copying import copy_recipe
from maekit.config.load import load_recipe
from maekit.config.schema import json_schema
from maekit.config.shipped import header, shipped_recipes
from maekit.config.yaml import parse
from maekit.errors import UserError
from maekit.runs.train import finetune, pretrain

GOOD = """\
name: mine
adapter: {name: heart_rate}
data: {spec: spec.yaml}
schedule: {epochs: 3}
"""


def problem(text: str, tmp_path: Path, *overrides: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_recipe(path, overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "optimiser: {}\n", ["recipe.yaml:5:1", "unknown key optimiser", "Did you mean 'optimizer'?"]),
        (GOOD + "optimizer: {base_lrr: 1e-3}\n", ["recipe.yaml:5:13", "optimizer.base_lrr", "Did you mean 'base_lr'?"]),
        (GOOD + "seed: 1\nseed: 2\n", ["recipe.yaml:6:1", "a key given twice", "recipe.yaml:5:1"]),
        (GOOD + "model:\n\tmask_ratio: 0.5\n", ["recipe.yaml:6", "tab", "Indent with spaces"]),
        (GOOD + "model: !!python/object:os.system {}\n", ["recipe.yaml:5:8", "a YAML tag"]),
        (GOOD + "seed: !env SEED\n", ["recipe.yaml:5:7", "a YAML tag", "!env"]),
        (GOOD + "model: {mask_ratio: .nan}\n", ["recipe.yaml:5:21", "not finite"]),
        (GOOD + "optimizer: {base_lr: 1e999}\n", ["not finite"]),
        (GOOD + "model: {mask_ratio: 1}\n", ["recipe.yaml:5:9", "less than 1"]),
        (GOOD + "model: {mask_ratio: 0}\n", ["greater than 0"]),
        (GOOD + "model: {encoder: vit_bas}\n", ["vit_bas", "Did you mean 'vit_base'?"]),
        (GOOD + "model: {encoder: {width: 10, depth: 1, heads: 3}}\n", ["does not divide into 3 heads"]),
        (GOOD.replace("epochs: 3", "epochs: 3, warmup_epochs: 9"), ["longer than the 3 epochs"]),
        (GOOD.replace("mine", "../mine"), ["becomes a folder"]),
        (GOOD.replace("mine", "/mine"), ["becomes a folder"]),
        (GOOD.replace("mine", "a//b"), ["becomes a folder"]),
        (
            GOOD.replace("spec.yaml}", "spec.yaml, window: {seconds: 10 s}}"),
            ["recipe.yaml:3:34", "10 s", "number alone (10)"],
        ),
        (GOOD.replace("spec.yaml}", "spec.yaml, window: {window_ms: 10}}"), ["window_ms"]),
        (GOOD + "extends: gone.yaml\n", ["recipe.yaml:5:1", "does not exist"]),
        (GOOD + "extends: ../../../etc/passwd\n", ["leaves the folder"]),
        (GOOD + "extends: recipe.yaml\n", ["circle", "recipe.yaml -> recipe.yaml"]),
        ("- a\n- b\n", ["no mapping"]),
        ("", ["empty file"]),
        ("a: [1\n", ["not valid YAML"]),
        (GOOD + "---\na: 1\n", ["more than one document"]),
        (GOOD + "<<: {a: 1}\n", ["a merge key"]),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
            ["expand without end"],
        ),
        (
            GOOD.replace("epochs: 3", "epochs: three") + "optimizer: {weight_decay: -1}\nsed: 3\n",
            ["3 errors", "schedule.epochs", "optimizer.weight_decay", "Did you mean 'seed'?"],
        ),
    ],
)
def test_what_a_wrong_recipe_gets(text: str, expected: list[str], tmp_path: Path) -> None:
    message = problem(text, tmp_path)
    for part in expected:
        assert part in message, message


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00name")
    for path, part in [
        (tmp_path, "a folder"),
        (tmp_path / "recipe.yaml", "no UTF-8"),
        (tmp_path / "recip.yaml", "no such recipe"),
    ]:
        with pytest.raises(UserError, match=part):
            load_recipe(path)
    (tmp_path / "recipe.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(UserError, match="file too large"):
        load_recipe(tmp_path / "recipe.yaml")


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD)
    loaded = load_recipe(
        path, ["optimizer.base_lr=1e-4", "model.masking={name: span, length: 3}", "data.window={seconds: 5}", "seed=7"]
    )
    assert loaded.recipe.optimizer.base_lr == 1e-4
    assert loaded.recipe.model.masking.options == {"length": 3}
    assert loaded.recipe.data.window is not None
    assert loaded.recipe.seed == 7
    assert loaded.locate("seed") == "--set seed=7"
    assert loaded.locate("schedule", "epochs").endswith("recipe.yaml:4:12")
    assert "--set optimizer.base_lrr=1" in problem(GOOD, tmp_path, "optimizer.base_lrr=1")
    assert "not a setting" in problem(GOOD, tmp_path, "seed")
    assert "seed: should be a valid integer" in problem(GOOD, tmp_path, "seed.x=1")


def test_extends_merges_and_says_where_from(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD + "model: {masking: {name: span, length: 3}, mask_ratio: 0.5}\n")
    child = tmp_path / "child.yaml"
    child.write_text(
        "extends: base.yaml\nname: other\nmodel:\n  masking: {name: block}\nschedule: {warmup_epochs: 1}\n"
    )
    loaded = load_recipe(child)
    assert loaded.recipe.model.masking.options == {}
    assert loaded.recipe.model.mask_ratio == 0.5
    assert loaded.recipe.schedule.epochs == 3
    shown = loaded.yaml(origins=True)
    assert "base.yaml:5:43" in next(line for line in shown.splitlines() if "mask_ratio" in line)
    assert "child.yaml:2:1" in next(line for line in shown.splitlines() if line.startswith("name"))
    assert "default" in next(line for line in shown.splitlines() if "weight_decay" in line)
    (tmp_path / "again.yaml").write_text(shown)
    assert load_recipe(tmp_path / "again.yaml").recipe == loaded.recipe


@given(
    st.text(max_size=60)
    | st.sampled_from(["a: *b", "? [1]: 2", "a: &x {b: *x}", "!!set {a}", "{a: [}", "\x00", "a: 0x1f"])
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "fuzz")
    except UserError:
        return


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    )
)
@settings(max_examples=150, deadline=None)
def test_values_survive_writing_and_reading(value: object) -> None:
    from maekit.config.render import scalar

    if isinstance(value, str) and not value.isprintable():
        return
    text = scalar(value)
    try:
        assert parse(f"key: {text}\n", "round trip").data["key"] == value
    except UserError:
        assert not str(value).isprintable()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, maekit.cli.main, maekit.config.load as r; r.load_recipe('heart_rate/demo_finetune');"
        "sys.exit(' '.join(m for m in ('torch', 'numpy', 'h5py', 'matplotlib') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_schema_and_copy(tmp_path: Path) -> None:
    json.dumps(json_schema())
    copied = copy_recipe("heart_rate/radar_phase_finetune", tmp_path / "mine")
    assert load_recipe(copied).recipe == load_recipe("heart_rate/radar_phase_finetune").recipe
    with pytest.raises(UserError, match="would overwrite"):
        copy_recipe("heart_rate/radar_phase_finetune", tmp_path / "mine")


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_says_what_it_gives(name: str) -> None:
    text = header(shipped_recipes()[name])
    assert "maekit " in text, "the header names its command"
    assert len(text.splitlines()) >= 2


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_takes_a_step(name: str, tmp_path: Path) -> None:
    """On stand-ins of the right shape, written by the test, for data that cannot be shipped."""
    task, batch = stand_in_task(name, tmp_path)
    task.train()
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
    loss = task(batch).loss
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert task(batch).loss.item() != loss.item()


def test_options_are_checked_where_they_stand(tiny: Path, tmp_path: Path) -> None:
    cases = {
        "adapter.patch_sec=1": "heart_rate has no option patch_sec.*Did you mean 'patch_s'",
        "adapter.patch_s=often": "heart_rate.patch_s: input should be a valid number",
        "adapter.patch_s=0.7": "does not divide the time axis",
        "model.masking.name=spam": "Did you mean 'span'",
        "model.masking={name: span, length: 400}": "expected 1 to",
        "model.mask_ratio=0.99": "mask_ratio 0.99 keeps 0 of",
        "task={name: regression, tune: frozn}": "frozn",
        "task=classification": "does not fit the labels",
        "data.split={validation: [p000], test: [p000]}": "in both validation and test",
        "data.split={test: [p00x]}": "names a group that is not in the data",
        "data.spec=gone": "no shipped data spec",
        "data.root=gone": "no such folder",
        "training.batch_size=4000": "do not fill one step",
    }
    for override, message in cases.items():
        verb = pretrain if "task" not in override else lambda *a, **k: finetune(a[0], "random", **k)
        with pytest.raises(UserError, match=message):
            verb(tiny, runs=tmp_path / "runs", overrides=[override])
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_yaml_numbers_are_numbers() -> None:
    data = parse("a: 1e-4\nb: 1.5E3\nc: yes\nd: true\ne: '1'\nf: 0o17\ng: -.5\nh: 12\ni: null\n", "x").data
    assert data == {"a": 1e-4, "b": 1500.0, "c": "yes", "d": True, "e": "1", "f": "0o17", "g": -0.5, "h": 12, "i": None}
    assert yaml.safe_load("a: 1e-4") == {"a": "1e-4"}  # why we do not use it as it is
