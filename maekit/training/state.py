"""Saves a run in progress to a checkpoint, and restores it so that training continues bit for bit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from maekit.errors import UserError
from maekit.training import checkpoint
from maekit.training.soundness import has_exploded

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from maekit.tasks.task import Task
    from maekit.training.run import Run

logger = logging.getLogger(__name__)

FULL: dict[str, Any] = {"full_state_dict": True, "cpu_offload": True}
"""Unsharded state dicts on the CPU, so that any number of processes can resume from a checkpoint."""


def save_state(
    task: Task,
    optimizer: Optimizer,
    average: AveragedModel | None,
    run: Run,
    *,
    step: int,
    bad_steps: int,
    identity: dict[str, Any],
    keep: int | None,
    sound: bool,
    initial_rms: float,
) -> None:
    """Write a checkpoint. Every process must call this, since sharded weights are gathered; the first one writes.

    Args:
        task: its weights are saved.
        optimizer: its state is saved.
        average: moving average of the weights, or None.
        run: folder of the checkpoints.
        step: steps done.
        bad_steps: consecutive steps, up to now, that were not finite.
        identity: what a run must agree on to resume from this checkpoint.
        keep: how many of the newest checkpoints remain.
        sound: whether the loss of the newest step has not exploded.
        initial_rms: root mean square of the parameters before training.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    weights, optimizer_state = get_state_dict(task, optimizer, options=StateDictOptions(**FULL))
    if not run.writes:
        return
    tensors, rest = checkpoint.flatten(optimizer_state)
    state = {"bad_steps": bad_steps, "identity": identity, "optimizer": rest}
    groups = {"model": dict[str, Any](weights), "optimizer": tensors}
    if average is not None:
        groups[checkpoint.AVERAGE] = average.module.state_dict()
        state["averaged"] = int(average.n_averaged)
    parameters: list[Tensor] = [groups["model"][name] for name, _ in task.named_parameters() if name in weights]
    sound = sound and not has_exploded(parameters, initial_rms)
    checkpoint.save(run.checkpoints, checkpoint.Checkpoint(step, groups, state), keep=keep, sound=sound)


def restore_state(
    task: Task, optimizer: Optimizer, average: AveragedModel | None, run: Run, identity: dict[str, Any]
) -> tuple[int, int]:
    """Load the newest intact checkpoint of the run into task, optimizer and moving average.

    Metrics that were logged after it are removed, because those steps are run again.

    Returns:
        The number of steps done, and how many of the last ones in a row were not finite; zeros for a new run.

    Raises:
        UserError: the checkpoint belongs to another recipe or to other data.
    """
    saved, damaged = checkpoint.load_newest(run.checkpoints)
    if saved is None:
        run.rewind(0)
        return 0, 0
    for message in damaged:
        logger.warning("%s", message)
    if damaged:
        lost = checkpoint.steps(run.checkpoints)[-1] - saved.step
        logger.warning("%d steps are lost and will be run again from step %d", lost, saved.step)
    differing = sorted(name for name, value in identity.items() if saved.state["identity"].get(name) != value)
    if differing:
        raise UserError(
            "this run folder holds a run of another recipe or of other data; they differ in " + ", ".join(differing),
            location=str(run.folder),
            expected="the recipe and data it was started with",
            hint="Give the new run a name of its own with `--set name=...`; nothing was changed.",
        )
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    options = StateDictOptions(**FULL)
    optimizer_state = checkpoint.unflatten(saved.tensors["optimizer"], saved.state["optimizer"])
    weights = dict[str, Any](saved.tensors["model"])
    set_state_dict(task, optimizer, model_state_dict=weights, optim_state_dict=optimizer_state, options=options)
    if average is not None:
        average.module.load_state_dict(saved.tensors[checkpoint.AVERAGE])
        average.n_averaged.fill_(saved.state["averaged"])
    run.rewind(saved.step)
    logger.info("resuming from step %d", saved.step)
    return saved.step, saved.state["bad_steps"]
