"""Features of a trained encoder, one row a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.build.experiment import Experiment
from maekit.build.open_run import open_run
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.errors import UserError
from maekit.tasks.transfer import pool
from maekit.training.distributed import Process, init_distributed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.tasks.task import Task


def embed(
    run: Path,
    target: Path,
    *,
    sides: Sequence[str] = ("train", "validation", "test"),
    pooling: str = "mean",
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> Path:
    """Write the features of every sample to an HDF5 file: `features`, `group`, `location`, `side`, `label`.

    Nothing is masked. `pooling` is `mean` of the measured patch tokens or the `class` token.

    Raises:
        UserError: a file that is there already.
    """
    if target.exists():
        raise UserError("would overwrite what is there", location=str(target), hint="Choose another file.")
    experiment, task = open_run(run, overrides=overrides)
    with init_distributed(device) as process:
        parts = {
            side: embeddings(experiment, task, side, process, pooling) for side in sides if len(experiment.split[side])
        }
    with replacing_hdf5(target) as file:
        for side, (features, indices) in parts.items():
            group = file.create_group(side)
            group["features"] = features
            group["group"] = experiment.source.groups[indices].astype("S")
            group["location"] = np.array([experiment.source[int(i)].location for i in indices], dtype="S")
            if experiment.source.labels is not None:
                group["label"] = experiment.source.labels[indices]
    return target


def embeddings(
    experiment: Experiment, task: Task, side: str, process: Process, pooling: str = "mean"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(samples, width) features of one side of the split from the encoder of a task, and the index of each sample.

    They are in the order of the split, without those that could not be read.
    """
    encoder = task.encoder
    if encoder is None:
        raise UserError(
            "no encoder of samples in this run",
            value=f"task {experiment.recipe.task.name}",
            expected="a run of a task with an encoder",
        )
    samples = experiment.some_samples(side)
    task.to(process.device).eval()
    found, indices = [], []
    batches = BatchSampler(len(samples), experiment.recipe.training.at_once(1), shuffle=False)
    with torch.inference_mode():
        for batch in loader(samples, batches):
            indices.append(batch["index"])
            batch = to_device(batch, process.device)
            x, valid = task.front(batch["signal"], batch.get("valid"))
            found.append(pool(encoder(x, valid), valid, "class" if pooling == "class" else "mean").float().cpu())
    return each_once(torch.cat(found).numpy(), torch.cat(indices).numpy())


def each_once(rows: NDArray[Any], indices: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows and indices of samples without those that stood in for another."""
    _, first = np.unique(indices, return_index=True)
    first.sort()
    return rows[first], indices[first]
