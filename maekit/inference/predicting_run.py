"""A run that predicts along recordings or streams of samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from maekit.build import training_stats
from maekit.build.open_run import open_run
from maekit.build.parts import label_kind_of, task_names
from maekit.errors import UserError
from maekit.tasks.label_kinds.recording_output import TrainedRun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maekit.build.experiment import Experiment
    from maekit.build.training_stats import TrainingStats
    from maekit.tasks.label_kinds.recording_output import PredictOptions, RecordingOutput
    from maekit.tasks.task import Task


@dataclass(frozen=True)
class PredictingRun:
    """A run of a task with labels.

    Attributes:
        folder: of the run.
        experiment: of the run, without data.
        task: with its weights.
        stats: of its training data.
        limits: those of quality; None: quality does not count.
    """

    folder: Path
    experiment: Experiment
    task: Task
    stats: TrainingStats
    limits: TrainingStats | None

    @property
    def trained(self) -> TrainedRun:
        """What label kinds know of the run."""
        return TrainedRun(self.folder, self.task, self.experiment.adapter, self.stats.label_dynamics)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of all weights, by name."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.task.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def open_predicting(run: Path, overrides: Sequence[str] = (), *, gate: bool = True) -> PredictingRun:
    """Open a run of a task with labels; its data are read only where its training statistics are not there.

    Args:
        run: folder.
        overrides: of its recipe.
        gate: whether its limits of quality count.

    Raises:
        UserError: no such run, or one that predicts nothing along recordings.
    """
    stats = training_stats.read(run)
    infos = (stats.signal, stats.auxiliary) if stats else (None, None)
    experiment, task = open_run(run, overrides=overrides, data=stats is None, info=infos[0], auxiliary=infos[1])
    if not task.needs_labels:
        raise UserError(
            "a run that predicts no labels",
            location=str(run),
            value=f"task {experiment.recipe.task.name}",
            expected="a run of " + " or ".join(task_names(labels=True)),
            hint="`maekit finetune` makes one.",
        )
    if experiment.spec.kind != "hdf5":
        raise UserError(
            "a run on single files, which do not follow each other in time",
            location=str(run),
            value=f"kind {experiment.spec.kind}",
            expected="a run on HDF5 recordings",
        )
    if stats is None:
        stats = training_stats.measure(experiment)
        training_stats.write(run, stats)
    return PredictingRun(run, experiment, task, stats, stats if gate else None)


def make_output(run: PredictingRun, options: PredictOptions) -> RecordingOutput[Any]:
    """What the label kind makes of predictions along a recording.

    Raises:
        UserError: labels that are not predicted along recordings, or options that mean nothing for them.
    """
    kind = label_kind_of(run.experiment)
    output = kind.make_recording_output(run.trained, options)
    if output is None:
        raise UserError(
            f"{kind.name} are not predicted along recordings",
            location=str(run.folder),
            value=f"task {run.experiment.recipe.task.name}",
        )
    return output
