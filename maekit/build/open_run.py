"""Open a run folder: its data and its trained task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maekit import plugins
from maekit.build.experiment import Experiment, build_experiment, build_experiment_without_data
from maekit.build.identity import RECIPE_FILE
from maekit.build.tasks import make_task
from maekit.build.weight_fit import load_strictly
from maekit.build.weights import read_weights
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.config.options import construct
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.adapter import Adapter
    from maekit.data.sample import SignalInfo
    from maekit.tasks.task import Task


def open_run(
    run: Path,
    *,
    overrides: Sequence[str] = (),
    data: bool = True,
    info: SignalInfo | None = None,
    auxiliary: Mapping[str, SignalInfo] | None = None,
) -> tuple[Experiment, Task]:
    """Data and trained task of a run folder.

    Args:
        run: the folder.
        overrides: of its recipe.
        data: whether the data are opened; without, they still are where only the files tell the shape of a sample.
        info: of a sample, so that no file need be there.
        auxiliary: the same of the auxiliary signals, by name.

    Raises:
        UserError: no run there, none of its checkpoints is sound, or samples cut otherwise than in training.
    """
    stated = run / RECIPE_FILE
    if not stated.is_file():
        raise UserError(
            "no run here",
            location=str(run),
            expected="the folder of a run, with recipe.yaml and checkpoints",
            hint="Runs stand below --runs (default `runs`), by the recipe's name.",
        )
    weights = read_weights(run)
    loaded = load_recipe(stated, overrides)
    if data:
        experiment = build_experiment(loaded, fit=False, folder=run)
    else:
        classes = len(weights["head.weight"]) if "head.weight" in weights else 0
        experiment = build_experiment_without_data(loaded, classes, info=info, auxiliary=auxiliary)
    task = make_task(experiment)
    load_strictly(task, weights, run)
    _check_cut(experiment, load_recipe(stated))
    return experiment, task


def _check_cut(experiment: Experiment, trained: LoadedRecipe) -> None:
    """Refuse patches of as many numbers in another shape: weights would fit them and mean nothing."""
    if trained.recipe.adapter == experiment.recipe.adapter:
        return
    kind = plugins.find("adapters", trained.recipe.adapter.name)
    before: Adapter = construct(kind, trained.recipe.adapter, trained, ("adapter",), experiment.source.info)
    was, now = ((one.patchifier.sample_shape, one.patchifier.grid_size) for one in (before, experiment.adapter))
    if was[0] == now[0] and was[1] != now[1]:
        raise UserError(
            "samples cut otherwise than in training",
            location=experiment.loaded.locate("adapter"),
            value=f"a grid of {now[1]}",
            expected=f"{was[1]} patches, as the run has",
            hint="Leave the patch as it is; train anew for another.",
        )
