"""The parts of an experiment that tasks and label kinds are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit import plugins
from maekit.build.experiment import task_class
from maekit.build.models import make_autoencoder, make_encoder
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from maekit.adapter import Adapter
    from maekit.build.experiment import Experiment
    from maekit.config.data_spec import DataSpec
    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.core.encoders.base import Backbone
    from maekit.data.sample import Source
    from maekit.data.splits import Indices
    from maekit.metrics.plane import Plane
    from maekit.tasks.label_kinds.base import LabelKind
    from maekit.tasks.task import Task


@dataclass(frozen=True)
class ExperimentParts:
    """Implements `maekit.tasks.parts.Parts` for an experiment."""

    experiment: Experiment

    @property
    def spec(self) -> DataSpec:
        """The data spec."""
        return self.experiment.spec

    @property
    def source(self) -> Source:
        """All samples."""
        return self.experiment.source

    @property
    def split(self) -> Indices:
        """Indices of each side."""
        return self.experiment.split

    @property
    def adapter(self) -> Adapter:
        """The adapter."""
        return self.experiment.adapter

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of all samples."""
        return self.experiment.labels

    def make_front(self) -> nn.Module:
        """The front end."""
        return self.experiment.make_front()

    def make_encoder(self) -> Backbone:
        """The encoder, with new weights."""
        return make_encoder(self.experiment)

    def make_autoencoder(self) -> MaskedAutoencoder:
        """The masked autoencoder, with new weights."""
        return make_autoencoder(self.experiment)

    def training_labels(self) -> NDArray[Any]:
        """Labels of the training split."""
        return np.asarray(self.labels[self.split["train"]])

    def patch_values(self) -> NDArray[np.float64] | None:
        """Values of the label that the patches stand for."""
        return self.experiment.adapter.patch_values()

    def plane(self) -> Plane:
        """Coordinates of the cells of a sample.

        Raises:
            UserError: the adapter has none, or the data spec has steps that are not possible.
        """
        experiment = self.experiment
        try:
            plane = experiment.adapter.plane()
        except ValueError as error:
            raise UserError(str(error), location=f"data spec {experiment.spec.name}: signal.steps") from error
        if plane is None:
            raise UserError(
                "it is not known where the cells of a sample lie",
                location=experiment.loaded.locate("adapter"),
                value=experiment.recipe.adapter.name,
                expected="an adapter with a `plane`, and `steps` of its axes in the data spec",
                hint="A task that finds objects needs the coordinates of both axes.",
            )
        return plane


def label_kind_of(experiment: Experiment) -> LabelKind:
    """The label kind of the recipe's task, with what it knows of the data.

    Raises:
        UserError: a task without labels, data with labels of another kind, or options that do not go with them.
    """
    recipe, loaded = experiment.recipe, experiment.loaded
    task = task_class(loaded)
    if task.label_kind is None:
        raise UserError(
            "a task without labels",
            location=loaded.locate("task", "name"),
            value=recipe.task.name,
            expected="one of " + ", ".join(task_names(labels=True)),
        )
    require_fitting_labels(experiment, task)
    try:
        kind: LabelKind = task.label_kind.from_parts(ExperimentParts(experiment), recipe.task.options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{recipe.task.name}: {error}", location=loaded.locate("task")) from error
    return kind


def require_fitting_labels(experiment: Experiment, task: type[Task]) -> None:
    """Refuse a task whose labels are not those of the data.

    Raises:
        UserError: labels of another kind.
    """
    if task.label_kind is None or task.label_kind.fits(experiment.source):
        return
    tasks = {name: plugins.find("tasks", name) for name in task_names(labels=True)}
    fitting = {name: one.label_kind for name, one in tasks.items() if one.label_kind.fits(experiment.source)}
    labels = next((kind.name for kind in fitting.values()), "labels that no task is for")
    name = experiment.recipe.task.name
    raise UserError(
        f"{name} does not fit the labels",
        location=experiment.loaded.locate("task"),
        value=f"{labels} in {experiment.spec.name}",
        expected=f"{' or '.join(fitting) or 'another data set'} for {labels}",
    )


def task_names(*, labels: bool) -> list[str]:
    """Names of the installed tasks with labels, or of those without; a package that cannot be imported is left out."""
    names = []
    for name in plugins.names("tasks"):
        try:
            task: type[Task] = plugins.find("tasks", name)
        except UserError:
            continue
        if task.needs_labels == labels:
            names.append(name)
    return names
