"""What a run is tied to: digests of its recipe and data spec, kept in its checkpoints and compared wherever it is opened."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from maekit.config.data_spec import DataSpec, load_spec
from maekit.config.load import load_recipe
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from maekit.config.schema import Recipe

MUST_AGREE = ("seed", "adapter", "augment", "data", "model", "task", "optimizer", "schedule")
"""Sections of a recipe that a checkpoint is tied to; how often it saves or logs may change."""
NOT_THE_DATA = {"root", "spec", "bad_samples"}
"""Keys of `data` that may change too: where the files lie, and how many may be unreadable."""
NOT_THE_MEANING = {"title", "licence", "citation", "folder", "convert"}
"""Keys of a data spec that may change: descriptions, where the files lie, and how they were converted."""
SPEC = "data spec"
RECIPE_FILE, SPEC_FILE = "recipe.yaml", "data_spec.yaml"
"""In a run folder: the recipe and the data spec that it was trained with."""


def recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """Digests of the sections of a resolved recipe that decide the weights, by name."""
    sections = recipe.model_dump(mode="json")
    sections["data"] = {key: value for key, value in sections["data"].items() if key not in NOT_THE_DATA}
    # Left out where there are none, so that runs from before there could be some go on.
    names = [*MUST_AGREE, *(["auxiliary"] if sections["auxiliary"] else [])]
    training = {key: sections["training"][key] for key in ("batch_size", "ema", "precision")}
    return {name: _digest(sections[name]) for name in names} | training


def spec_identity(spec: DataSpec) -> dict[str, Any]:
    """Digest of the part of a data spec that decides what a sample is.

    Keys with their defaults are left out, so that a run goes on with a later maekit that knows further keys.
    """
    return {SPEC: _digest(spec.model_dump(mode="json", exclude=NOT_THE_MEANING, exclude_defaults=True))}


def check_identity(run: Path, trained: Mapping[str, Any]) -> None:
    """Compare the recipe and the data spec in a run folder with those that the run was trained with.

    Args:
        run: the folder.
        trained: the identity in a checkpoint of the run.

    Raises:
        UserError: one of the two files was edited since.
    """
    stated = recipe_identity(load_recipe(run / RECIPE_FILE).recipe)
    differing = {name: RECIPE_FILE for name, value in stated.items() if trained.get(name) != value}
    if "auxiliary" in trained and "auxiliary" not in stated:
        differing["auxiliary"] = RECIPE_FILE
    if spec_identity(load_spec(SPEC_FILE, run))[SPEC] != trained.get(SPEC):
        differing[SPEC] = SPEC_FILE
    if differing:
        raise UserError(
            "edited since the run was trained: " + ", ".join(sorted(differing)),
            location=", ".join(str(run / file) for file in dict.fromkeys(differing.values())),
            expected="the recipe and data spec that the weights were trained with",
            hint="Undo the change, or try it for one command with `--set`.",
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
