"""Predictions and metrics of a run on one side of its split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.build.open_run import open_run
from maekit.build.weights import require_decoder
from maekit.data.splits import SIDES
from maekit.errors import UserError, nearest
from maekit.training.distributed import init_distributed
from maekit.training.evaluation import eval_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def evaluate(
    run: Path, *, side: str | None = None, overrides: Sequence[str] = (), device: str | None = None
) -> dict[str, float]:
    """Metrics of a finished (or unfinished) run on one side of its split; by default test, validation where that is empty."""
    metrics, _ = predictions(run, side=side, overrides=overrides, device=device)
    return metrics


def predictions(
    run: Path, *, side: str | None = None, overrides: Sequence[str] = (), device: str | None = None, alone: bool = False
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """Metrics, and the rows that they were computed from, as `Task.eval_step` gives them.

    A task that predicts distributions adds the `values` that they are over. Processes that `torchrun` started share the
    work; `alone` is for one of them when the others may have ended.

    Raises:
        UserError: no such side, an empty one, or a run that cannot be opened.
    """
    if side is not None and side not in SIDES:
        raise UserError(
            "no such side of a split",
            location="--split",
            value=side,
            expected=" or ".join(SIDES),
            hint=nearest(side, SIDES),
        )
    require_decoder(run)
    experiment, task = open_run(run, overrides=overrides)
    with init_distributed(device, alone=alone) as process:
        side = side or ("test" if len(experiment.split["test"]) else "validation")
        micro_batch = experiment.recipe.training.at_once(process.world_size)
        rows = eval_rows(task, experiment.some_samples(side), process, micro_batch=micro_batch)
    arrays = {name: values.numpy() for name, values in rows.items()}
    if task.values is not None:
        arrays["values"] = task.values
    return task.compute_metrics(rows), arrays
