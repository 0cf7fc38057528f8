"""From a recipe and its data to the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from maekit.build.experiment import task_class
from maekit.build.parts import ExperimentParts, label_kind_of, require_fitting_labels
from maekit.config.options import construct
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from maekit.build.experiment import Experiment
    from maekit.tasks.task import Task


def make_task(experiment: Experiment) -> Task:
    """The task of a recipe, with new weights.

    Raises:
        UserError: a task, labels or options that do not fit.
    """
    loaded, recipe = experiment.loaded, experiment.recipe
    kind = task_class(loaded)
    require_fitting_labels(experiment, kind)
    task: Task = construct(kind, recipe.task, loaded, ("task",), **kind.build_arguments(ExperimentParts(experiment)))
    if kind.label_kind is not None:
        label_kind_of(experiment).check(experiment)
    if recipe.training.parallel == "fsdp2" and not task.can_be_sharded:
        raise UserError(
            "a task whose weights cannot be sharded",
            location=loaded.locate("training", "parallel"),
            value=f"fsdp2 with {recipe.task.name}",
            expected="ddp: a part of it needs whole weights in every process",
        )
    try:
        task.check_auxiliary(experiment.auxiliary)
    except ValueError as error:
        raise UserError(str(error), location=loaded.locate("task")) from error
    task.fronts.update({name: experiment.make_front(name) for name in experiment.auxiliary})
    return task


def fit_task(experiment: Experiment, task: Task) -> None:
    """Let a task compute what it needs from the patches of training samples, without augmentation.

    Raises:
        UserError: patches from which it cannot be computed.
    """
    try:
        task.fit(TrainingPatches(experiment))
    except ValueError as error:
        raise UserError(str(error), location=experiment.loaded.locate("model", "target")) from error


@dataclass(frozen=True)
class TrainingPatches:
    """Standardised (patch, patch_dim) of one training sample after the other, NaN where not measured; read anew each time."""

    experiment: Experiment

    def __iter__(self) -> Iterator[Tensor]:
        adapter, front = self.experiment.adapter, self.experiment.make_front()
        for sample in self.experiment.to_fit():
            signal, valid = adapter.prepare(sample)
            x, measured = front(
                torch.from_numpy(signal)[None], None if valid is None else torch.from_numpy(valid)[None]
            )
            patches = adapter.patchifier.patchify(x)[0]
            yield patches if measured is None else patches.where(measured[0, :, None], torch.nan)
