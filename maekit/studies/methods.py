"""Jobs of a study: what each method does with a recipe and overrides, down to predictions for the held-out samples.

The result of a job with predictions is plain data: of each held-out sample its `index` in the source, `label`, `group` (an
index into `groups`) and `position` in its recording (or null for all), and under `methods` the predictions of one or more
methods by name. Optional are `labels` of methods that were asked for others, `uncertainty` and `distribution`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maekit.build import training_stats
from maekit.build.experiment import Experiment, build_experiment
from maekit.build.open_run import open_run
from maekit.build.parts import label_kind_of
from maekit.build.prepare import RANDOM, random_task
from maekit.config.load import load_recipe
from maekit.runs import probe
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune, pretrain
from maekit.studies.jobs import Result

Array = Any
CHANCE = "labels permuted"


def pretrain_job(*, recipe: Path, overrides: Sequence[str], run: str, runs: Path, device: str | None) -> Result:
    """Pretrain in the run folder `runs/run`; the result names the run."""
    outcome = pretrain(recipe, overrides=[*overrides, f"name={run}"], runs=runs, device=device)
    return {"run": run, "metrics": outcome.metrics}


def finetune_job(
    pretraining: Result | None = None,
    *,
    recipe: Path,
    overrides: Sequence[str],
    run: str,
    runs: Path,
    device: str | None,
    method: str,
) -> Result:
    """Train with labels in the run folder `runs/run`, from a pretraining run or from random weights."""
    start = RANDOM if pretraining is None else runs / pretraining["run"]
    folder = finetune(recipe, start, overrides=[*overrides, f"name={run}"], runs=runs, device=device).folder
    _, rows = predictions(folder, device=device)
    experiment = build_experiment(load_recipe(recipe, overrides), fit=False)
    result = _result(experiment, rows["index"], {method: label_kind_of(experiment).outputs(rows)})
    if "uncertainty" in rows:
        result["uncertainty"] = {method: _plain(rows["uncertainty"])}
        log_probability = np.round(rows["log_probability"].astype(np.float64), 2).tolist()
        result["distribution"] = {method: {"values": _plain(rows["values"]), "log_probability": log_probability}}
    return result


def probe_job(
    pretraining: Result | None = None,
    *,
    recipe: Path,
    overrides: Sequence[str],
    pretraining_recipe: Path,
    pretraining_overrides: Sequence[str],
    runs: Path,
    device: str | None,
    encoder: str,
) -> Result:
    """Linear probe and nearest neighbours on frozen, pooled features of a pretraining run or of random weights."""
    experiment = build_experiment(load_recipe(recipe, overrides))
    if pretraining is None:
        _, task = random_task(pretraining_recipe, overrides=pretraining_overrides)
    else:
        _, task = open_run(runs / pretraining["run"])
    features = probe.embed(experiment, task, device)
    linear, indices = probe.probe(experiment, features)
    nearest, _ = probe.neighbours(experiment, features)
    methods = {f"{encoder}, linear probe": linear, f"{encoder}, nearest neighbours": nearest}
    return _result(experiment, indices, methods)


def raw_input_job(*, recipe: Path, overrides: Sequence[str]) -> Result:
    """A linear model on the standardised input."""
    experiment = build_experiment(load_recipe(recipe, overrides))
    output, indices = probe.probe(experiment, partial(probe.raw, experiment))
    return _result(experiment, indices, {"raw input, linear model": output})


def constant_job(*, recipe: Path, overrides: Sequence[str]) -> Result:
    """One answer for all samples, and under `label_dynamics` how the training labels change along a recording."""
    experiment = build_experiment(load_recipe(recipe, overrides), fit=False)
    test = experiment.split["test"]
    dynamics = training_stats.label_dynamics(experiment)
    result = _result(experiment, test, dict([label_kind_of(experiment).constant(experiment)]))
    return result | {"label_dynamics": None if dynamics is None else asdict(dynamics)}


def baselines_job(*, recipe: Path, overrides: Sequence[str]) -> Result:
    """What the adapter's own methods predict without learning; null where they have no prediction."""
    experiment = build_experiment(load_recipe(recipe, overrides), fit=False)
    return _result(experiment, experiment.split["test"], label_kind_of(experiment).baselines(experiment))


def learned_baselines_job(*, recipe: Path, overrides: Sequence[str]) -> Result:
    """What shallow models on the adapter's own methods predict."""
    experiment = build_experiment(load_recipe(recipe, overrides), fit=False)
    return _result(experiment, experiment.split["test"], label_kind_of(experiment).learned_baselines(experiment))


def oracle_job(*, recipe: Path, overrides: Sequence[str]) -> Result:
    """The candidate of the adapter that is closest to the label, which no method can know.

    Where candidates are many, one of them is close to any label. A second oracle, asked for labels of other samples,
    says how close by chance.
    """
    experiment = build_experiment(load_recipe(recipe, overrides), fit=False)
    test = experiment.split["test"]
    labels = experiment.labels[test].astype(np.float64)
    permuted = np.random.default_rng(0).permutation(labels)
    methods: dict[str, Array] = {}
    asked: dict[str, list[Any]] = {}
    for name, candidates_of in experiment.adapter.candidates().items():
        candidates = [np.asarray(candidates_of(experiment.source[int(i)]), dtype=np.float64).ravel() for i in test]
        methods[f"oracle: {name}"] = _closest(candidates, labels)
        methods[f"oracle: {name}, {CHANCE}"] = _closest(candidates, permuted)
        asked[f"oracle: {name}, {CHANCE}"] = _plain(permuted)
    return _result(experiment, test, methods) | {"labels": asked}


def _closest(candidates: list[Array], labels: Array) -> Array:
    """(samples,) the candidate of each sample that is closest to its label; NaN where it has none."""
    closest = np.full(len(labels), np.nan)
    for i, (values, label) in enumerate(zip(candidates, labels, strict=True)):
        finite = values[np.isfinite(values)]
        if len(finite):
            closest[i] = finite[np.abs(finite - label).argmin()]
    return closest


def _result(experiment: Experiment, indices: Array, methods: dict[str, Array]) -> Result:
    """Predictions by method, with labels, groups and positions of the samples; see the top of this file."""
    groups = experiment.source.groups[indices]
    names = sorted(set(groups.tolist()))
    positions = getattr(experiment.source, "positions", None)
    return {
        "index": _plain(indices),
        "label": _plain(label_kind_of(experiment).truth(experiment, indices)),
        "groups": names,
        "group": _plain(np.searchsorted(names, groups)),
        "position": None if positions is None else positions[indices].tolist(),
        "methods": {name: _plain(values) for name, values in methods.items()},
    }


def _plain(values: Array) -> list[Any]:
    """Values for JSON: seven digits, which is what float32 holds, and null for what is not finite.

    Args:
        values: an array, or a list of tables of different lengths.
    """
    if isinstance(values, list):
        return [_plain(table) for table in values]
    array = np.asarray(values)
    if array.dtype.kind != "f":
        plain: list[Any] = array.tolist()
        return plain
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in array.tolist()]
