"""Weights under a prefix that a trainer put before every name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_interop import recipes, vitmae  # noqa: F401  (a fixture)

from maekit.build.weights import read_weights
from maekit.errors import UserError
from maekit.interop.weight_export import export_weights
from maekit.interop.weight_import import import_weights
from maekit.runs.train import pretrain


@pytest.fixture
def official(recipes: Path) -> dict[str, torch.Tensor]:  # noqa: F811
    """Weights of an encoder and its decoder in the authors' layout."""
    pretrain(str(recipes / "pretrain.yaml"), runs=recipes / "runs")
    export_weights(recipes / "runs/mine", recipes / "plain.pth", "official")
    weights: dict[str, torch.Tensor] = torch.load(recipes / "plain.pth", weights_only=True)["model"]
    return weights


def _import(folder: Path, content: Any, to: str, **options: Any) -> list[str]:
    torch.save(content, folder / f"{to}.pth")
    return import_weights(folder / f"{to}.pth", folder / "pretrain.yaml", folder / to, **options)


@pytest.mark.parametrize(
    "prefix", ["model.", "backbone.", "module.", "_orig_mod.", "encoder.", "model.module.backbone.", "net.0."]
)
def test_a_shared_prefix_is_removed_and_named(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
    prefix: str,
) -> None:
    _import(recipes, {"model": official}, "plain")
    renamed = {prefix + name: value for name, value in official.items()}
    notes = _import(recipes, {"state_dict": renamed, "epoch": 3}, "prefixed")
    assert f"under the prefix '{prefix}'" in notes[0]
    plain, prefixed = read_weights(recipes / "plain"), read_weights(recipes / "prefixed")
    assert plain.keys() == prefixed.keys()
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)


@pytest.mark.parametrize("prefix", ["model.", "module.mae."])
def test_prefixes_before_hugging_faces_names(recipes: Path, prefix: str) -> None:  # noqa: F811
    weights = vitmae().state_dict()
    _import(recipes, weights, "plain")
    notes = _import(recipes, {prefix + name: value for name, value in weights.items()}, "prefixed")
    assert f"layout huggingface, under the prefix '{prefix}'" in notes[0]
    plain, prefixed = read_weights(recipes / "plain"), read_weights(recipes / "prefixed")
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)


def test_weights_outside_the_prefix_are_never_taken_for_the_networks(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
) -> None:
    content = {f"backbone.{name}": value for name, value in official.items()}
    content |= {"projector.0.weight": torch.zeros(8, 48), "decoder.norm.weight": torch.full((32,), 7.0)}
    with pytest.raises(UserError, match=r"beside those under the prefix 'backbone\.'.*--partial leaves them out"):
        _import(recipes, content, "refused")
    notes = _import(recipes, content, "partial", partial=True)
    assert any("left out, without this prefix" in note and "projector" in note for note in notes)
    assert not (read_weights(recipes / "partial")["model.decoder.norm.weight"] == 7).any()
    facts = json.loads((recipes / "partial/imported.json").read_text())
    assert facts["left out"] == ["projector.0.weight", "decoder.norm.weight"]


def test_between_several_networks_the_person_chooses(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
) -> None:
    content = {f"student.backbone.{name}": value for name, value in official.items()}
    content |= {f"teacher.backbone.{name}": value + 1 for name, value in official.items()}
    with pytest.raises(UserError, match=r"several networks.*--key student\.backbone"):
        _import(recipes, {"state_dict": content}, "refused")
    _import(recipes, {"state_dict": content}, "teacher", key="teacher.backbone")
    token = read_weights(recipes / "teacher")["model.encoder.cls_token"]
    assert torch.equal(token, official["cls_token"] + 1)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.q_bias"], "biases of their own"),
        (["patch_embed.proj.weight", "blocks.0.norm1.weight"], "There is no `cls_token`"),
    ],
)
def test_encoders_of_another_kind_are_named_as_such(
    recipes: Path,  # noqa: F811
    names: list[str],
    reason: str,
) -> None:
    with pytest.raises(UserError, match=reason) as raised:
        _import(recipes, {"model": {name: torch.zeros(4, 3, 2, 2) for name in names}}, "refused", partial=True)
    assert "maekit's own" not in str(raised.value)


def test_an_encoder_of_another_architecture_is_refused_whatever_may_be_left_out(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
) -> None:
    token = {"module." + name if i % 2 else name: value for i, (name, value) in enumerate(official.items())}
    for i, content in enumerate(
        (
            official | {"blocks.0.ls1.gamma": torch.zeros(48)},
            {name: value for name, value in official.items() if not name.startswith("blocks.1.")},
            official | {"norm_pre.weight": torch.ones(48)},
            token,
        )
    ):
        with pytest.raises(
            UserError, match=r"another architecture; (missing|unexpected): \S*(blocks|norm_pre|patch_embed)"
        ):
            _import(recipes, {"model": content}, f"refused{i}", partial=True)
    official["norm.weight"] = official["norm.weight"] * torch.nan
    with pytest.raises(UserError, match=r"not finite.*norm\.weight"):
        _import(recipes, {"model": official}, "diverged")


def test_separate_queries_keys_and_values_are_joined(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
) -> None:
    _import(recipes, {"model": official}, "plain")
    separate: dict[str, torch.Tensor] = {}
    for name, value in official.items():
        if name.startswith("blocks.") and ".qkv." in name:
            separate |= {name.replace("qkv", letter): part for letter, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            separate[name] = value
    _import(recipes, {"model": separate}, "separate")
    plain, joined = read_weights(recipes / "plain"), read_weights(recipes / "separate")
    assert all(torch.equal(plain[name], joined[name]) for name in plain)


def test_weights_that_stand_one_level_further_down_are_a_set_too(
    recipes: Path,  # noqa: F811
    official: dict[str, torch.Tensor],
) -> None:
    average = {name: value + 1 for name, value in official.items()}
    content = {"state_dict": official, "ema": {"decay": 0.99, "module": average}}
    with pytest.raises(UserError, match=r"several sets of weights; got 'state_dict, ema\.module'"):
        _import(recipes, content, "refused")
    _import(recipes, content, "average", key="ema.module")
    assert torch.equal(read_weights(recipes / "average")["model.encoder.cls_token"], average["cls_token"])
