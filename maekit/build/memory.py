"""Refuses models and batches that no memory of this machine holds, before they are allocated.

The operating system gives out more memory than there is, and kills the process that uses it.
"""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING

from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.build.experiment import Experiment
    from maekit.core.transformer import TransformerConfig
    from maekit.tasks.task import Task

_WEIGHT, _TRAINED_WEIGHT = 4, 16
"""Bytes of a weight in float32, and with its gradient and Adam's two moments."""
_GIB = 2**30


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_transformer(config: TransformerConfig, location: str) -> None:
    """Refuse a transformer whose weights alone do not fit.

    Raises:
        UserError: see above.
    """
    needed, there = _WEIGHT * config.parameters, physical_memory()
    if needed > there:
        raise UserError(
            "a transformer larger than the memory of this machine",
            location=location,
            value=f"width {config.width}, depth {config.depth}: {needed / _GIB:,.1f} GiB of weights",
            expected=f"at most {there / _GIB:.1f} GiB",
            hint="Lower `width` or `depth`.",
        )


def check_training(experiment: Experiment, task: Task, device: str) -> None:
    """Refuse training on a CPU whose weights with optimizer, or whose batch of samples, does not fit.

    Args:
        experiment: gives the size of a batch.
        task: to be trained.
        device: type of the device; that of a GPU has limits of its own.

    Raises:
        UserError: see above.
    """
    there, training, loaded = physical_memory(), experiment.recipe.training, experiment.loaded
    needed = _TRAINED_WEIGHT * sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
    if device == "cpu" and needed > there:
        raise UserError(
            "a model that cannot be trained in the memory of this machine",
            location=loaded.locate("model"),
            value=f"{needed / _GIB:,.1f} GiB of weights, gradients and moments of the optimizer",
            expected=f"at most {there / _GIB:.1f} GiB",
            hint="Take a smaller `model.encoder`.",
        )
    batch = training.micro_batch or training.batch_size
    size = 4 * batch * prod(experiment.adapter.patchifier.sample_shape)
    if size > there:
        raise UserError(
            "a batch larger than the memory of this machine",
            location=loaded.locate("training", "micro_batch" if training.micro_batch else "batch_size"),
            value=f"{batch:,} samples: {size / _GIB:,.1f} GiB",
            expected=f"at most {there / _GIB:.1f} GiB",
            hint="Lower `training.batch_size`, or set `training.micro_batch` to take it in parts.",
        )
