"""`maekit recipe check`: what it calls right can be made, and what it refuses is named where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from maekit.build.recipe_check import construct_recipe
from maekit.config.load import load_recipe
from maekit.errors import UserError

STATED = """\
name: stated
files: "*.h5"
records: "/*"
signal: {path: signal, axes: [time], unit: mm, rate_hz: RATE}
label: {path: label, unit: bpm}
window: {axis: time, seconds: 10}
split: {test: [a]}
"""
RECIPE = """\
name: stated
adapter: {name: heart_rate, rate_hz: 10, patch_s: 1.0}
data: {spec: spec.yaml, root: nowhere}
model: {encoder: {width: 16, depth: 1, heads: 2}, decoder: {width: 8, depth: 1, heads: 2}}
schedule: {epochs: 1}
"""


def check(folder: Path, recipe: str, *overrides: str, rate: str = "50", **lengths: int) -> str:
    (folder / "spec.yaml").write_text(STATED.replace("RATE", rate))
    (folder / "recipe.yaml").write_text(recipe)
    return construct_recipe(load_recipe(folder / "recipe.yaml", overrides), lengths)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.patch_s=0.73", "whole number of samples"),
        ("adapter.patch_s=3", "does not divide the time axis"),
        ("model.masking={name: span, length: 400}", r"--set model.masking.*length=400, expected 1 to 9"),
        ("model.mask_ratio=0.99", "mask_ratio 0.99 keeps 0 of"),
        ("model.backbone={name: cnn, width: wide}", "cnn.width"),
        ("model.target={name: band, low: 3, high: 2}", "--set model.target"),
        ("model.target=tokens", "needs a tokenizer"),
        ("task={name: regression, bins: -1}", "regression: bins=-1"),
        ("task={name: regression, tune: frozn}", "tune"),
        ("task=classification", "does not fit the labels"),
        ("auxiliary={camera: image}", "auxiliary"),
        ("data.spec=gone", "no shipped data spec"),
    ],
)
def test_what_would_fail_at_the_first_step_is_refused_without_data(override: str, message: str, tmp_path: Path) -> None:
    assert check(tmp_path, RECIPE) == ""
    with pytest.raises(UserError, match=message):
        check(tmp_path, RECIPE, override)


def test_a_default_that_does_not_fit_the_rate_is_refused(tmp_path: Path) -> None:
    recipe = RECIPE.replace("rate_hz: 10, patch_s: 1.0", "rate_hz: 8")  # 0.4 s are 3.2 samples at 8 Hz
    with pytest.raises(UserError, match=r"patch_s 0\.4 is no whole number of samples at 8 Hz"):
        check(tmp_path, recipe)


def test_the_rate_that_an_adapter_resamples_to_stands_in_for_one_that_only_files_tell(tmp_path: Path) -> None:
    assert check(tmp_path, RECIPE, rate="{attribute: rate}") == ""
    with pytest.raises(UserError, match="whole number of samples at 10 Hz"):
        check(tmp_path, RECIPE, "adapter.patch_s=0.33", rate="{attribute: rate}")


def test_lengths_that_only_files_tell_are_asked_for(tmp_path: Path) -> None:
    rate = "{attribute: rate_hz}"
    as_recorded = RECIPE.replace("rate_hz: 10, ", "")
    assert "--axis time=NUMBER" in check(tmp_path, as_recorded, rate=rate)
    assert check(tmp_path, as_recorded, rate=rate, time=500) == ""
    with pytest.raises(UserError, match="patch of 70 does not divide"):
        check(tmp_path, RECIPE.replace("patch_s: 1.0", "patch_s: 7.0"), rate=rate, time=500)


def test_lengths_are_read_from_files_that_are_there(tiny: Path) -> None:
    assert construct_recipe(load_recipe(tiny), {}) == ""
    with pytest.raises(UserError, match="patch of 7 does not divide"):
        construct_recipe(load_recipe(tiny, ["adapter.patch_s=0.7"]), {})


def test_a_huge_model_is_checked_without_its_memory() -> None:
    assert construct_recipe(load_recipe("image/imagenet/pretrain_huge_1600"), {}) == ""


def test_auxiliary_signals_are_checked_too() -> None:
    lengths = {"range": 64, "azimuth": 64, "height": 64, "width": 128}
    assert construct_recipe(load_recipe("range_azimuth/street_joint_pretrain"), lengths) == ""
    with pytest.raises(UserError, match="Did you mean 'patch'"):
        construct_recipe(load_recipe("range_azimuth/street_joint_pretrain", ["auxiliary.image.patc=8"]), lengths)
    with pytest.raises(UserError, match=r"image: .*patch"):
        construct_recipe(load_recipe("range_azimuth/street_joint_pretrain", ["auxiliary.image.patch=7"]), lengths)
