"""What did pretraining buy? The same labels and the same held-out groups, for every way to spend them.

For each seed and fold: pretrain without labels, then fine-tune and linearly probe from the pretrained and from random
weights; beside them a linear model on the raw input, the adapter's no-learning estimators and a constant.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit import verbs
from maekit.build import Setup, make_task, set_up
from maekit.data.loading import loader
from maekit.data.sampler import BatchSampler
from maekit.data.spec import Folds
from maekit.data.splits import fold_count
from maekit.errors import UserError
from maekit.recipe.load import load_recipe
from maekit.report.content import Table, cell
from maekit.tasks import metrics
from maekit.tasks.transfer import Transfer
from maekit.training.distributed import joined
from maekit.weights import load_encoder

if TYPE_CHECKING:
    from maekit.recipe.load import LoadedRecipe
    from maekit.tasks.task import Task


Array = Any
Features = tuple[Array, Array]
"""(samples, width), and the label of each sample."""

LOWER_IS_BETTER = ("mae", "rmse")


@dataclass(frozen=True)
class Arm:
    """One way to spend the labels: its metrics for each seed, over the held-out samples of all folds together."""

    name: str
    per_seed: list[dict[str, float]]

    def mean(self, metric: str) -> float:
        return float(np.mean([row[metric] for row in self.per_seed]))

    def spread(self, metric: str) -> float:
        """Standard deviation over seeds; 0 for one."""
        values = [row[metric] for row in self.per_seed]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Study:
    """All arms, and what they were measured on."""

    recipe: str
    arms: list[Arm]
    metrics: list[str]
    groups: int
    samples: int
    seeds: int
    folds: int


def study(
    recipe: str | Path,
    *,
    seeds: int = 3,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Study:
    """Run every arm of a fine-tuning recipe that has `init`; finished runs are taken as they are.

    Args:
        recipe: for the labelled task; `init.recipe` is its pretraining.
        seeds: how many; a seed decides weights, order, masks and which labels are used.
        overrides: as on the command line; applied to both recipes where they fit both (`data.`, `adapter.`).
        runs: each run is a folder below `runs/NAME/seed0_fold0`.
        device: as for training.
        tell: called with a line before every part.

    Raises:
        UserError: a recipe without `init`, and whatever pretraining and fine-tuning raise.
    """
    loaded, pretraining, shared = both_recipes(recipe, overrides)
    setup = set_up(loaded, fit=False)
    split = loaded.recipe.data.split or setup.spec.split
    folds = rounds(setup)
    outputs: dict[tuple[str, int], list[tuple[Array, Array]]] = defaultdict(list)
    for seed in range(seeds):
        for fold in range(folds):
            tell(f"seed {seed + 1} of {seeds}, fold {fold + 1} of {folds}")
            place = f"seed{seed}_fold{fold}"
            common = [f"seed={seed}", *([f"data.split.fold={fold}"] if isinstance(split, Folds) else [])]
            if isinstance(split, Folds) and loaded.recipe.data.split is None:
                common[1:] = [f"data.split={json.dumps(split.model_dump() | {'fold': fold})}"]
            base = verbs.pretrain(
                pretraining,
                overrides=[*shared, *common, f"name={loaded.recipe.name}/{place}/pretrain"],
                runs=runs,
                device=device,
            ).folder
            for start, name in ((base, "pretrained"), (verbs.RANDOM, "random weights")):
                tuned = verbs.finetune(
                    recipe, start, runs=runs, device=device,
                    overrides=[*overrides, *common, f"name={loaded.recipe.name}/{place}/{name.split()[0]}"],
                ).folder  # fmt: skip
                _, rows = verbs.predictions(tuned, device=device)
                output = rows["output"].argmax(1) if rows["output"].ndim == 2 else rows["output"]
                label = "from scratch" if start == verbs.RANDOM else "pretrained"
                outputs[f"{label}, fine-tuned", seed].append((output, rows["label"]))
            own = set_up(load_recipe(recipe, [*overrides, *common]))
            random_weights = verbs.random_task(pretraining, overrides=[*shared, *common])
            for name, (_, task) in (("pretrained", verbs.open_run(base)), ("random weights", random_weights)):
                features = {side: embed(own, task, device, side) for side in ("train", "test")}
                outputs[f"{name}, linear probe", seed].append(probe(own, features.__getitem__))
                outputs[f"{name}, nearest neighbours", seed].append(neighbours(own, features.__getitem__))
            outputs["raw input, linear model", seed].append(probe(own, partial(raw, own)))
            for name, values in without_learning(own).items():
                outputs[name, seed].append((values, own.labels[own.split["test"]]))
    names = list(dict.fromkeys(name for name, _ in outputs))
    within = float(loaded.recipe.task.options.get("within", 5.0))
    arms = [Arm(name, [score(setup, outputs[name, seed], within) for seed in range(seeds)]) for name in names]
    tested = sum(len(label) for _, label in outputs[names[0], 0])
    result = Study(
        loaded.recipe.name, arms, _metrics(setup), len(set(setup.source.groups.tolist())), tested, seeds, folds
    )
    folder = runs / loaded.recipe.name
    (folder / "study.json").write_text(json.dumps({arm.name: arm.per_seed for arm in arms}, indent=1))
    return result


def both_recipes(recipe: str | Path, overrides: Sequence[str]) -> tuple[LoadedRecipe, Path, list[str]]:
    """The labelled task, the file of the pretraining it starts from, and those overrides that are for both.

    Raises:
        UserError: a recipe without `init`.
    """
    loaded = load_recipe(recipe, overrides)
    if loaded.recipe.init is None:
        raise UserError("a study needs a recipe that starts from another", place=str(loaded.path),
                        expected="`init: {recipe: PRETRAINING.yaml}`")  # fmt: skip
    pretraining = loaded.path.parent / loaded.recipe.init.recipe
    shared = [
        o
        for o in overrides
        if o.startswith(("data.root", "data.window", "data.split", "adapter.", "training.batch_size"))
    ]
    return loaded, pretraining, shared


def rounds(setup: Setup) -> int:
    """How many folds a study of this data has: one where groups are split by name."""
    split = setup.recipe.data.split or setup.spec.split
    return fold_count(setup.source.groups, split) if isinstance(split, Folds) else 1


def table(result: Study) -> Table:
    """Mean and spread over seeds of every arm; the best learned or unlearned of each metric is marked."""
    rows: list[list[Any]] = []
    for arm in result.arms:
        spreads = {m: f" ± {cell(arm.spread(m))}" if result.seeds > 1 else "" for m in result.metrics}
        rows.append([arm.name, *(cell(arm.mean(m)) + spreads[m] for m in result.metrics)])
    best = set()
    for column, metric in enumerate(result.metrics, start=1):
        means = [arm.mean(metric) for arm in result.arms]
        best.add((means.index(min(means) if metric in LOWER_IS_BETTER else max(means)), column))
    note = (
        f"{result.samples} held-out samples, {result.groups} groups, {result.folds} fold(s), {result.seeds} seed(s): "
        "mean ± standard deviation over seeds."
    )
    return Table(f"{result.recipe}: groups never seen in training", ["", *result.metrics], rows, note, frozenset(best))


def probe_table(
    recipe: str | Path, start: str | Path, *, overrides: Sequence[str] = (), device: str | None = None
) -> Table:
    """A linear probe of one pretraining run (or `random`), beside raw input, no learning and a constant.

    Raises:
        UserError: a recipe without labels, or weights that do not fit.
    """
    loaded = load_recipe(recipe, overrides)
    setup = set_up(loaded, labels=True)
    task = make_task(setup)
    if not isinstance(task, Transfer):
        raise UserError("a probe needs the recipe of a labelled task", place=loaded.locate("task", "name"),
                        value=loaded.recipe.task.name, expected="classification or regression")  # fmt: skip
    if start != verbs.RANDOM:
        load_encoder(setup, task, Path(start))
    features = {side: embed(setup, task, device, side) for side in ("train", "test")}
    found = {
        f"linear probe of {start}": probe(setup, features.__getitem__),
        f"nearest neighbours in {start}": neighbours(setup, features.__getitem__),
        "raw input, linear model": probe(setup, partial(raw, setup)),
    }
    found |= {n: (v, setup.labels[setup.split["test"]]) for n, v in without_learning(setup).items()}
    arms = [Arm(name, [score(setup, [pair], 5.0)]) for name, pair in found.items()]
    tested = len(setup.split["test"])
    groups = len(set(setup.source.groups.tolist()))
    return table(Study(loaded.recipe.name, arms, _metrics(setup), groups, tested, 1, 1))


def _metrics(setup: Setup) -> list[str]:
    return ["accuracy", "balanced_accuracy"] if setup.source.classes else ["mae", "rmse", "within", "r"]


def probe(setup: Setup, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """A linear model with ridge penalty (chosen by leave-one-out on the training split) on given features.

    Returns:
        Predictions and labels of the test split.
    """
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    penalties = np.logspace(-1, 5, 13)
    head = RidgeClassifierCV(penalties) if setup.source.classes else RidgeCV(penalties)
    model = make_pipeline(StandardScaler(), head)
    model.fit(*features("train"))
    test, labels = features("test")
    return model.predict(test), labels


def neighbours(setup: Setup, features: Callable[[str], Features]) -> tuple[Array, Array]:
    """The labels of the 20 nearest training samples by cosine distance, nearer ones counting more: nothing is trained.

    Returns:
        Predictions and labels of the test split.
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    train, known = features("train")
    test, labels = features("test")
    kind = KNeighborsClassifier if setup.source.classes else KNeighborsRegressor
    model = kind(min(20, len(known)), metric="cosine", weights="distance").fit(train, known)
    return model.predict(test), labels


def embed(setup: Setup, task: Task, device: str | None, side: str) -> Features:
    """Features and labels of one side of a split, on one process."""
    with joined(device) as process:
        features, indices = verbs.embeddings(setup, task, side, process)
    return features, setup.labels[indices]


def raw(setup: Setup, side: str) -> Features:
    """The standardised input itself, one row a sample, and labels; what was not measured is zero."""
    samples = setup.some_samples(side)
    rows, parts = [], []
    for batch in loader(samples, BatchSampler(len(samples), 256, shuffle=False)):
        rows.append(setup.adapter.front(batch["signal"], batch.get("valid"))[0].flatten(1).numpy())
        parts.append(batch["index"].numpy())
    features, indices = verbs.each_once(np.concatenate(rows), np.concatenate(parts))
    return features, setup.labels[indices]


def without_learning(setup: Setup) -> dict[str, Array]:
    """Predictions on the test split that nothing was learned for: the adapter's estimators, and a constant.

    Where an estimator gives none (NaN), the constant stands in.
    """
    test, labels = setup.split["test"], setup.labels[setup.split["train"]]
    if setup.source.classes:
        values, counts = np.unique(labels, return_counts=True)
        return {"constant (most frequent class)": np.full(len(test), values[counts.argmax()])}
    constant = np.full(len(test), float(np.median(labels)))
    found = {}
    for name, estimate in setup.adapter.estimators().items():
        values = np.array([estimate(setup.source[int(i)]) for i in test])
        found[name] = np.where(np.isfinite(values), values, constant)
    return found | {"constant (median of training)": constant}


def score(setup: Setup, parts: list[tuple[Array, Array]], within: float) -> dict[str, float]:
    """Metrics over the predictions and labels of several folds together."""
    output, label = (np.concatenate(values) for values in zip(*parts, strict=True))
    return metrics.classification(output, label) if setup.source.classes else metrics.regression(output, label, within)
