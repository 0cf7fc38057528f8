"""The jobs of one point of a study's grid: recipes, overrides, and everything that each result depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from maekit.build.experiment import task_class
from maekit.build.parts import label_kind_of
from maekit.build.prepare import recipe_with_labels, recipe_without_labels, require_labels
from maekit.config.data_spec import load_spec
from maekit.config.load import load_recipe
from maekit.config.merge import names_file
from maekit.config.routing import ONLY_PRETRAINING, Routing, compared
from maekit.config.shipped import find_recipe
from maekit.config.split_spec import Folds
from maekit.config.sweep import INIT
from maekit.data.splits import fold_count
from maekit.errors import UserError
from maekit.studies import methods
from maekit.studies.jobs import Job, digest, result_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from maekit.config.load import LoadedRecipe
    from maekit.config.sweep import GridPoint
    from maekit.studies.opened_data import OpenedData

SAMPLES = ("seed", "adapter", "data", "data files")
"""Entries of `maekit.build.prepare.identity` that decide samples, labels and split."""
TRAININGS = (methods.pretrain_job, methods.finetune_job)
"""Functions of jobs that have a run folder, named after the job."""


@dataclass(frozen=True)
class Inputs:
    """What the jobs of one seed and fold start from.

    Attributes:
        labelled: overrides of the labelled recipe.
        all_labels: the same with every label and seed 0, for what learns nothing.
        pretraining: overrides of the pretraining recipe.
        depends: on what results depend: everything of the `labelled` recipe or of the `pretraining`; the `samples` alone;
            `all_samples`, without what decides the use of labels; initial `weights` of the encoder.
    """

    labelled: tuple[str, ...]
    all_labels: tuple[str, ...]
    pretraining: tuple[str, ...]
    depends: dict[str, dict[str, Any]]


class PointPlan:
    """One point of the grid.

    Args:
        recipe: of the labelled task.
        point: values of the swept keys.
        data: opened for other points.
        jobs: of other points by digest; new ones are added, those that they need before them.
        overrides, compare, probing, runs, device: see `maekit.studies.study.plan`.

    Raises:
        UserError: a recipe without `init`, or whatever is wrong with recipes and data.
    """

    def __init__(
        self,
        recipe: Path,
        point: GridPoint,
        data: OpenedData,
        jobs: dict[str, Job],
        *,
        overrides: Sequence[str],
        compare: Sequence[str],
        probing: bool,
        runs: Path,
        device: str | None,
    ) -> None:
        self.recipe, self.point, self.data, self.jobs = recipe, point, data, jobs
        self.probing, self.compare = probing, compare
        self.place: dict[str, Any] = {"runs": runs, "device": device}
        plain = load_recipe(recipe, [s for s in (*overrides, *point.overrides()) if s.startswith("init.recipe=")])
        self.pretraining = pretraining_of(plain)
        spec, other = (
            load_spec(loaded.recipe.data.spec, loaded.path.parent) for loaded in (plain, load_recipe(self.pretraining))
        )
        self.routing = Routing(same_data=spec.name == other.name, probing=probing)
        self.overrides = list(overrides)
        if plain.recipe.data.window is None and spec.window is not None:  # a new length keeps the hop of the data spec
            window = json.dumps(spec.window.model_dump(mode="json", exclude_none=True))
            self.overrides.insert(0, f"data.window={window}")
        self.settings = [*self.overrides, *point.overrides()]
        self.loaded = load_recipe(recipe, self.routing.labelled(self.settings))
        require_labels(self.loaded)
        self.experiment = data.experiment(self.loaded, labels=True)
        self.labels = label_kind_of(self.experiment)
        self.split = split = self.loaded.recipe.data.split or self.experiment.spec.split
        self.folds = fold_count(self.experiment.source.groups, split) if isinstance(split, Folds) else 1
        if not len(self.experiment.split["test"]):
            raise UserError(
                "no group is held out to test on",
                location=self.loaded.locate("data", "split"),
                value=split,
                expected="`folds`, or groups in `test`",
            )
        self.stored = result_names(runs / self.loaded.recipe.name / "jobs")
        self.notes = [] if self.routing.same_data else [f"Pretrained on other data: {other.name}."]

    def predicting_jobs(self, seed: int, fold: int, *, seeds: int) -> list[Job]:
        """Jobs of one seed and fold that have predictions, in the order in which methods are shown.

        Args:
            seed: counted from 0.
            fold: counted from 0.
            seeds: how many there are.
        """
        description = f"seed {seed + 1} of {seeds}, fold {fold + 1} of {self.folds}"
        description = f"{description}, {self.point}" if self.point.swept else description
        inputs, location = self._inputs(seed, fold), f"seed{seed}_fold{fold}"
        add = partial(self._job, description, location)
        base = self._job(
            description,
            location if self.routing.same_data else f"seed{seed}",
            "pretraining",
            inputs.depends["pretraining"],
            self.routing.to_pretraining,
            methods.pretrain_job,
            {"recipe": self.pretraining, "overrides": inputs.pretraining, **self.place},
        )
        trained = [] if self.probing else self._trained(add, inputs, base)
        probes = self._probes(add, inputs, base)
        baselines = self._baselines(add, partial(self._job, description, f"fold{fold}"), inputs)
        compared_recipes = [] if self.probing else [self._comparison(add, other, inputs) for other in self.compare]
        return [*trained, *probes, *baselines, *compared_recipes]

    def is_recipe_itself(self) -> bool:
        """Whether the values of this point are those of the recipes themselves."""
        labelled = load_recipe(self.recipe, self.routing.labelled(self.overrides)).recipe.model_dump()
        pretraining = load_recipe(self.pretraining, self.routing.pretraining(self.overrides)).recipe.model_dump()
        for swept, value in zip(self.point.swept, self.point.values, strict=True):
            stated: Any = labelled if self.routing.to_labelled(swept.key) else pretraining
            for part in swept.key.removeprefix("" if swept.key == "init.recipe" else INIT).split("."):
                stated = stated.get(part) if isinstance(stated, dict) else None
            if stated not in (value, {"name": value}):
                return False
        return True

    def _inputs(self, seed: int, fold: int) -> Inputs:
        split = [] if self.split is None else [f"data.split={json.dumps(self._split(fold))}"]
        labelled = (*self.routing.labelled(self.settings), *split, f"seed={seed}")
        shared = split if self.routing.same_data else []
        unlabelled = (*self.routing.pretraining(self.settings), *shared, f"seed={seed}")
        all_labels = (*labelled, "seed=0", "data.label_fraction=1", "data.labelled_groups=null")
        own, unseeded = (
            self.data.identity(load_recipe(self.recipe, overrides), labels=True) for overrides in (labelled, all_labels)
        )
        pretraining = recipe_without_labels(self.pretraining, unlabelled)
        depends = {"labelled": own, "pretraining": self.data.identity(pretraining, labels=False)}
        depends["samples"], depends["all_samples"], depends["weights"] = (
            {name: whole[name] for name in SAMPLES} for whole in (own, unseeded, depends["pretraining"])
        )
        model = pretraining.recipe.model_dump(mode="json")["model"]
        depends["weights"] |= {name: model[name] for name in model if f"model.{name}" not in ONLY_PRETRAINING}
        return Inputs(labelled, all_labels, unlabelled, depends)

    def _trained(self, add: Callable[..., Job], inputs: Inputs, base: Job) -> list[Job]:
        """Fine-tuning of the pretrained encoder, and the same from scratch."""
        key, arguments = inputs.depends["labelled"], self._labelled(inputs.labelled)
        pretrained, scratch = (
            arguments | {"method": f"{start}, fine-tuned"} for start in ("pretrained", "from scratch")
        )
        return [
            add("pretrained", key, self._to_either, methods.finetune_job, pretrained | self.place, base),
            add("scratch", key, self.routing.to_labelled, methods.finetune_job, scratch | self.place),
        ]

    def _probes(self, add: Callable[..., Job], inputs: Inputs, base: Job) -> list[Job]:
        """Probes of the pretrained encoder and of its random initial weights."""
        if task_class(self.loaded).reads_patches(self.loaded.recipe.task.options):
            # A probe is then the task's own head on a frozen encoder.
            frozen = (*inputs.labelled, "task.tune=frozen")
            key: Any = self.data.identity(load_recipe(self.recipe, frozen), labels=True)
            function: Any = methods.finetune_job
            pretrained, random = (
                {**self._labelled(frozen), "method": f"{encoder}, linear probe", **self.place}
                for encoder in ("pretrained", "random weights")
            )
            random_key = key
        else:
            key, function = inputs.depends["samples"], methods.probe_job
            random_key = [key, inputs.depends["weights"]]
            base_arguments = {"pretraining_recipe": self.pretraining, "pretraining_overrides": inputs.pretraining}
            pretrained, random = (
                {**self._labelled(inputs.labelled), **base_arguments, "encoder": encoder, **self.place}
                for encoder in ("pretrained", "random weights")
            )
        return [
            add("probe", key, self._to_either, function, pretrained, base),
            add("random_probe", random_key, self._to_weights, function, random),
        ]

    def _baselines(self, add: Callable[..., Job], add_to_fold: Callable[..., Job], inputs: Inputs) -> list[Job]:
        """What needs no network; of it, what learns nothing is the same for all seeds."""
        task = inputs.depends["labelled"]["task"]
        samples, all_samples = inputs.depends["samples"], inputs.depends["all_samples"]
        labelled, all_labels = self._labelled(inputs.labelled), self._labelled(inputs.all_labels)
        constant = add("constant", [samples, task], self._to_samples, methods.constant_job, labelled)
        baselines = add_to_fold(
            "baselines", [all_samples, task], self._to_all_samples, methods.baselines_job, all_labels
        )
        jobs = []
        if self.labels.has_learned_baselines:
            reaches = self.routing.to_labelled
            jobs.append(add("learned_baselines", [samples, task], reaches, methods.learned_baselines_job, labelled))
        if self.labels.linear_model() is not None:
            jobs.append(add("raw_input", samples, self._to_samples, methods.raw_input_job, labelled))
        jobs.append(baselines)
        if self.labels.is_continuous:
            jobs.append(add_to_fold("oracle", all_samples, self._to_all_samples, methods.oracle_job, all_labels))
        return [*jobs, constant]

    def _comparison(self, add: Callable[..., Job], other: str, inputs: Inputs) -> Job:
        """Another recipe from scratch, on the very samples of this one."""
        path, mine = find_recipe(other), load_recipe(self.recipe, inputs.labelled)
        theirs = recipe_with_labels(path)
        same = theirs.recipe.adapter.name == mine.recipe.adapter.name
        data = mine.recipe.data.model_dump(mode="json", exclude_none=True)
        if names_file(data["spec"]):
            data["spec"] = str((mine.path.parent / data["spec"]).resolve())
        overrides = (
            *compared(self.settings, same_adapter=same),
            f"data={json.dumps(data)}",
            f"seed={mine.recipe.seed}",
        )
        key = [theirs.recipe.name, self.data.identity(load_recipe(path, overrides), labels=True)]
        arguments = {"recipe": path, "overrides": overrides, "method": f"{theirs.recipe.name}, from scratch"}
        return add("compare", key, self._to_samples, methods.finetune_job, arguments | self.place)

    def _job(
        self,
        description: str,
        location: str,
        kind: str,
        key: Any,
        reaches: Callable[[str], bool],
        function: Callable[..., Any],
        arguments: dict[str, Any],
        *needs: Job,
    ) -> Job:
        """A job named by what it depends on, or the one that was planned before.

        Args:
            description: of seed and fold, for a person.
            location: of seed and fold, in the name.
            kind: of computation.
            key: all that the result depends on, as plain data.
            reaches: which swept keys it depends on, for a readable name.
            function: see `Job`.
            arguments: of the function; a training also gets a run, with the name of the job.
            needs: jobs whose results it takes.
        """
        mark = digest(kind, key, [job.digest for job in needs])
        if mark not in self.jobs:
            name = "/".join(filter(None, [self.point.only(reaches).folder, location, f"{kind}-{mark}"]))
            if function in TRAININGS:
                arguments = arguments | {"run": f"{self.loaded.recipe.name}/{name}"}
            needed = tuple(job.name for job in needs)
            self.jobs[mark] = Job(
                kind, self.stored.get(mark, name), function, arguments, needed, f"{description}: {kind}"
            )
        return self.jobs[mark]

    def _labelled(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        return {"recipe": self.recipe, "overrides": overrides}

    def _to_either(self, key: str) -> bool:
        return self.routing.to_pretraining(key) or self.routing.to_labelled(key)

    def _to_samples(self, key: str) -> bool:
        return self.routing.to_labelled(key) and key.split(".")[0] in ("data", "adapter")

    def _to_all_samples(self, key: str) -> bool:
        return self._to_samples(key) and not key.startswith("data.label")

    def _to_weights(self, key: str) -> bool:
        model = self.routing.to_labelled(key) and key.startswith("model.")
        return self._to_samples(key) or key.startswith(INIT) or model

    def _split(self, fold: int) -> dict[str, Any]:
        assert self.split is not None
        stated = self.split.model_dump(mode="json")
        return stated | {"fold": fold} if isinstance(self.split, Folds) else stated


def pretraining_of(loaded: LoadedRecipe) -> Path:
    """The file of the recipe that a labelled one starts from.

    Raises:
        UserError: it is itself a pretraining (the message names labelled recipes that start from it), or has no `init`.
    """
    if loaded.pretraining_path is not None:
        return loaded.pretraining_path
    labelled = []
    for path in sorted(loaded.path.parent.glob("*.yaml")):
        try:
            pretraining = load_recipe(path).pretraining_path
        except UserError:
            continue  # a mistake in a recipe that nobody asked for
        if pretraining is not None and pretraining.resolve() == loaded.path.resolve():
            labelled.append(str(path))
    raise UserError(
        "this needs a labelled recipe that starts from a pretraining",
        location=str(loaded.path),
        expected=" or ".join(labelled) or "`init: {recipe: PRETRAINING.yaml}`",
    )
