"""From a recipe and its data to the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from maekit.build.experiment import task_class
from maekit.build.parts import ExperimentParts, label_kind_of, require_fitting_labels
from maekit.config.options import construct
from maekit.data.loading import collate
from maekit.data.sampler import Key
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


SAMPLES_TO_CHECK = 256
"""Training samples, spread evenly, of which one must have a patch to predict."""


@torch.no_grad()
def check_prediction(experiment: Experiment, task: Task) -> None:
    """Refuse a masked autoencoder that has nothing to predict in any sample: its loss would be 0 from the first step on.

    That is so where every patch holds something that was not measured, or where the target is defined at no patch.

    Raises:
        UserError: no patch is both measured and removed.
    """
    if task.autoencoder is None:
        return
    samples = experiment.some_samples("train")
    was_training = task.training
    task.eval()
    for position in range(0, len(samples), -(-len(samples) // SAMPLES_TO_CHECK)):
        rows = task.eval_step(collate([samples[Key(0, position)]]))
        if "scored" not in rows or rows["scored"].any():
            task.train(was_training)
            return
    loaded = experiment.loaded
    raise UserError(
        "nothing to predict: no training sample has a patch that is both measured and removed",
        location=loaded.locate("adapter"),
        value=f"patches in a grid of {experiment.adapter.patchifier.grid_size}, mask_ratio {loaded.recipe.model.mask_ratio}",
        expected="patches without missing values, some of which the mask removes",
        hint="Use shorter patches, another masking or another target; `maekit data check` counts missing values.",
    )


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
