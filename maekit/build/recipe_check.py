"""Constructing everything of a recipe that needs no data, so that a recipe that passes will start."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maekit.build.experiment import build_experiment
from maekit.build.plugin_options import check_options
from maekit.build.random_experiment import data_exists, random_experiment
from maekit.build.tasks import make_task
from maekit.config.data_spec import TIME, load_spec
from maekit.data.random_source import UnknownLengthError
from maekit.training.optimizer import parameter_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.build.experiment import Experiment
    from maekit.config.load import LoadedRecipe

SAMPLES = 16


def construct_recipe(loaded: LoadedRecipe, lengths: Mapping[str, int]) -> str:
    """Construct adapters, front ends, model, task and parameter groups of a recipe on random samples.

    Adapter and front end run once on a sample; the weights of the model are never allocated. Shapes come from the data spec, or
    from the files where only they tell them.

    Args:
        loaded: a recipe.
        lengths: lengths of the axes that its data spec leaves to the files.

    Returns:
        Why this cannot be done without the data, or an empty string.

    Raises:
        UserError: what does not fit.
    """
    check_options(loaded)
    tokenizer = loaded.recipe.model.target.options.get("tokenizer")
    if isinstance(tokenizer, str) and not Path(tokenizer).is_dir():
        return f"the tokenizer is the run {tokenizer}, which is not here"
    try:
        experiment = random_experiment(loaded, SAMPLES, {**_nominal_lengths(loaded), **lengths})
    except UnknownLengthError as error:
        if not data_exists(loaded):
            return f"{error.problem}; {error.hint[:1].lower()}{error.hint[1:].rstrip('.')}, or check where the data is"
        experiment = build_experiment(loaded, fit=False)
    _run_front(experiment)
    with torch.device("meta"):
        task = make_task(experiment)
    optimizer = loaded.recipe.optimizer
    parameter_groups(task, weight_decay=optimizer.weight_decay, layer_decay=optimizer.layer_decay)
    return ""


def _nominal_lengths(loaded: LoadedRecipe) -> dict[str, int]:
    """Points of a window that is stated in seconds, where the data spec leaves the rate to the files and the adapter resamples.

    Recordings are then assumed to have the rate that the adapter resamples to (its option `rate_hz`), which any other rate ends as.
    """
    spec, rate = load_spec(loaded.recipe.data.spec, loaded.path.parent), loaded.recipe.adapter.options.get("rate_hz")
    window = loaded.recipe.data.window or spec.window
    if window is None or window.seconds is None or not isinstance(rate, int | float) or isinstance(rate, bool):
        return {}
    points = window.seconds * rate
    return {TIME: round(points)} if isfinite(points) else {}


def _run_front(experiment: Experiment) -> None:
    """Prepare one sample and take it through the front end."""
    signal, valid = experiment.adapter.prepare(experiment.source[0])
    batch = torch.from_numpy(signal)[None]
    experiment.make_front()(batch, None if valid is None else torch.from_numpy(valid)[None])
