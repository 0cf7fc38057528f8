"""Linear models and nearest neighbours on frozen features and on the raw input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.build.experiment import Experiment, build_experiment
from maekit.build.models import make_task, reads_patches
from maekit.build.prepare import RANDOM
from maekit.build.weights import load_encoder
from maekit.config.load import load_recipe
from maekit.data.loading import loader
from maekit.data.sampler import BatchSampler
from maekit.errors import UserError
from maekit.report.content import Table
from maekit.runs.baselines import Array, score, shown_metrics, without_learning
from maekit.runs.embed import each_once, embeddings
from maekit.tasks.transfer import Transfer
from maekit.training.distributed import init_distributed

if TYPE_CHECKING:
    from maekit.tasks.task import Task


Features = tuple[Array, Array]

"""(samples, width), and the index of each sample in the source."""


def probe(experiment: Experiment, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """A linear model with ridge penalty (chosen by leave-one-out on the training split) on given features.

    Returns:
        Predictions for the test split, and the index of each sample.
    """
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    penalties = np.logspace(-1, 5, 13)
    head = RidgeClassifierCV(penalties) if experiment.source.classes else RidgeCV(penalties)
    return _fitted(make_pipeline(StandardScaler(), head), experiment, features)


def neighbours(experiment: Experiment, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """The labels of the 20 nearest training samples by cosine distance, nearer ones counting more: nothing is trained.

    Returns:
        Predictions for the test split, and the index of each sample.
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsClassifier if experiment.source.classes else KNeighborsRegressor
    known = len(features("train")[1])
    return _fitted(kind(min(20, known), metric="cosine", weights="distance"), experiment, features)


def _fitted(model: Any, experiment: Experiment, features: Callable[[str], Features]) -> tuple[Array, Array]:
    train, known = features("train")
    test, indices = features("test")
    model.fit(train, experiment.labels[known])
    return model.predict(test), indices


def embed(experiment: Experiment, task: Task, device: str | None) -> Callable[[str], Features]:
    """Features of the two sides of a split that a probe needs, each computed once, on one process."""
    found: dict[str, Features] = {}

    def features(side: str) -> Features:
        if side not in found:
            with init_distributed(device) as process:
                found[side] = embeddings(experiment, task, side, process)
        return found[side]

    return features


def raw(experiment: Experiment, side: str) -> Features:
    """The standardised input itself, one row a sample, and indices; what was not measured is zero."""
    samples = experiment.some_samples(side)
    front = experiment.make_front()
    rows, parts = [], []
    for batch in loader(samples, BatchSampler(len(samples), 256, shuffle=False)):
        rows.append(front(batch["signal"], batch.get("valid"))[0].flatten(1).numpy())
        parts.append(batch["index"].numpy())
    return each_once(np.concatenate(rows), np.concatenate(parts))


def probe_table(
    recipe: str | Path, start: str | Path, *, overrides: Sequence[str] = (), device: str | None = None
) -> Table:
    """A linear probe of one pretraining run (or `random`), beside raw input, no learning and a constant.

    Raises:
        UserError: a recipe without labels, or weights that do not fit.
    """
    loaded = load_recipe(recipe, overrides)
    if reads_patches(loaded.recipe):
        raise UserError(
            "a task that reads every patch, of which a probe of pooled features would say nothing",
            location=loaded.locate("task"),
            value=loaded.recipe.task.name,
            expected="a task that reads the whole sample",
            hint="Train its own head on the frozen encoder: `maekit finetune RECIPE --from RUN --set task.tune=frozen`.",
        )
    experiment = build_experiment(loaded, labels=True)
    task = make_task(experiment)
    if not isinstance(task, Transfer):
        raise UserError(
            "a probe needs the recipe of a labelled task",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
            expected="classification or regression",
        )
    if start != RANDOM:
        load_encoder(experiment, task, Path(start))
    features, test = embed(experiment, task, device), experiment.split["test"]
    found = {
        f"linear probe of {start}": probe(experiment, features),
        f"nearest neighbours in {start}": neighbours(experiment, features),
        "raw input, linear model": probe(experiment, partial(raw, experiment)),
        **{name: (values, test) for name, values in without_learning(experiment).items()},
    }
    wanted = shown_metrics(experiment)
    scores = {name: score(experiment, values, experiment.labels[indices]) for name, (values, indices) in found.items()}
    rows: list[list[Any]] = [[name, *(one[metric] for metric in wanted)] for name, one in scores.items()]
    note = f"{len(test)} held-out samples of {len(set(experiment.source.groups[test].tolist()))} groups."
    return Table(f"{loaded.recipe.name}: groups never seen in training", ["", *wanted], rows, note)
