"""Linear models and nearest neighbours on frozen features and on the raw input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.build.experiment import Experiment, build_experiment, task_class
from maekit.build.parts import label_kind_of
from maekit.build.prepare import RANDOM, recipe_with_labels
from maekit.build.tasks import make_task
from maekit.build.weights import load_encoder
from maekit.data.loading import loader
from maekit.data.sampler import BatchSampler
from maekit.errors import UserError
from maekit.report.content import Table
from maekit.runs.embed import each_once, embeddings
from maekit.training.distributed import init_distributed

if TYPE_CHECKING:
    from maekit.tasks.task import Task


Array = Any
Features = tuple[Array, Array]
"""(samples, width), and the index of each sample in the source."""
NEIGHBOURS = 20


def probe(experiment: Experiment, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """A linear model with ridge penalty (chosen by leave-one-out on the training split) on given features.

    Returns:
        Predictions for the test split, and the index of each sample.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = label_kind_of(experiment).linear_model()
    return _fitted(make_pipeline(StandardScaler(), head), experiment, features)


def neighbours(experiment: Experiment, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """Labels of the 20 nearest training samples by cosine distance, weighted by its inverse; nothing is trained.

    Returns:
        Predictions for the test split, and the index of each sample.
    """
    count = min(NEIGHBOURS, len(features("train")[1]))
    return _fitted(label_kind_of(experiment).neighbours_model(count), experiment, features)


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
    """A linear probe of one pretraining run (or `random`), beside raw input, methods without learning and a constant.

    Raises:
        UserError: a recipe without labels, or weights that do not fit.
    """
    loaded = recipe_with_labels(recipe, overrides)
    if task_class(loaded).reads_patches(loaded.recipe.task.options):
        raise UserError(
            "a task that reads every patch, of which a probe of pooled features would say nothing",
            location=loaded.locate("task"),
            value=loaded.recipe.task.name,
            expected="a task that reads the whole sample",
            hint="Train its own head on the frozen encoder: `maekit finetune RECIPE --from RUN --set task.tune=frozen`.",
        )
    experiment = build_experiment(loaded)
    kind, task = label_kind_of(experiment), make_task(experiment)
    if kind.linear_model() is None:
        raise UserError(
            f"{kind.name}, which a probe of the whole sample cannot predict",
            location=loaded.locate("task", "name"),
            value=loaded.recipe.task.name,
        )
    if start != RANDOM:
        load_encoder(experiment, task, Path(start))
    features, test = embed(experiment, task, device), experiment.split["test"]
    predictions = {
        f"linear probe of {start}": probe(experiment, features),
        f"nearest neighbours in {start}": neighbours(experiment, features),
        "raw input, linear model": probe(experiment, partial(raw, experiment)),
        **{name: (values, test) for name, values in kind.without_learning(experiment).items()},
    }
    rows: list[list[Any]] = []
    for name, (outputs, indices) in predictions.items():
        scores = kind.score(outputs, kind.truth(experiment, indices))
        rows.append([name, *(scores[metric] for metric in kind.short_metrics)])
    note = f"{len(test)} held-out samples of {len(set(experiment.source.groups[test].tolist()))} groups."
    return Table(
        f"{loaded.recipe.name}: groups not seen in training", ["", *map(kind.column, kind.short_metrics)], rows, note
    )
