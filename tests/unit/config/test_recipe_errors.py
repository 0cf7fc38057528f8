"""What a mistake in a recipe gets: the place, the value, what was expected, and only the errors of what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from maekit.config.data_spec import Signal
from maekit.config.load import load_recipe
from maekit.config.schema import Recipe
from maekit.config.units import advice_on_key, advice_on_value
from maekit.config.validate import validate
from maekit.errors import UserError

GOOD = """\
name: mine
adapter: {name: heart_rate}
data: {spec: spec.yaml}
schedule: {epochs: 3}
"""


def data(more: str) -> str:
    return GOOD.replace("spec.yaml}", f"spec.yaml, {more}}}")


def message(folder: Path, text: str, *settings_: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_recipe(path, settings_)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "Seed: 1\n", ["recipe.yaml:5:1", "unknown key Seed", "'seed'"]),
        (GOOD + "mask_ratio: 0.5\n", ["Did you mean 'model.mask_ratio'"]),
        (GOOD + "beside: {}\n", ["recipe.yaml:5:1", "unknown key beside", "It is now called 'auxiliary'"]),
        (GOOD + "training: {accumulation: 2}\n", ["recipe.yaml:5:12", "now called 'gradient_accumulation_steps'"]),
        (
            GOOD.replace("epochs: 3", "epochs: 3, epoch_samples: 9"),
            ["recipe.yaml:4:23", "now called 'samples_per_epoch'"],
        ),
        (GOOD + "trust: 0.1\n", ["Did you mean 'optimizer.trust_coefficient'"]),
        (
            GOOD + "model: {encoder: {width:192, depth:12, heads:3}}\n",
            ["recipe.yaml:5:19: no blank", "Write `width: 192`"],
        ),
        (GOOD + "model:\n  encoder:\n    width:192\n    depth:12\n", ["recipe.yaml:7:5: no blank", "`width: 192`"]),
        (GOOD + "seed:1\nmodel: {}\n", ["recipe.yaml:5:1: no blank", "`seed: 1`"]),
        (GOOD + "model: {base_lr: 0.1}\n", ["Did you mean 'optimizer.base_lr'"]),
        (GOOD + "training: {batch-size: 3}\n", ["'batch_size'"]),
        (GOOD + "training: {precision: bf16}\n", ["'bfloat16'"]),
        (GOOD + "optimizer: {name: sgd}\n", ["optimizer.name", "'adamw'"]),
        (GOOD + "optimizer: {betas: [0.9, 1.0]}\n", ["optimizer.betas.1", "recipe.yaml:5:26", "less than 1"]),
        (GOOD + "optimizer: {betas: 0.9}\n", ["optimizer.betas", "a list"]),
        (GOOD + "optimizer: {layer_decay: 0}\n", ["greater than 0"]),
        (GOOD + "optimizer: {layer_decay: 1.5}\n", ["less than or equal to 1"]),
        (GOOD + "optimizer: {clip_grad: 'inf'}\n", ["optimizer.clip_grad", "finite"]),
        (GOOD + "optimizer: {base_lr: true}\n", ["recipe.yaml:5:13", "base_lr", "not true or false"]),
        (GOOD + "optimizer: {betas: [true, 0.9]}\n", ["optimizer.betas.0"]),
        (data("window: {length: true}"), ["data.window.length"]),
        (GOOD.replace("epochs: 3", "epochs: true"), ["recipe.yaml:4:12", "schedule.epochs"]),
        (GOOD.replace("epochs: 3", "epochs: 0"), ["recipe.yaml:4:12", "greater than 0"]),
        (
            GOOD.replace("epochs: 3", "epochs: 3, warmup_epochs: 9"),
            ["recipe.yaml:4:23", "9 is longer than the 3 epochs"],
        ),
        (GOOD + "training: {batch_size: 0}\n", ["training.batch_size", "greater than 0"]),
        (
            GOOD + "training: {batch_size: 5, gradient_accumulation_steps: 2}\n",
            ["recipe.yaml:5:27", "does not divide into 2"],
        ),
        (
            GOOD + "model: {encoder: {width: 10, depth: 1, heads: 3}}\n",
            ["recipe.yaml:5:40", "does not divide into 3 heads"],
        ),
        (GOOD + "model: {encoder: {width: 8, depth: 1, heads: 2, mlp_ratio: 0.01}}\n", ["no hidden unit"]),
        (GOOD + "model: {encoder: 5}\n", ["model.encoder cannot be this", "'vit_tiny'", "width, depth, heads"]),
        (GOOD + "model: {decoder: tiny}\n", ["Did you mean 'vit_tiny'"]),
        (GOOD + 'description: "a\\0b"\n', ["recipe.yaml:5:1", "holds a NUL character"]),
        (GOOD + 'model: {masking: {name: span, "a\\0b": 1}}\n', ["holds a NUL character"]),
        (GOOD + 'extends: "a\\0b"\n', ["extends a file that does not exist"]),
        (GOOD + "model: {masking: [a]}\n", ["model.masking", "a name, or a mapping"]),
        (GOOD + "model:\n", ["recipe.yaml:5:1: model holds keys", "leave it out"]),
        (data("labelled_groups: 0"), ["data.labelled_groups: should be greater than 0"]),
        (data("labelled_groups: p1"), ["labelled_groups cannot be this", "a whole number or a list"]),
        (data("bad_samples: some"), ["data.bad_samples cannot be this", "a whole number, or a share"]),
        (data("bad_samples: 1.5"), ["data.bad_samples: should be less than 1"]),
        (data("split: {train: 3}"), ["data.split.train cannot be this", "a list of groups, or 'rest'"]),
        (data("split: loo"), ["data.split cannot be this", "folds"]),
        (data("split: {trian: [a]}"), ["'train'"]),
        (data("split: {folds: 5, fol: 1}"), ["unknown key data.split.fol;", "'fold'"]),
        (data("split: {folds: leave_one_ot}"), ["'leave_one_out'"]),
        (data("split: {folds: 5, fold: 5}"), ["counted from 0 to 4"]),
        (data("split: {train: [a], test: [a]}"), ["'a' is in both"]),
        (data("split: {train: [a], folds: 5}"), ["do not go together"]),
        (data("window: {seconds: 10 s}"), ["recipe.yaml:3:34", "'10 s'", "(10), in seconds"]),
        (data("window: {seconds: 500 ms}"), ["(0.5), in seconds"]),
        (data("window: {seconds: 2min}"), ["(120), in seconds"]),
        (data("window: {seconds: 50 Hz}"), ["a number in seconds", "'Hz' is no such unit"]),
        (data("window: {length: 10 s}"), ["`length` names no unit"]),
        (data("window: {window_ms: 500}"), ["`seconds: 0.5`"]),
        (data("window: {seconds: 10, hop_ms: 500}"), ["`hop_seconds: 0.5`"]),
    ],
)
def test_one_mistake_gets_one_message(text: str, parts: list[str], tmp_path: Path) -> None:
    said = message(tmp_path, text)
    for part in parts:
        assert part in said, said
    assert " errors" not in said
    assert said.count("recipe.yaml") == 1, said


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/../b", ".", "..", ".hidden", "-rf", "a b", "a\\b", "a*", "a/", "é", "x" * 201]
)
def test_names_that_are_no_folder(name: str, tmp_path: Path) -> None:
    said = message(tmp_path, GOOD.replace("mine", f"'{name}'"))
    assert "recipe.yaml:1:1: name: the name becomes a folder" in said


def test_several_mistakes_get_one_message_with_all(tmp_path: Path) -> None:
    said = message(
        tmp_path, data("split: {folds: 1}").replace("3}", "three}") + "sed: 3\nmodel: {encoder: {width: 8, head: 2}}\n"
    )
    for part in ("6 errors", "data.split.folds", "schedule.epochs", "'seed'", "depth is missing", "'heads'"):
        assert part in said, said
    assert len(said.splitlines()) == 1 + 6


def test_rates_with_units() -> None:
    with pytest.raises(UserError, match=r"rate_hz.*\(50\), in hertz"):
        validate(Signal, {"path": "x", "axes": ["time"], "rate_hz": "50Hz"}, str)
    with pytest.raises(UserError, match=r"`rate_hz: 50000`"):
        validate(Signal, {"path": "x", "axes": ["time"], "rate_khz": 50}, str)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("patch_ms", "1 s", "(1000)"),
        ("range_m", "30cm", "(0.3)"),
        ("speed_mps", "36 km/h", "(10)"),
        ("floor_db", "-60 dB", "(-60)"),
        ("low_hz", "500 mHz", "(0.5)"),
        ("carrier_hz", "2MHz", "(2000000)"),
        ("seconds", "10", ""),
        ("seconds", "ten s", ""),
        ("seconds", 5, ""),
        ("m", "5 m", "names no unit"),
    ],
)
def test_advice_on_values(key: str, text: object, expected: str) -> None:
    advice = advice_on_value(key, text)
    assert expected in advice
    assert bool(advice) == bool(expected)


def test_advice_on_keys_needs_a_key_of_that_dimension() -> None:
    assert advice_on_key("window_ms", 5, ["length", "hop"]) == ""
    assert advice_on_key("rate_khz", "fast", ["rate_hz"]) == "Did you mean 'rate_hz', in hertz?"
    assert advice_on_key("duration", 5, ["seconds"]) == ""


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["a", "vit_tiny", "5 s", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "split",
                    "folds",
                    "train",
                    "window",
                    "seconds",
                    "length",
                    "encoder",
                    "width",
                    "heads",
                    "masking",
                    "labelled_groups",
                    "x",
                    "rate_ms",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "Seed", "x_ms"]), _json, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_data_is_a_recipe_or_a_message(given_data: dict[str, object]) -> None:
    try:
        made = validate(Recipe, given_data, str)
    except UserError:
        return
    assert isinstance(made, BaseModel)


@pytest.mark.parametrize("size", ["width=4294967296", "depth=1000000000", "mlp_ratio=1.0e+30"])
def test_sizes_that_no_machine_holds_are_refused_before_anything_is_made(size: str, tiny: Path) -> None:
    with pytest.raises(UserError, match=rf"model.encoder.{size.partition('=')[0]}: should be less than or equal to"):
        load_recipe(tiny, [f"model.encoder.{size}"])
