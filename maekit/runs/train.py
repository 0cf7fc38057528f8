"""Pretrain and fine-tune: a recipe becomes a run folder, and goes on from its newest checkpoint when called again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from maekit.build import training_stats
from maekit.build.experiment import SKIPPED
from maekit.build.memory import check_training
from maekit.build.prepare import (
    identity,
    prepare_training,
    recipe_with_labels,
    recipe_without_labels,
    save_run_metadata,
)
from maekit.config.load import LoadedRecipe
from maekit.data.loading import collate
from maekit.data.sampler import Key
from maekit.errors import UserError
from maekit.training import checkpoint, loop
from maekit.training.distributed import init_distributed
from maekit.training.precision import SAMPLES, resolve_precision
from maekit.training.run import Run

logger = logging.getLogger(__name__)

Resume: TypeAlias = Literal["auto", "never"]


@dataclass(frozen=True)
class Outcome:
    """Of a training verb: where the run is, its last metrics, and whether this process is the first of all."""

    folder: Path
    metrics: dict[str, float]
    first: bool = True


def pretrain(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    resume: Resume = "auto",
    watch: loop.Watcher | None = None,
) -> Outcome:
    """Pretrain what a recipe describes.

    With `resume="auto"` it goes on from the newest checkpoint of the run folder; `never` refuses a folder with one.

    Raises:
        UserError: a recipe for another task, and everything that is wrong with recipe or data.
    """
    loaded = recipe_without_labels(recipe, overrides)
    return _train(loaded, None, runs=runs, device=device, resume=resume, watch=watch)


def finetune(
    recipe: str | Path,
    start: str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    resume: Resume = "auto",
    watch: loop.Watcher | None = None,
) -> Outcome:
    """Train a labelled task from a pretrained encoder (`start`: a run, a checkpoint, or `random`).

    Raises:
        UserError: a pretraining recipe, weights that do not fit, and everything that is wrong with recipe or data.
    """
    loaded = recipe_with_labels(recipe, overrides)
    return _train(loaded, start, runs=runs, device=device, resume=resume, watch=watch)


def _train(
    loaded: LoadedRecipe,
    start: str | Path | None,
    *,
    runs: Path,
    device: str | None,
    resume: Resume,
    watch: loop.Watcher | None,
) -> Outcome:
    with init_distributed(device) as process:
        run = Run(runs / loaded.recipe.name, writes=process.first, tensorboard=loaded.recipe.training.tensorboard)
        with run.owned():
            if process.first:
                checkpoint.remove_leftovers(run.checkpoints)
            if resume == "never" and checkpoint.steps(run.checkpoints):
                raise UserError(
                    "this run folder holds checkpoints",
                    location=str(run.folder),
                    expected="a new folder with --resume never",
                    hint="Give the run another name with `--set name=...`, or move the folder away.",
                )
            experiment, task = prepare_training(loaded, start, run.folder)
            check_training(experiment, task, process.device.type)
            training = experiment.some_samples("train", augment=True)
            recipe = resolve_precision(
                loaded.recipe,
                task,
                lambda: collate([training[Key(0, i)] for i in range(min(SAMPLES, len(training)))]),
                process,
                recorded=checkpoint.saved_precision(run.checkpoints),
            )
            experiment = replace(experiment, loaded=replace(loaded, recipe=recipe))
            fingerprint = experiment.source.fingerprint()
            agreed = identity(experiment, fingerprint, start)
            save_run_metadata(run, experiment, process, start)
            if process.first and start is not None and training_stats.read(run.folder) is None:
                training_stats.write(run.folder, training_stats.measure(experiment))
            metrics = loop.train(
                task,
                training,
                experiment.samples("validation"),
                recipe=recipe,
                run=run,
                process=process,
                identity=agreed,
                watch=watch,
            )
            if process.first and experiment.source.fingerprint() != fingerprint:
                raise UserError(
                    "the data changed while the run trained on them",
                    location=str(loaded.recipe.data.root),
                    expected="files that nobody writes to",
                    hint="Train again under another name, `--set name=...`: nothing says which samples this run has seen.",
                )
    if experiment.skipped.names():
        logger.warning(
            "%d samples could not be read and were left out; %s lists them",
            len(experiment.skipped.names()),
            run.folder / SKIPPED,
        )
    return Outcome(run.folder, metrics, process.first)
