"""The training loop. It knows no task: a task turns a batch into a loss, and rows into metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.training.average import averaged
from maekit.training.distributed import Process, check_agreement, gather_rows
from maekit.training.optimizer import learning_rate, set_learning_rate
from maekit.training.state import restore, save
from maekit.training.step import Step
from maekit.training.stopping import deferred_signals, interruption, not_finite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch, Samples
    from maekit.tasks.task import EvalRows, Task
    from maekit.training.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a watcher may show after a step."""

    step: int
    steps: int
    epoch: float
    row: dict[str, Any]
    eta_s: float


Watcher = Callable[[Progress], None]


def train(
    task: Task,
    training: Samples,
    validation: Samples | None,
    *,
    recipe: Recipe,
    run: Run,
    process: Process,
    identity: dict[str, Any],
    watch: Watcher | None = None,
) -> dict[str, float]:
    """Train `task` to the end of the schedule, going on from the newest sound checkpoint of `run`.

    Args:
        task: what is trained; moved to the device of `process`.
        training, validation: prepared samples of the two splits.
        recipe: its `optimizer`, `schedule`, `training` and `seed` are read here.
        run: where checkpoints and metrics go; the caller holds it with `run.owned()`.
        process: this process among all.
        identity: what a checkpoint must agree on to be continued (recipe and data), by name.
        watch: called after every logged step.

    Returns:
        The metrics of the last evaluation (of the last training step where there is no validation split).

    Raises:
        UserError: a checkpoint of another recipe or other data, or one that is damaged.
        InterruptedRunError: a signal asked to stop; a checkpoint was written.
        NotFiniteError: too many steps in a row without a finite loss and gradient.
    """
    options, schedule = recipe.training, recipe.schedule
    sampler = BatchSampler(
        len(training),
        options.batch_size,
        seed=recipe.seed,
        gradient_accumulation_steps=options.micro_batches(process.world_size),
        rank=process.rank,
        world_size=process.world_size,
        samples_per_epoch=schedule.samples_per_epoch,
    )
    total = schedule.epochs * sampler.steps
    taking = Step(task.to(process.device), recipe, process)
    optimizer, average, precision = taking.optimizer, taking.average, taking.precision
    step, bad = restore(task, optimizer, average, run, identity)
    check_agreement(step, str(run.folder), process)
    batches = loader(training, sampler, workers=options.workers, pin=process.device.type == "cuda")
    metrics: dict[str, float] = {}

    with deferred_signals() as caught:
        spent, timed = 0.0, 0
        while step < total:
            epoch = step // sampler.steps
            sampler.start_at(epoch, step % sampler.steps)
            micro_batches = iter(batches)
            while step < (epoch + 1) * sampler.steps:
                began = time.perf_counter()
                rate = learning_rate(
                    step,
                    steps_per_epoch=sampler.steps,
                    batch_size=options.batch_size,
                    base_lr=recipe.optimizer.base_lr,
                    schedule=schedule,
                )
                set_learning_rate(optimizer, rate)
                # Keyed by the step, so that stochastic depth too goes on as if nothing had interrupted it.
                torch.manual_seed(hash((recipe.seed, step, process.rank)))
                summed = torch.zeros((), device=process.device)
                for micro in range(sampler.gradient_accumulation_steps):
                    batch = to_device(next(micro_batches), process.device)
                    summed += taking.learn(batch, last=micro == sampler.gradient_accumulation_steps - 1)
                made = taking.update(summed, stop=bool(caught))
                if made.finite:
                    bad = 0
                else:
                    bad += 1
                    logger.warning("step %d: loss %g, gradient norm %g; step left out", step, made.loss, made.norm)
                    if bad > options.max_bad_steps:
                        raise not_finite(run, batch, step=step, bad=bad, loss=made.loss, norm=made.norm)
                step += 1
                spent, timed = spent + time.perf_counter() - began, timed + 1

                last = step == total
                epoch_ends = step % sampler.steps == 0
                if step % options.log_every_steps == 0 or last:
                    seconds, spent, timed = spent / timed, 0.0, 0
                    row: dict[str, Any] = {
                        "kind": "train",
                        "step": step,
                        "epoch": step / sampler.steps,
                        **observe(task, [batch], process, precision),
                        "loss": made.loss,
                        "lr": rate,
                        "grad_norm": made.norm,
                        "samples_per_s": options.batch_size / seconds,
                    }
                    run.log(row)
                    if watch:
                        watch(Progress(step, total, step / sampler.steps, row, (total - step) * seconds))
                if validation and epoch_ends and (step // sampler.steps % options.evaluate_every_epochs == 0 or last):
                    metrics = evaluate(
                        averaged(task, average),
                        validation,
                        process,
                        workers=options.workers,
                        at_once=options.at_once(process.world_size),
                        precision=precision,
                    )
                    row = {"kind": "validation", "step": step, "epoch": step / sampler.steps, **metrics}
                    run.log(row)
                    if watch:
                        watch(Progress(step, total, step / sampler.steps, row, 0.0))
                stop = made.stop or (process.world_size == 1 and bool(caught))  # what came since all agreed
                due = epoch_ends and step // sampler.steps % options.save_every_epochs == 0
                due |= options.save_every_steps is not None and step % options.save_every_steps == 0
                if due or last or stop:
                    save(
                        task,
                        optimizer,
                        average,
                        run,
                        step=step,
                        bad=bad,
                        identity=identity,
                        keep=options.keep_checkpoints,
                    )
                if stop and not last:
                    raise interruption(caught, step)
    return metrics or next((row for row in reversed(run.rows()) if row["kind"] == "validation"), {})


def evaluate(
    task: Task,
    samples: Samples,
    process: Process,
    *,
    at_once: int,
    workers: int = 0,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, float]:
    """Metrics of `task` over all `samples`, each counted once however many processes share the work."""
    return task.compute_metrics(rows_of(task, samples, process, at_once=at_once, workers=workers, precision=precision))


def rows_of(
    task: Task,
    samples: Samples,
    process: Process,
    *,
    at_once: int,
    workers: int = 0,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> EvalRows:
    """The rows of all `samples`, each process taking `at_once` of them at a time."""
    task.to(process.device)
    sampler = BatchSampler(
        len(samples), at_once * process.world_size, rank=process.rank, world_size=process.world_size, shuffle=False
    )
    batches = loader(samples, sampler, workers=workers, pin=process.device.type == "cuda")
    return collect(task, (to_device(batch, process.device) for batch in batches), process, precision)


def observe(
    task: Task, batches: Iterable[Batch], process: Process, precision: Callable[[], AbstractContextManager[Any]]
) -> dict[str, float]:
    """Metrics over some batches (this process's share of them), without training on them."""
    return task.compute_metrics(collect(task, batches, process, precision))


@torch.no_grad()
def collect(
    task: Task, batches: Iterable[Batch], process: Process, precision: Callable[[], AbstractContextManager[Any]]
) -> EvalRows:
    """The rows of all batches of all processes, on the CPU, in the order of `index`."""
    training = task.training
    task.eval()
    parts: list[dict[str, Tensor]] = []
    for batch in batches:
        with precision():
            parts.append({name: value.cpu() for name, value in task.eval_step(batch).items()})
    task.train(training)
    return gather_rows({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, process)
