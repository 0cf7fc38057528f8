"""The tokenizer that a recipe's target names: a run that trained one, or a plug-in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maekit import plugins
from maekit.build.weights import load_strictly, read_weights
from maekit.config.load import load_recipe
from maekit.config.options import construct
from maekit.config.schema import Choice
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.adapter import Adapter, ChannelStatistics
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Recipe
    from maekit.core.tokenizer import Tokenizer

OPTION = ("model", "target", "tokenizer")
PRIMARY = "fsq"


def make_tokenizer(loaded: LoadedRecipe, adapter: Adapter, statistics: ChannelStatistics | None) -> Tokenizer:
    """What `model.target.tokenizer` says: the folder of a run of the task `tokenizer`, or `{name: ..., options}`.

    Raises:
        UserError: none is named, no such run or plug-in, or one trained on other patches.
    """
    given, location = loaded.recipe.model.target.options.get("tokenizer"), loaded.locate(*OPTION)
    choice = _choice(given, location)
    kind = plugins.find("tokenizers", choice.name, location=location)
    tokenizer: Tokenizer = construct(kind, choice, loaded, OPTION, adapter.patchifier)
    if isinstance(given, str):
        _load(tokenizer, Path(given), statistics, location)
    return tokenizer


def spelled_out(recipe: Recipe) -> Recipe:
    """The recipe with a tokenizer's run replaced by its kind and size: the weights travel in the new run's checkpoints."""
    target = recipe.model.target
    given = target.options.get("tokenizer")
    if not isinstance(given, str):
        return recipe
    tokenizer = _choice(given, OPTION[-1])
    named = Choice(name=target.name, **(target.options | {"tokenizer": {"name": tokenizer.name, **tokenizer.options}}))
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"target": named})})


def _choice(given: Any, location: str) -> Choice:
    if isinstance(given, dict) and isinstance(given.get("name"), str):
        return Choice(**given)
    if not isinstance(given, str):
        raise UserError(
            "which tokenizer?",
            location=location,
            value=given,
            expected="`tokenizer: RUN`, the folder of a run that trained one, or `{name: ...}` of a plug-in",
            hint="Train one first: `maekit pretrain` with a recipe whose task is `tokenizer`.",
        )
    stated = Path(given) / "recipe.yaml"
    if not stated.is_file():
        known = f" A plug-in's is written `{{name: {given}}}`." if given in plugins.names("tokenizers") else ""
        raise UserError(
            "no run of a tokenizer here",
            location=location,
            value=given,
            expected="the folder of a run whose task is `tokenizer`",
            hint="Train one with `maekit pretrain` and name its folder." + known,
        )
    task = load_recipe(stated).recipe.task
    if task.name != "tokenizer":
        raise UserError(
            "not the run of a tokenizer",
            location=location,
            value=f"{given}, task {task.name}",
            expected="a run whose task is `tokenizer`",
        )
    return Choice(name=PRIMARY, **task.options)


def _load(tokenizer: Tokenizer, run: Path, statistics: ChannelStatistics | None, location: str) -> None:
    weights = read_weights(run)
    assert isinstance(tokenizer, nn.Module)
    mine = {name.removeprefix("tokenizer."): value for name, value in weights.items() if name.startswith("tokenizer.")}
    load_strictly(tokenizer, mine, run)
    for name, values in {} if statistics is None else asdict(statistics).items():
        value, theirs = torch.tensor(values), weights.get(f"front.{name}")
        if theirs is None or theirs.shape != value.shape or not torch.allclose(theirs.cpu(), value, rtol=1e-3):
            raise UserError(
                "a tokenizer that was trained with another normalisation",
                location=location,
                value=f"{run}: {name} differs",
                expected="the adapter, data and split of this recipe",
                hint="Train the tokenizer on this training split.",
            )
