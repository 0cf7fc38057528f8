"""The tokenizer that a recipe's target names: a run that trained one, or a plug-in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maekit import plugins
from maekit.build.weight_fit import load_strictly
from maekit.build.weights import read_weights
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
TRAINED_KIND = "fsq"
"""What the task `tokenizer` trains."""


def make_tokenizer(loaded: LoadedRecipe, adapter: Adapter, statistics: ChannelStatistics | None) -> Tokenizer:
    """The tokenizer of `model.target.tokenizer`: the folder of a run of the task `tokenizer`, or `{name: ..., options}`.

    Args:
        loaded: the recipe.
        adapter: gives the patchifier.
        statistics: normalisation of the training samples, which must be that of the run; None: unknown yet.

    Raises:
        UserError: no tokenizer, no such run or plug-in, or a run with another normalisation.
    """
    option, location = loaded.recipe.model.target.options.get("tokenizer"), loaded.locate(*OPTION)
    choice = _choice_of(option, location)
    kind = plugins.find("tokenizers", choice.name, location=location)
    tokenizer: Tokenizer = construct(kind, choice, loaded, OPTION, adapter.patchifier)
    if isinstance(option, str):
        _load(tokenizer, Path(option), statistics, location)
    return tokenizer


def inline_tokenizer(recipe: Recipe) -> Recipe:
    """The recipe with a tokenizer's run replaced by its kind and size; the weights are saved in the new run's checkpoints."""
    target = recipe.model.target
    option = target.options.get("tokenizer")
    if not isinstance(option, str):
        return recipe
    tokenizer = _choice_of(option, OPTION[-1])
    options = target.options | {"tokenizer": {"name": tokenizer.name, **tokenizer.options}}
    model = recipe.model.model_copy(update={"target": Choice(name=target.name, **options)})
    return recipe.model_copy(update={"model": model})


def _choice_of(option: Any, location: str) -> Choice:
    if isinstance(option, dict) and isinstance(option.get("name"), str):
        return Choice(**option)
    if not isinstance(option, str):
        raise UserError(
            "the target `tokens` needs a tokenizer",
            location=location,
            value=option,
            expected="`tokenizer: RUN`, the folder of a run that trained one, or `{name: ...}` of a plug-in",
            hint="Train one first: `maekit pretrain` with a recipe whose task is `tokenizer`.",
        )
    recipe = Path(option) / "recipe.yaml"
    if not recipe.is_file():
        plug_in = f" A plug-in is written `{{name: {option}}}`." if option in plugins.names("tokenizers") else ""
        raise UserError(
            "no run of a tokenizer here",
            location=location,
            value=option,
            expected="the folder of a run whose task is `tokenizer`",
            hint="Train one with `maekit pretrain` and name its folder." + plug_in,
        )
    task = load_recipe(recipe).recipe.task
    if task.name != "tokenizer":
        raise UserError(
            "not the run of a tokenizer",
            location=location,
            value=f"{option}, task {task.name}",
            expected="a run whose task is `tokenizer`",
        )
    return Choice(name=TRAINED_KIND, **task.options)


def _load(tokenizer: Tokenizer, run: Path, statistics: ChannelStatistics | None, location: str) -> None:
    """Load a run's weights, if the run normalised samples as this recipe does."""
    weights = read_weights(run)
    assert isinstance(tokenizer, nn.Module)
    prefix = "tokenizer."
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    load_strictly(tokenizer, own, run)
    for name, values in {} if statistics is None else asdict(statistics).items():
        value, trained_with = torch.tensor(values), weights.get(f"front.{name}")
        if (
            trained_with is None
            or trained_with.shape != value.shape
            or not torch.allclose(trained_with.cpu(), value, rtol=1e-3)
        ):
            raise UserError(
                "a tokenizer that was trained with another normalisation",
                location=location,
                value=f"{run}: {name} differs",
                expected="the adapter, data and split of this recipe",
                hint="Train the tokenizer on this training split.",
            )
