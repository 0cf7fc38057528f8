"""What maekit does, as plain functions; the command line calls these and prints what they return.

Every training verb writes a run folder `RUNS/NAME` and goes on from its newest checkpoint when called again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from maekit import plugins
from maekit.build import training_stats
from maekit.build.experiment import LABELLED_TASKS, SKIPPED, Experiment, build_experiment, build_experiment_without_data
from maekit.build.models import fit_target, make_task
from maekit.build.tokenizers import spelled_out
from maekit.build.weights import load_encoder, load_strictly, read_weights, require_decoder
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.config.options import construct
from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.errors import UserError
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.regression import Regression
from maekit.tasks.transfer import Transfer, pool
from maekit.training import checkpoint, loop
from maekit.training.distributed import Process, init_distributed
from maekit.training.run import Run, environment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Adapter
    from maekit.config.schema import Recipe
    from maekit.core.encoders.base import Backbone
    from maekit.data.sample import SignalInfo
    from maekit.tasks.task import Task

logger = logging.getLogger(__name__)

Resume: TypeAlias = Literal["auto", "never"]

RANDOM = "random"
"""`--from random`: weights as they are initialised, asked for by name."""

MUST_AGREE = ("seed", "adapter", "data", "model", "task", "optimizer", "schedule")
"""Sections of a recipe that a checkpoint is tied to; how often it saves or logs may change."""


NOT_THE_DATA = ("root", "spec", "bad_samples")
"""Keys of `data` that may change too: where the files lie, and how many may be unreadable."""


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


def recipe_without_labels(recipe: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe that `pretrain` takes.

    Raises:
        UserError: a recipe for another task, and everything that is wrong with it.
    """
    loaded = load_recipe(recipe, overrides)
    if loaded.recipe.task.name in LABELLED_TASKS:
        raise UserError(
            "not a pretraining recipe",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
            expected="a task without labels: pretraining or tokenizer",
            hint="Use `maekit finetune`.",
        )
    return loaded


def recipe_with_labels(recipe: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe that `finetune` takes.

    Raises:
        UserError: a recipe for another task, and everything that is wrong with it.
    """
    loaded = load_recipe(recipe, overrides)
    if loaded.recipe.task.name not in LABELLED_TASKS:
        raise UserError(
            "a pretraining recipe",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
            expected="classification or regression",
            hint="Use `maekit pretrain`.",
        )
    return loaded


def evaluate(
    run: Path, *, side: str | None = None, overrides: Sequence[str] = (), device: str | None = None
) -> dict[str, float]:
    """Metrics of a finished (or unfinished) run on one side of its split; by default test, validation where that is empty."""
    metrics, _ = predictions(run, side=side, overrides=overrides, device=device)
    return metrics


def predictions(
    run: Path, *, side: str | None = None, overrides: Sequence[str] = (), device: str | None = None, alone: bool = False
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """Metrics, and what they were made from: `index` into the source, `output` and `label` of every sample.

    Regression that says how sure it is adds what `Regression.estimate` gives, and the `values` that a distribution is over.
    Processes that `torchrun` started share the work; `alone` is for one of them when the others may have ended.
    """
    require_decoder(run)
    experiment, task = open_run(run, overrides=overrides)
    with init_distributed(device, alone=alone) as process:
        side = side or ("test" if len(experiment.split["test"]) else "validation")
        at_once = experiment.recipe.training.at_once(process.world_size)
        rows = loop.rows_of(task, experiment.some_samples(side), process, at_once=at_once)
        found = {name: values.numpy() for name, values in rows.items()}
    if isinstance(task, Regression) and task.values is not None:
        found["values"] = task.values
    return task.compute_metrics(rows), found


def embed(
    run: Path,
    target: Path,
    *,
    sides: Sequence[str] = ("train", "validation", "test"),
    pooling: str = "mean",
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> Path:
    """Write the features of every sample to an HDF5 file: `features`, `group`, `location`, `side`, `label`.

    Nothing is masked. `pooling` is `mean` of the measured patch tokens or the `class` token.

    Raises:
        UserError: a file that is there already.
    """
    import h5py

    if target.exists():
        raise UserError("would overwrite what is there", location=str(target), hint="Choose another file.")
    experiment, task = open_run(run, overrides=overrides)
    with init_distributed(device) as process:
        parts = {
            side: embeddings(experiment, task, side, process, pooling) for side in sides if len(experiment.split[side])
        }
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    with h5py.File(unfinished, "w") as file:
        for side, (features, indices) in parts.items():
            group = file.create_group(side)
            group["features"] = features
            group["group"] = experiment.source.groups[indices].astype("S")
            group["location"] = np.array([experiment.source[int(i)].location for i in indices], dtype="S")
            if experiment.source.labels is not None:
                group["label"] = experiment.source.labels[indices]
    unfinished.replace(target)
    return target


def embeddings(
    experiment: Experiment, task: Task, side: str, process: Process, pooling: str = "mean"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(samples, width) features of one side of the split from the encoder of a task, and the index of each sample.

    They are in the order of the split, without those that could not be read.
    """
    encoder = encoder_of(task)
    if encoder is None:
        raise UserError(
            "no encoder of samples in this run",
            value=f"task {experiment.recipe.task.name}",
            expected="a run of pretraining, classification or regression",
        )
    samples = experiment.some_samples(side)
    task.to(process.device).eval()
    found, indices = [], []
    batches = BatchSampler(len(samples), experiment.recipe.training.at_once(1), shuffle=False)
    with torch.inference_mode():
        for batch in loader(samples, batches):
            indices.append(batch["index"])
            batch = to_device(batch, process.device)
            x, valid = task.front(batch["signal"], batch.get("valid"))
            found.append(pool(encoder(x, valid), valid, "class" if pooling == "class" else "mean").float().cpu())
    return each_once(torch.cat(found).numpy(), torch.cat(indices).numpy())


def encoder_of(task: Task) -> Backbone | None:
    """The encoder of samples that a task trains or uses; None where it has none."""
    if isinstance(task, Transfer):
        return task.encoder
    return task.model.encoder if isinstance(task, Pretraining) else None


def each_once(rows: NDArray[Any], indices: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows and indices of samples without those that stood in for another."""
    _, first = np.unique(indices, return_index=True)
    first.sort()
    return rows[first], indices[first]


def open_run(
    run: Path,
    *,
    overrides: Sequence[str] = (),
    data: bool = True,
    info: SignalInfo | None = None,
    auxiliary: Mapping[str, SignalInfo] | None = None,
) -> tuple[Experiment, Task]:
    """Data and trained task of a run folder; without `data` where they can be done without, as with `info` (and `auxiliary`,
    of the signals beside, where the recipe has some) they always can.

    Raises:
        UserError: no run there, none of its checkpoints is sound, or samples cut otherwise than in training.
    """
    stated = run / "recipe.yaml"
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


def prepare_training(loaded: LoadedRecipe, start: str | Path | None, folder: Path) -> tuple[Experiment, Task]:
    """Data and task of a recipe as training begins with them: new weights, or an encoder from elsewhere.

    Args:
        loaded: a recipe.
        start: a run, a checkpoint, or `random`; None in pretraining.
        folder: where samples that cannot be read are listed.

    Raises:
        UserError: weights that do not fit, and everything that is wrong with the data.
    """
    experiment = build_experiment(loaded, fit=start in (None, RANDOM), folder=folder)
    torch.manual_seed(loaded.recipe.seed)
    task = make_task(experiment)
    if isinstance(task, Transfer) and start is not None and start != RANDOM:
        load_encoder(experiment, task, Path(start))
    if isinstance(task, Pretraining):
        fit_target(experiment, task.model.target)
    return experiment, task


def random_task(recipe: str | Path, *, overrides: Sequence[str] = ()) -> tuple[Experiment, Task]:
    """Data of a recipe and its task with weights as they are initialised by its seed."""
    experiment = build_experiment(load_recipe(recipe, overrides))
    torch.manual_seed(experiment.recipe.seed)
    return experiment, make_task(experiment)


def _train(
    loaded: LoadedRecipe,
    start: str | Path | None,
    *,
    runs: Path,
    device: str | None,
    resume: Resume,
    watch: loop.Watcher | None,
) -> Outcome:
    recipe = loaded.recipe
    with init_distributed(device) as process:
        run = Run(runs / recipe.name, writes=process.first, tensorboard=recipe.training.tensorboard)
        with run.owned():
            if resume == "never" and checkpoint.steps(run.checkpoints):
                raise UserError(
                    "this run folder holds checkpoints",
                    location=str(run.folder),
                    expected="a new folder with --resume never",
                    hint="Give the run another name with `--set name=...`, or move the folder away.",
                )
            experiment, task = prepare_training(loaded, start, run.folder)
            agreed = identity(recipe, experiment.source.fingerprint(), start)
            training = experiment.some_samples("train", augment=True)
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
    if experiment.skipped.names():
        logger.warning(
            "%d samples could not be read and were left out; %s lists them",
            len(experiment.skipped.names()),
            run.folder / SKIPPED,
        )
    return Outcome(run.folder, metrics, process.first)


def identity(recipe: Recipe, fingerprint: str, start: str | Path | None = None) -> dict[str, Any]:
    """What a checkpoint must agree on with a recipe to be continued: a digest of each section, and of the data.

    Args:
        recipe: resolved.
        fingerprint: of the data's files.
        start: as for `finetune`; None in pretraining.
    """
    sections = recipe.model_dump(mode="json")
    found: dict[str, Any] = {
        name: hashlib.sha256(json.dumps(sections[name]).encode()).hexdigest()[:16] for name in MUST_AGREE
    }
    found["data"] = hashlib.sha256(
        json.dumps({k: v for k, v in sections["data"].items() if k not in NOT_THE_DATA}).encode()
    ).hexdigest()[:16]
    if sections["auxiliary"]:  # left out where there are none, so that runs from before there could be some go on
        found["auxiliary"] = hashlib.sha256(json.dumps(sections["auxiliary"]).encode()).hexdigest()[:16]
    found["data files"] = fingerprint
    found["batch_size"] = recipe.training.batch_size
    found["ema"] = recipe.training.ema
    if start is not None:
        found["start"] = start if start == RANDOM else str(Path(start).resolve())
    return found


def save_run_metadata(run: Run, experiment: Experiment, process: Process, start: str | Path | None = None) -> None:
    """Write what the run needs to be opened again without the files that it was started from."""
    recipe = spelled_out(experiment.recipe).model_copy(
        update={"init": None, "data": experiment.recipe.data.model_copy(update={"spec": "data_spec.yaml"})}
    )
    resolved = LoadedRecipe(recipe, experiment.loaded.path, experiment.loaded.origins)
    run.write_text("recipe.yaml", resolved.yaml())
    run.write_text("data_spec.yaml", json.dumps(experiment.spec.model_dump(mode="json", exclude_none=True), indent=1))
    facts = environment(process.device) | ({} if start is None else {"started from": str(start)})
    run.write_text("environment.json", json.dumps(facts, indent=1))
