"""From a recipe to an experiment and a task that are ready to train, and the identity that a checkpoint must match to be continued."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maekit.build.experiment import Experiment, build_experiment, task_class
from maekit.build.identity import RECIPE_FILE, SPEC_FILE, recipe_identity, spec_identity
from maekit.build.parts import task_names
from maekit.build.tasks import check_prediction, fit_task, make_task
from maekit.build.tokenizers import inline_tokenizer
from maekit.build.weights import load_encoder
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.errors import UserError
from maekit.training.distributed import Process
from maekit.training.environment import describe_environment
from maekit.training.run import Run

if TYPE_CHECKING:
    from maekit.tasks.task import Task


RANDOM = "random"
"""`--from random`: weights as they are initialised, asked for by name."""


def recipe_without_labels(recipe: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe that `pretrain` takes.

    Raises:
        UserError: a recipe for another task, and everything that is wrong with it.
    """
    loaded = load_recipe(recipe, overrides)
    if task_class(loaded).needs_labels:
        raise UserError(
            "a recipe of a task with labels",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
            expected="a task without labels: " + " or ".join(task_names(labels=False)),
            hint="Use `maekit finetune`.",
        )
    return loaded


def recipe_with_labels(recipe: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe that `finetune` takes.

    Raises:
        UserError: a recipe for another task, and everything that is wrong with it.
    """
    loaded = load_recipe(recipe, overrides)
    require_labels(loaded)
    return loaded


def require_labels(loaded: LoadedRecipe) -> None:
    """Refuse a recipe of a task without labels.

    Raises:
        UserError: such a recipe.
    """
    if not task_class(loaded).needs_labels:
        raise UserError(
            "a recipe of a task without labels",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
            expected="a task with labels: " + " or ".join(task_names(labels=True)),
            hint="Use `maekit pretrain`.",
        )


def prepare_training(loaded: LoadedRecipe, start: str | Path | None, folder: Path) -> tuple[Experiment, Task]:
    """Data and task of a recipe as training begins with them: new weights, or an encoder from elsewhere.

    Args:
        loaded: a recipe.
        start: a run, a checkpoint, or `random`; None in pretraining.
        folder: where samples that cannot be read are listed.

    Raises:
        UserError: weights that do not fit, nothing to predict, and everything that is wrong with the data.
    """
    experiment = build_experiment(loaded, fit=start in (None, RANDOM), folder=folder)
    torch.manual_seed(loaded.recipe.seed)
    task = make_task(experiment)
    if start is not None and start != RANDOM:
        load_encoder(experiment, task, Path(start))
    fit_task(experiment, task)
    check_prediction(experiment, task)
    return experiment, task


def random_task(recipe: str | Path, *, overrides: Sequence[str] = ()) -> tuple[Experiment, Task]:
    """Data of a recipe and its task with weights as they are initialised by its seed."""
    experiment = build_experiment(load_recipe(recipe, overrides))
    torch.manual_seed(experiment.recipe.seed)
    return experiment, make_task(experiment)


def identity(experiment: Experiment, fingerprint: str, start: str | Path | None = None) -> dict[str, Any]:
    """What a checkpoint must agree on with an experiment to be continued: digests of recipe, data spec and data, by name.

    Args:
        experiment: its recipe and data spec.
        fingerprint: of the data's files.
        start: as for `finetune`; None in pretraining.
    """
    recipe = experiment.recipe
    entries = recipe_identity(inline_tokenizer(recipe)) | spec_identity(experiment.spec) | {"data files": fingerprint}
    tokenizer = recipe.model.target.options.get("tokenizer")
    if isinstance(tokenizer, str):
        entries["tokenizer"] = tokenizer
    if start is not None:
        entries["start"] = start if start == RANDOM else str(Path(start).resolve())
    return entries


def save_run_metadata(run: Run, experiment: Experiment, process: Process, start: str | Path | None = None) -> None:
    """Write what the run needs to be opened again without the files that it was started from."""
    recipe = inline_tokenizer(experiment.recipe).model_copy(
        update={"init": None, "data": experiment.recipe.data.model_copy(update={"spec": SPEC_FILE})}
    )
    resolved = LoadedRecipe(recipe, experiment.loaded.path, experiment.loaded.origins)
    run.write_text(RECIPE_FILE, resolved.yaml())
    run.write_text(SPEC_FILE, json.dumps(experiment.spec.model_dump(mode="json", exclude_none=True), indent=1))
    facts = describe_environment(process.device) | ({} if start is None else {"started from": str(start)})
    run.write_text("environment.json", json.dumps(facts, indent=1))
