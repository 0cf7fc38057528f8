"""What each arm of a study does: the computation of a cell, from a recipe to predictions for the held-out samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maekit import api
from maekit.build import training_stats
from maekit.build.experiment import Setup, set_up
from maekit.build.models import likeness_of_objects
from maekit.config.load import load_recipe
from maekit.studies import detection_baselines, probe
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
        outcome = api.pretrain(self.recipe, overrides=self.named, runs=self.runs, device=self.device)
        return {"run": self.run, "metrics": outcome.metrics}


@dataclass(frozen=True, kw_only=True)
class Tuning(Training):
    """A run with labels, from the pretraining whose result it is given, or from random weights."""

    arm: str

    def __call__(self, base: Result | None = None) -> Result:
        start = api.RANDOM if base is None else self.runs / base["run"]
        run = api.finetune(self.recipe, start, overrides=self.named, runs=self.runs, device=self.device).folder
        _, rows = api.predictions(run, device=self.device)
        if "detections" in rows:
            setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
            return _result(setup, rows["index"], {self.arm: present(rows["detections"])})
        output = rows["output"].argmax(1) if rows["output"].ndim == 2 else rows["output"]
        setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
        found = _result(setup, rows["index"], {self.arm: output})
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
        setup = set_up(load_recipe(self.recipe, self.overrides))
        if base is None:
            _, task = api.random_task(self.pretraining, overrides=self.pretraining_overrides)
        else:
            _, task = api.open_run(self.runs / base["run"])
        features = probe.embed(setup, task, self.device)
        predicted, indices = probe.probe(setup, features)
        near, _ = probe.neighbours(setup, features)
        arms = {f"{self.arm}, linear probe": predicted, f"{self.arm}, nearest neighbours": near}
        return _result(setup, indices, arms)


@dataclass(frozen=True)
class RawInput:
    """A linear model on the standardised input."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        setup = set_up(load_recipe(self.recipe, self.overrides))
        predicted, indices = probe.probe(setup, partial(probe.raw, setup))
        return _result(setup, indices, {"raw input, linear model": predicted})


@dataclass(frozen=True)
class Constant:
    """One answer for all, and what else is known of the training labels: how they go on along a recording."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
        if setup.source.objects is not None:
            test = setup.split["test"]
            always = [detection_baselines.constant(setup, boxes=_boxes(setup))] * len(test)
            found = _result(setup, test, {"constant (where objects were in training)": always})
            return found | {"pace": None}
        pace = training_stats.pace_of(setup)
        found = _result(setup, setup.split["test"], dict([probe.constant(setup)]))
        return found | {"pace": None if pace is None else asdict(pace)}


@dataclass(frozen=True)
class Estimators:
    """The adapter's estimators, which learn nothing; null where one says nothing."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
        if setup.source.objects is not None:
            detectors = setup.adapter.detectors()
            told = {
                name: detection_baselines.detect(setup, one, "test", boxes=_boxes(setup))
                for name, one in detectors.items()
            }
            return _result(setup, setup.split["test"], told)
        estimators = {} if setup.source.classes else setup.adapter.estimators()
        found = {name: probe.estimates(setup, estimate) for name, estimate in estimators.items()}
        return _result(setup, setup.split["test"], found)


@dataclass(frozen=True)
class Shallow:
    """The adapter's detectors, and a logistic regression that tells classes and nothing apart by what they say of each detection."""

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
        likeness, boxes = likeness_of_objects(setup), _boxes(setup)
        found = {
            f"{name}, logistic regression": detection_baselines.detect_and_classify(
                setup, one, "test", likeness, boxes=boxes
            )
            for name, one in setup.adapter.detectors().items()
        }
        return _result(setup, setup.split["test"], found)


@dataclass(frozen=True)
class Ceiling:
    """The candidate closest to the label, which no method can know; and to another window's label, for chance.

    Where an adapter's candidates are many, one of them is close to any label: the second number says how close.
    """

    recipe: Path
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        setup = set_up(load_recipe(self.recipe, self.overrides), fit=False)
        test = setup.split["test"]
        labels = setup.labels[test].astype(np.float64)
        permuted = np.random.default_rng(0).permutation(labels)
        arms: dict[str, Array] = {}
        others: dict[str, list[Any]] = {}
        candidates: dict[str, Any] = {} if setup.source.classes else getattr(setup.adapter, "candidates", dict)()
        for name, candidate in candidates.items():
            of = [np.asarray(candidate(setup.source[int(i)]), dtype=np.float64).ravel() for i in test]
            arms[f"ceiling: {name}"] = _closest(of, labels)
            arms[f"ceiling: {name}, {CHANCE}"] = _closest(of, permuted)
            others[f"ceiling: {name}, {CHANCE}"] = _plain(permuted)
        return _result(setup, test, arms) | {"labels": others}


def _closest(candidates: list[Array], labels: Array) -> Array:
    """(windows,) of each window's candidates the one closest to its label; NaN where it has none."""
    found = np.full(len(labels), np.nan)
    for i, (values, label) in enumerate(zip(candidates, labels, strict=True)):
        finite = values[np.isfinite(values)]
        if len(finite):
            found[i] = finite[np.abs(finite - label).argmin()]
    return found


def _result(setup: Setup, indices: Array, arms: dict[str, Array]) -> Result:
    """Predictions and what they are of, as plain data: labels, groups, and the place in a recording where there are any."""
    groups = setup.source.groups[indices]
    names = sorted(set(groups.tolist()))
    positions = getattr(setup.source, "positions", None)
    labels: Any = setup.labels[indices]
    if setup.source.objects is not None:
        labels = detection_baselines.objects_of(setup, indices, boxes=_boxes(setup))
    return {
        "index": _plain(indices),
        "label": _plain(labels),
        "groups": names,
        "group": _plain(np.searchsorted(names, groups)),
        "position": None if positions is None else positions[indices].tolist(),
        "arms": {name: _plain(values) for name, values in arms.items()},
    }


def _boxes(setup: Setup) -> bool:
    return bool(setup.recipe.task.options.get("boxes", False))


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
