"""The cells of one point of a study: which recipes with which overrides, and all that each result depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.build.experiment import LABELLED_TASKS, Experiment, build_experiment
from maekit.build.models import reads_patches
from maekit.build.prepare import identity, recipe_with_labels, recipe_without_labels
from maekit.config.data_spec import Folds, load_spec
from maekit.config.load import load_recipe
from maekit.config.merge import names_file
from maekit.config.routing import ONLY_PRETRAINING, Routing, compared
from maekit.config.shipped import find_recipe
from maekit.config.sweep import INIT
from maekit.data.splits import fold_count
from maekit.errors import UserError
from maekit.studies import methods
from maekit.studies.jobs import Job, digest, names

if TYPE_CHECKING:
    from collections.abc import Callable

    from maekit.config.load import LoadedRecipe
    from maekit.config.sweep import Point

SAMPLES = ("seed", "adapter", "data", "data files")
"""What decides samples, labels and split, of what `maekit.identity` gives."""


class PointPlan:
    """One point of the grid.

    Args:
        recipe: of the labelled task.
        point: values of the swept keys.
        opened: data that other points have opened.
        known: cells of other points by mark; new ones are added, those they need before them.
        overrides, others (`compare`), probing, runs, device: see `maekit.studies.study.plan`.

    Raises:
        UserError: a recipe without `init`, or whatever is wrong with recipes and data.
    """

    def __init__(
        self,
        recipe: Path,
        point: Point,
        opened: Opened,
        known: dict[str, Job],
        *,
        overrides: Sequence[str],
        others: Sequence[str],
        probing: bool,
        runs: Path,
        device: str | None,
    ) -> None:
        self.recipe, self.point, self.runs, self.device = recipe, point, runs, device
        self.probing, self.others, self.opened = probing, others, opened
        self.known = known
        plain = load_recipe(recipe, [s for s in (*overrides, *point.overrides()) if s.startswith("init.recipe=")])
        self.base = pretraining_of(plain)
        spec, other = (load_spec(one.recipe.data.spec, one.path.parent) for one in (plain, load_recipe(self.base)))
        self.routing = Routing(same_data=spec.name == other.name, probing=probing)
        self.overrides = list(overrides)
        if plain.recipe.data.window is None and spec.window is not None:  # a new length keeps the hop of the data spec
            window = json.dumps(spec.window.model_dump(mode="json", exclude_none=True))
            self.overrides.insert(0, f"data.window={window}")
        self.settings = settings = [*self.overrides, *point.overrides()]
        self.loaded = load_recipe(recipe, self.routing.labelled(settings))
        if self.loaded.recipe.task.name not in LABELLED_TASKS:
            raise UserError(
                "a pretraining recipe",
                location=self.loaded.locate("task", "name"),
                value=self.loaded.recipe.task.name,
                expected=", ".join(LABELLED_TASKS),
            )
        self.experiment, _ = opened(self.loaded, labels=True)
        self.split = split = self.loaded.recipe.data.split or self.experiment.spec.split
        self.folds = fold_count(self.experiment.source.groups, split) if isinstance(split, Folds) else 1
        if not len(self.experiment.split["test"]):
            raise UserError(
                "no group is held out to test on",
                location=self.loaded.locate("data", "split"),
                value=split,
                expected="`folds`, or groups in `test`",
            )
        self.there = names(runs / self.loaded.recipe.name / "cells")
        self.notes = [] if self.routing.same_data else [f"Pretrained on other data: {other.name}."]

    def cells(self, seed: int, fold: int, *, of: int) -> list[Job]:
        """Those of one round that have predictions, in the order in which they are shown.

        Args:
            seed, fold: of the round.
            of: how many seeds.
        """
        told = f"seed {seed + 1} of {of}, fold {fold + 1} of {self.folds}"
        told = f"{told}, {self.point}" if self.point.swept else told
        split = [] if self.split is None else [f"data.split={json.dumps(self._split(fold))}"]
        labelled = (*self.routing.labelled(self.settings), *split, f"seed={seed}")
        shared = split if self.routing.same_data else []
        unlabelled = (*self.routing.pretraining(self.settings), *shared, f"seed={seed}")
        # Estimators learn nothing: neither the seed nor what labels there are to train on changes what they say.
        every = (*labelled, "seed=0", "data.label_fraction=1", "data.labelled_groups=null")
        own, all_of = (self._identity(load_recipe(self.recipe, one), labels=True) for one in (labelled, every))
        pretraining = recipe_without_labels(self.base, unlabelled)
        theirs = self._identity(pretraining, labels=False)
        samples, same = ({name: found[name] for name in SAMPLES} for found in (own, all_of))
        weights = {name: theirs[name] for name in SAMPLES} | {
            name: value
            for name, value in pretraining.recipe.model_dump(mode="json")["model"].items()
            if f"model.{name}" not in ONLY_PRETRAINING
        }

        location = f"seed{seed}_fold{fold}"
        add = partial(self._cell, told, location)
        given: dict[str, Any] = {"recipe": self.recipe, "overrides": labelled}
        where: dict[str, Any] = {"runs": self.runs, "device": self.device}
        base = self._cell(
            told,
            location if self.routing.same_data else f"seed{seed}",
            "pretraining",
            theirs,
            self.to_pretraining,
            methods.Pretraining(recipe=self.base, overrides=unlabelled, **where),
        )
        probing = partial(methods.Probing, **given, pretraining=self.base, pretraining_overrides=unlabelled, **where)
        trained, others = [], []
        if not self.probing:
            tuning = partial(methods.Tuning, **given, **where)
            trained = [
                add("pretrained", own, self.to_either, tuning(arm="pretrained, fine-tuned"), base),
                add("scratch", own, self.to_labelled, tuning(arm="from scratch, fine-tuned")),
            ]
            others = [self._beside(other, labelled, add) for other in self.others]
        if reads_patches(self.loaded.recipe):  # then a probe is the task's own head on a frozen encoder
            frozen = (*labelled, "task.tune=frozen")
            head = self._identity(load_recipe(self.recipe, frozen), labels=True)
            tuning = partial(methods.Tuning, recipe=self.recipe, overrides=frozen, **where)
            probes = [
                add("probe", head, self.to_either, tuning(arm="pretrained, linear probe"), base),
                add("random_probe", head, self.to_weights, tuning(arm="random weights, linear probe")),
            ]
        else:
            probes = [
                add("probe", samples, self.to_either, probing(arm="pretrained"), base),
                add("random_probe", [samples, weights], self.to_weights, probing(arm="random weights")),
            ]
        objects = self.experiment.source.objects is not None
        return [
            *trained,
            *probes,
            add("shallow", [samples, own["task"]], self.to_labelled, methods.ObjectClassifierBaseline(**given))
            if objects
            else add("raw", samples, self.to_samples, methods.RawInput(**given)),
            self._cell(
                told, f"fold{fold}", "estimators", same, self.to_every_sample, methods.Estimators(self.recipe, every)
            ),
            *(
                []
                if objects
                else [
                    self._cell(
                        told, f"fold{fold}", "ceiling", same, self.to_every_sample, methods.Oracle(self.recipe, every)
                    )
                ]
            ),
            add("constant", [samples, "pace"], self.to_samples, methods.Constant(**given)),
            *others,
        ]

    def stands(self) -> bool:
        """Whether the values of this point are those of the recipes themselves."""
        own = load_recipe(self.recipe, self.routing.labelled(self.overrides)).recipe.model_dump()
        theirs = load_recipe(self.base, self.routing.pretraining(self.overrides)).recipe.model_dump()
        for swept, value in zip(self.point.swept, self.point.values, strict=True):
            found: Any = own if self.to_labelled(swept.key) else theirs
            for part in swept.key.removeprefix("" if swept.key == "init.recipe" else INIT).split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found not in (value, {"name": value}):
                return False
        return True

    def to_pretraining(self, key: str) -> bool:
        """Which keys change the pretraining; those below change what their names say."""
        return self.routing.to_pretraining(key)

    def to_labelled(self, key: str) -> bool:
        return self.routing.to_labelled(key)

    def to_either(self, key: str) -> bool:
        return self.to_pretraining(key) or self.to_labelled(key)

    def to_samples(self, key: str) -> bool:
        return self.to_labelled(key) and key.split(".")[0] in ("data", "adapter")

    def to_every_sample(self, key: str) -> bool:
        return self.to_samples(key) and not key.startswith("data.label")

    def to_weights(self, key: str) -> bool:
        return self.to_samples(key) or key.startswith(INIT) or (self.to_labelled(key) and key.startswith("model."))

    def _cell(
        self, told: str, location: str, kind: str, key: Any, reaches: Callable[[str], bool], compute: Any, *needs: Job
    ) -> Job:
        """A cell named by what it depends on, or the one that was made before.

        Args:
            told, location: of the round, for a person and in the name.
            kind: what is done.
            key: all that the result depends on, as plain data.
            reaches: which swept keys it depends on, for a readable name.
            compute: see `Job`; a training's run gets the name of the cell.
            needs: cells whose results it takes.
        """
        mark = digest(kind, key, [cell.mark for cell in needs])
        if mark not in self.known:
            name = "/".join(filter(None, [self.point.only(reaches).folder, location, f"{kind}-{mark}"]))
            if isinstance(compute, methods.Training):
                compute = replace(compute, run=f"{self.loaded.recipe.name}/{name}")
            needed = tuple(cell.name for cell in needs)
            self.known[mark] = Job(kind, self.there.get(mark, name), compute, needed, f"{told}: {kind}")
        return self.known[mark]

    def _beside(self, other: str, labelled: Sequence[str], add: Callable[..., Job]) -> Job:
        """Another recipe from scratch, on the very samples of this one."""
        path, mine = find_recipe(other), load_recipe(self.recipe, labelled)
        theirs = recipe_with_labels(path)
        same = theirs.recipe.adapter.name == mine.recipe.adapter.name
        data = mine.recipe.data.model_dump(mode="json", exclude_none=True)
        if names_file(data["spec"]):
            data["spec"] = str((mine.path.parent / data["spec"]).resolve())
        settings = (*compared(self.settings, same_adapter=same), f"data={json.dumps(data)}", f"seed={mine.recipe.seed}")
        tuning = methods.Tuning(
            arm=f"{theirs.recipe.name}, from scratch",
            recipe=path,
            overrides=settings,
            runs=self.runs,
            device=self.device,
        )
        key = [theirs.recipe.name, self._identity(load_recipe(path, settings), labels=True)]
        return add("compare", key, self.to_samples, tuning)

    def _identity(self, loaded: LoadedRecipe, *, labels: bool) -> dict[str, Any]:
        return identity(loaded.recipe, self.opened(loaded, labels=labels)[1])

    def _split(self, fold: int) -> dict[str, Any]:
        assert self.split is not None
        stated = self.split.model_dump(mode="json")
        return stated | {"fold": fold} if isinstance(self.split, Folds) else stated


def pretraining_of(loaded: LoadedRecipe) -> Path:
    """The file of the recipe that a labelled one starts from.

    Raises:
        UserError: it is itself a pretraining (with the labelled ones that start from it), or it starts from nothing.
    """
    if loaded.pretraining_path is not None:
        return loaded.pretraining_path
    starting = []
    for path in sorted(loaded.path.parent.glob("*.yaml")):
        try:
            other = load_recipe(path)
        except UserError:
            continue  # of others in the same folder nothing was asked
        if other.pretraining_path is not None and other.pretraining_path.resolve() == loaded.path.resolve():
            starting.append(str(path))
    raise UserError(
        "this needs a labelled recipe that starts from a pretraining",
        location=str(loaded.path),
        expected=" or ".join(starting) or "`init: {recipe: PRETRAINING.yaml}`",
    )


class Opened:
    """Data of recipes, each opened once however many points read the same windows of the same files."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[Experiment, str]] = {}

    def __call__(self, loaded: LoadedRecipe, *, labels: bool) -> tuple[Experiment, str]:
        """The data and their fingerprint; the split is that of the recipe that asked first."""
        data = loaded.recipe.data.model_dump_json(include={"spec", "root", "window", "bad_samples"})
        signals = loaded.recipe.model_dump_json(include={"adapter", "auxiliary"})
        key = (data, signals, str(loaded.path.parent), str(labels))
        if key not in self._known:
            experiment = build_experiment(loaded, labels=labels, fit=False)
            self._known[key] = experiment, experiment.source.fingerprint()
        return self._known[key]
