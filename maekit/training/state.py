"""Between a run in memory and its checkpoints: nothing else is needed to go on bit for bit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from maekit.errors import UserError
from maekit.training import checkpoint

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from maekit.tasks.task import Task
    from maekit.training.run import Run

logger = logging.getLogger(__name__)

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save(
    task: Task,
    optimizer: Optimizer,
    average: AveragedModel | None,
    run: Run,
    *,
    step: int,
    bad: int,
    identity: dict[str, Any],
    keep: int,
) -> None:
    """Write a checkpoint of the whole run, whatever the number of processes that hold its parts."""
    model: dict[str, Any]
    model, optim = get_state_dict(task, optimizer, options=WHOLE)
    if not run.writes:
        return
    tensors, rest = checkpoint.flatten(optim)
    state = {"bad": bad, "identity": identity, "optimizer": rest}
    parts = {"model": dict[str, Any](model), "optimizer": tensors}
    if average is not None:
        parts[checkpoint.AVERAGE] = average.module.state_dict()
        state["averaged"] = int(average.n_averaged)
    checkpoint.save(run.checkpoints, checkpoint.Checkpoint(step, parts, state), keep=keep)


def restore(
    task: Task, optimizer: Optimizer, average: AveragedModel | None, run: Run, identity: dict[str, Any]
) -> tuple[int, int]:
    """Load the newest sound checkpoint of the run into task, optimizer and moving average.

    Returns:
        The step to go on from, and how many steps in a row had not been finite; zeros for a new run.

    Raises:
        UserError: the checkpoint is of another recipe or of other data.
    """
    found, passed_over = checkpoint.load_newest(run.checkpoints)
    for note in passed_over:
        logger.warning("%s", note)
    if found is None:
        run.rewind(0)
        return 0, 0
    differing = sorted(name for name, value in identity.items() if found.state["identity"].get(name) != value)
    if differing:
        raise UserError(
            "this run folder holds a run of another recipe or of other data; they differ in " + ", ".join(differing),
            location=str(run.folder),
            expected="the recipe and data it was started with",
            hint="Give the new run a name of its own with `--set name=...`; nothing was changed.",
        )
    optim = checkpoint.unflatten(found.tensors["optimizer"], found.state["optimizer"])
    set_state_dict(
        task, optimizer, model_state_dict=dict[str, Any](found.tensors["model"]), optim_state_dict=optim, options=WHOLE
    )
    if average is not None:
        average.module.load_state_dict(found.tensors[checkpoint.AVERAGE])
        average.n_averaged.fill_(found.state["averaged"])
    run.rewind(found.step)
    logger.info("going on from step %d", found.step)
    return found.step, found.state["bad"]
