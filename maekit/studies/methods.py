"""What each arm of a study does: the computation of a cell, from a recipe to predictions for the held-out samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maekit.build import training_stats
from maekit.build.experiment import Experiment, build_experiment
from maekit.build.models import object_similarity
from maekit.build.open_run import open_run
from maekit.build.prepare import RANDOM, random_task
from maekit.config.load import load_recipe
from maekit.runs import baselines, probe
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune, pretrain
from maekit.studies import detection_baselines
from maekit.tasks.detection import present

Array = Any
Result = dict[str, Any]
CHANCE = "labels permuted"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run of a recipe with overrides below `runs`, named `run`."""

    recipe: Path
    overrides: tuple[str, ...]
    runs: Path
    device: str | None
    run: str = ""

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.overrides, f"name={self.run}")


@dataclass(frozen=True, kw_only=True)
class Pretraining(Training):
    """A pretraining run; the result says where it is."""

    def __call__(self) -> Result:
        outcome = pretrain(self.recipe, overrides=self.named, runs=self.runs, device=self.device)
        return {"run": self.run, "metrics": outcome.metrics}


@dataclass(frozen=True, kw_only=True)
class Tuning(Training):
    """A run with labels, from the pretraining whose result it is given, or from random weights."""

    arm: str

    def __call__(self, base: Result | None = None) -> Result:
        start = RANDOM if base is None else self.runs / base["run"]
        run = finetune(self.recipe, start, overrides=self.named, runs=self.runs, device=self.device).folder
        _, rows = predictions(run, device=self.device)
        if "detections" in rows:
            experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
            return _result(experiment, rows["index"], {self.arm: present(rows["detections"])})
        output = rows["output"].argmax(1) if rows["output"].ndim == 2 else rows["output"]
        experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
        found = _result(experiment, rows["index"], {self.arm: output})
        if "uncertainty" in rows:
            found["uncertainty"] = {self.arm: _plain(rows["uncertainty"])}
            said = np.round(rows["log_probability"].astype(np.float64), 2).tolist()
            found["distribution"] = {self.arm: {"values": _plain(rows["values"]), "log_probability": said}}
        return found


@dataclass(frozen=True)
class Probing:
    """Linear probe and nearest neighbours on frozen, pooled features, of a pretraining run or of random weights."""

    arm: str
    recipe: Path
    overrides: tuple[str, ...]
    pretraining: Path
    pretraining_overrides: tuple[str, ...]
    runs: Path
    device: str | None

    def __call__(self, base: Result | None = None) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides))
        if base is None:
            _, task = random_task(self.pretraining, overrides=self.pretraining_overrides)
        else:
            _, task = open_run(self.runs / base["run"])
        features = probe.embed(experiment, task, self.device)
        predicted, indices = probe.probe(experiment, features)
        near, _ = probe.neighbours(experiment, features)
        arms = {f"{self.arm}, linear probe": predicted, f"{self.arm}, nearest neighbours": near}
        return _result(experiment, indices, arms)


@dataclass(frozen=True)
class RawInput:
    """A linear model on the standardised input."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides))
        predicted, indices = probe.probe(experiment, partial(probe.raw, experiment))
        return _result(experiment, indices, {"raw input, linear model": predicted})


@dataclass(frozen=True)
class Constant:
    """One answer for all, and what else is known of the training labels: how they go on along a recording."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
        if experiment.source.objects is not None:
            test = experiment.split["test"]
            always = [detection_baselines.constant(experiment, boxes=_boxes(experiment))] * len(test)
            found = _result(experiment, test, {"constant (where objects were in training)": always})
            return found | {"pace": None}
        pace = training_stats.pace_of(experiment)
        found = _result(experiment, experiment.split["test"], dict([baselines.constant(experiment)]))
        return found | {"pace": None if pace is None else asdict(pace)}


@dataclass(frozen=True)
class Estimators:
    """The adapter's estimators, which learn nothing; null where one says nothing."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
        if experiment.source.objects is not None:
            detectors = experiment.adapter.detectors()
            told = {
                name: detection_baselines.detect(experiment, one, "test", boxes=_boxes(experiment))
                for name, one in detectors.items()
            }
            return _result(experiment, experiment.split["test"], told)
        estimators = {} if experiment.source.classes else experiment.adapter.estimators()
        found = {name: baselines.estimates(experiment, estimate) for name, estimate in estimators.items()}
        return _result(experiment, experiment.split["test"], found)


@dataclass(frozen=True)
class ObjectClassifierBaseline:
    """The adapter's detectors, and a logistic regression that tells classes and nothing apart by what they say of each detection."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
        similarity, boxes = object_similarity(experiment), _boxes(experiment)
        found = {
            f"{name}, logistic regression": detection_baselines.detect_and_classify(
                experiment, one, "test", similarity, boxes=boxes
            )
            for name, one in experiment.adapter.detectors().items()
        }
        return _result(experiment, experiment.split["test"], found)


@dataclass(frozen=True)
class Oracle:
    """The candidate closest to the label, which no method can know; and to another window's label, for chance.

    Where an adapter's candidates are many, one of them is close to any label: the second number says how close.
    """

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        experiment = build_experiment(load_recipe(self.recipe, self.overrides), fit=False)
        test = experiment.split["test"]
        labels = experiment.labels[test].astype(np.float64)
        permuted = np.random.default_rng(0).permutation(labels)
        arms: dict[str, Array] = {}
        others: dict[str, list[Any]] = {}
        candidates: dict[str, Any] = (
            {} if experiment.source.classes else getattr(experiment.adapter, "candidates", dict)()
        )
        for name, candidate in candidates.items():
            of = [np.asarray(candidate(experiment.source[int(i)]), dtype=np.float64).ravel() for i in test]
            arms[f"ceiling: {name}"] = _closest(of, labels)
            arms[f"ceiling: {name}, {CHANCE}"] = _closest(of, permuted)
            others[f"ceiling: {name}, {CHANCE}"] = _plain(permuted)
        return _result(experiment, test, arms) | {"labels": others}


def _closest(candidates: list[Array], labels: Array) -> Array:
    """(windows,) of each window's candidates the one closest to its label; NaN where it has none."""
    found = np.full(len(labels), np.nan)
    for i, (values, label) in enumerate(zip(candidates, labels, strict=True)):
        finite = values[np.isfinite(values)]
        if len(finite):
            found[i] = finite[np.abs(finite - label).argmin()]
    return found


def _result(experiment: Experiment, indices: Array, arms: dict[str, Array]) -> Result:
    """Predictions and what they are of, as plain data: labels, groups, and the place in a recording where there are any."""
    groups = experiment.source.groups[indices]
    names = sorted(set(groups.tolist()))
    positions = getattr(experiment.source, "positions", None)
    labels: Any = experiment.labels[indices]
    if experiment.source.objects is not None:
        labels = detection_baselines.objects_of(experiment, indices, boxes=_boxes(experiment))
    return {
        "index": _plain(indices),
        "label": _plain(labels),
        "groups": names,
        "group": _plain(np.searchsorted(names, groups)),
        "position": None if positions is None else positions[indices].tolist(),
        "arms": {name: _plain(values) for name, values in arms.items()},
    }


def _boxes(experiment: Experiment) -> bool:
    return bool(experiment.recipe.task.options.get("boxes", False))


def _plain(values: Array) -> list[Any]:
    """For JSON: seven digits, which is what float32 holds; null for what is not finite. A list is of tables of several lengths."""
    if isinstance(values, list):
        return [_plain(one) for one in values]
    array = np.asarray(values)
    if array.dtype.kind != "f":
        found: list[Any] = array.tolist()
        return found
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in array.tolist()]
