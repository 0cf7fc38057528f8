"""The training loop. It knows no task: a task turns a batch into a loss, and evaluated samples into metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from maekit.data.loading import loader, to_device
from maekit.data.sampler import BatchSampler
from maekit.training import checkpoint
from maekit.training.average import averaged_task
from maekit.training.distributed import Process, check_agreement, gather_rows
from maekit.training.evaluation import evaluate
from maekit.training.optimizer import learning_rate, set_learning_rate
from maekit.training.soundness import LossMonitor, root_mean_square
from maekit.training.state import restore_state, save_state
from maekit.training.step import StepResult, TrainStep
from maekit.training.stopping import deferred_signals, interrupted_error, not_finite_error
from maekit.training.workers import DataWorkers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch, Batches, Samples
    from maekit.tasks.task import Task
    from maekit.training.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """State of a run after a logged step.

    Attributes:
        step: steps done.
        steps: steps of the whole schedule.
        epoch: epochs done, with a fraction.
        row: the metrics as they were logged.
        eta_s: estimated seconds to the end, without evaluation and checkpoints.
    """

    step: int
    steps: int
    epoch: float
    row: dict[str, Any]
    eta_s: float


Watcher = Callable[[TrainProgress], None]


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
    """Train `task` to the end of the schedule, resuming from the newest intact checkpoint of `run`.

    Args:
        task: the task to train; moved to the device of `process`.
        training: prepared samples of the training split.
        validation: those of the validation split, or None where it is empty.
        recipe: its `optimizer`, `schedule`, `training` and `seed` are read.
        run: folder for checkpoints and metrics; the caller holds it with `run.owned()`.
        process: this process.
        identity: what a checkpoint must agree on to be resumed (recipe and data), by name.
        watch: called after every logged step.

    Returns:
        The metrics of the last validation; empty without a validation split.

    Raises:
        UserError: a checkpoint of another recipe or of other data, or all checkpoints damaged.
        InterruptedRunError: a signal asked to stop; a checkpoint was written.
        NotFiniteError: too many consecutive steps without a finite loss and gradient.
    """
    trainer = Trainer(task, training, validation, recipe=recipe, run=run, process=process, watch=watch)
    trainer.resume(identity)
    return trainer.train()


class Trainer:
    """A run in progress: the task, its step, its place in the schedule. The arguments are those of `train`."""

    def __init__(
        self,
        task: Task,
        training: Samples,
        validation: Samples | None,
        *,
        recipe: Recipe,
        run: Run,
        process: Process,
        watch: Watcher | None,
    ) -> None:
        self.options = recipe.training
        self.sampler = BatchSampler(
            len(training),
            self.options.batch_size,
            seed=recipe.seed,
            gradient_accumulation_steps=self.options.micro_batches(process.world_size),
            rank=process.rank,
            world_size=process.world_size,
            samples_per_epoch=recipe.schedule.samples_per_epoch,
        )
        self.steps_per_epoch = self.sampler.steps
        self.total_steps = recipe.schedule.epochs * self.steps_per_epoch
        self.task, self.training, self.validation = task, training, validation
        self.recipe, self.run, self.process, self.watch = recipe, run, process, watch
        self.initial_rms = root_mean_square(task.parameters())
        self.losses, self.sound = LossMonitor(), True
        self.workers = DataWorkers(recipe.training.workers, process)
        self.stepper = TrainStep(task.to(process.device), recipe, process)
        self.step = self.bad_steps = 0
        self.lr = 0.0
        self.identity: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.step_seconds: list[float] = []
        """Durations of the steps since the last logged one."""

    @property
    def finished(self) -> bool:
        """Whether all steps of the schedule are done."""
        return self.step == self.total_steps

    @property
    def at_epoch_end(self) -> bool:
        """Whether the newest step was the last one of an epoch."""
        return self.step % self.steps_per_epoch == 0

    def should_log(self) -> bool:
        """Every `log_every_steps` steps and after the last."""
        return self.step % self.options.log_every_steps == 0 or self.finished

    def should_validate(self) -> bool:
        """Every `evaluate_every_epochs` epochs and after the last, where there is a validation split."""
        due = self.step // self.steps_per_epoch % self.options.evaluate_every_epochs == 0
        return self.validation is not None and self.at_epoch_end and (due or self.finished)

    def should_save(self) -> bool:
        """Every `save_every_epochs` epochs, every `save_every_steps` steps and after the last.

        Not after a step that was skipped: the weights are those of the newest checkpoint or of the step before it, and a
        run that cannot recover from them must not replace older checkpoints by more copies of them.
        """
        if self.bad_steps and not self.finished:
            return False
        epochs, steps = self.options.save_every_epochs, self.options.save_every_steps
        epoch_due = self.at_epoch_end and self.step // self.steps_per_epoch % epochs == 0
        return epoch_due or (steps is not None and self.step % steps == 0) or self.finished

    def resume(self, identity: dict[str, Any]) -> None:
        """Load the newest intact checkpoint, if there is one, and take its step; see `train` for `identity`."""
        self.identity = identity
        stepper = self.stepper
        self.step, self.bad_steps = restore_state(self.task, stepper.optimizer, stepper.average, self.run, identity)
        check_agreement(self.step, str(self.run.folder), self.process)

    def train(self) -> dict[str, float]:
        """Run the remaining steps; returns and raises as the function `train` does."""
        batches = self.make_loader()
        with deferred_signals() as signals:
            while not self.finished:
                if batches.num_workers != self.workers.number:
                    batches = self.make_loader()
                epoch, first_step = divmod(self.step, self.steps_per_epoch)
                self.sampler.start_at(epoch, first_step)
                micro_batches = iter(batches)
                for _ in range(first_step, self.steps_per_epoch):
                    result, batch, details = self.train_step(micro_batches, stop=bool(signals))
                    self.check_finite(result, batch)
                    self.check_sound(result)
                    self.step += 1
                    if self.should_log():
                        self.log_train(result, batch, details)
                    if self.should_validate():
                        self.validate()
                    # A single process also stops for a signal that came after the step agreed on `stop`.
                    stop = result.stop or (self.process.world_size == 1 and bool(signals))
                    if self.should_save() or stop:
                        self.save()
                    if stop and not self.finished:
                        raise interrupted_error(signals, self.step)
                    if batches.num_workers != self.workers.number:
                        break
        return self.metrics or self.logged_metrics()

    def make_loader(self) -> Batches:
        """The training split's batches, prepared by as many workers as there should be by now."""
        return loader(self.training, self.sampler, workers=self.workers.number, pin=self.process.device.type == "cuda")

    def logged_metrics(self) -> dict[str, float]:
        """The metrics of the last validation as an earlier process logged them."""
        row: dict[str, Any] = next((row for row in reversed(self.run.rows()) if row["kind"] == "validation"), {})
        return {name: value for name, value in row.items() if name not in self.position("validation")}

    def position(self, kind: str) -> dict[str, Any]:
        """What each row of metrics starts with: its kind, and where in the schedule it was logged."""
        return {"kind": kind, "step": self.step, "epoch": self.step / self.steps_per_epoch}

    def train_step(
        self, micro_batches: Iterator[Batch], *, stop: bool
    ) -> tuple[StepResult, Batch, dict[str, torch.Tensor]]:
        """Take one step over `gradient_accumulation_steps` micro-batches.

        Args:
            micro_batches: gives them one after the other.
            stop: whether this process was asked to stop; the processes agree on it in this step.

        Returns:
            The result, the last micro-batch, and the details of the pass over it.
        """
        started = time.perf_counter()
        self.lr = self.scheduled_lr()
        set_learning_rate(self.stepper.optimizer, self.lr)
        # Seeded by the step, so that a resumed run draws the same stochastic depth as an uninterrupted one.
        torch.manual_seed(hash((self.recipe.seed, self.step, self.process.rank)))
        loss, read_s = torch.zeros((), device=self.process.device), 0.0
        for micro in range(self.sampler.gradient_accumulation_steps):
            asked = time.perf_counter()
            batch = next(micro_batches)
            read_s += time.perf_counter() - asked
            batch = to_device(batch, self.process.device)
            output = self.stepper.forward_backward(batch, last=micro == self.sampler.gradient_accumulation_steps - 1)
            loss += output.loss
        result = self.stepper.optimizer_step(loss, stop=stop)
        self.step_seconds.append(time.perf_counter() - started)
        self.workers.add_step(read_s, self.step_seconds[-1] - read_s)
        return result, batch, output.details

    def scheduled_lr(self) -> float:
        """Learning rate of the step that comes next."""
        return learning_rate(
            self.step,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.options.batch_size,
            base_lr=self.recipe.optimizer.base_lr,
            schedule=self.recipe.schedule,
        )

    def check_finite(self, result: StepResult, batch: Batch) -> None:
        """Count consecutive steps that were skipped because loss or gradient were not finite.

        Raises:
            NotFiniteError: more than `max_bad_steps`.
        """
        if result.finite:
            self.bad_steps = 0
            return
        self.bad_steps += 1
        loss, norm = result.loss, result.grad_norm
        logger.warning("step %d: loss %g, gradient norm %g; the step was skipped", self.step, loss, norm)
        if self.bad_steps > self.options.max_bad_steps:
            raise not_finite_error(self.run, batch, step=self.step, bad_steps=self.bad_steps, loss=loss, grad_norm=norm)

    def check_sound(self, result: StepResult) -> None:
        """Notice a loss that is finite but has exploded; the checkpoint of the weights that gave it is marked."""
        before, self.sound = self.sound, not result.finite or self.losses.is_sound(result.loss)
        if self.sound:
            return
        if before:
            logger.warning("step %d: the loss has exploded (%g); sound checkpoints are kept", self.step, result.loss)
        if self.run.writes:
            checkpoint.mark_unsound(self.run.checkpoints / f"step-{self.step:09d}")

    def log_train(self, result: StepResult, batch: Batch, details: dict[str, torch.Tensor]) -> None:
        """Log loss, learning rate, throughput and the task's metrics on the newest micro-batch, as the step saw it."""
        seconds = sum(self.step_seconds) / len(self.step_seconds)
        self.step_seconds.clear()
        with torch.no_grad(), self.stepper.precision():
            rows = self.task.train_rows(batch, details)
        rows = gather_rows({name: value.cpu() for name, value in rows.items()}, self.process)
        self.log(
            {
                **self.position("train"),
                **self.task.compute_metrics(rows),
                "loss": result.loss,
                "lr": self.lr,
                "grad_norm": result.grad_norm,
                "samples_per_s": self.options.batch_size / seconds,
            },
            eta_s=(self.total_steps - self.step) * seconds,
        )

    def validate(self) -> None:
        """Evaluate the (averaged) weights on the validation split, and log the metrics."""
        assert self.validation is not None
        self.metrics = evaluate(
            averaged_task(self.task, self.stepper.average),
            self.validation,
            self.process,
            micro_batch=self.options.at_once(self.process.world_size),
            workers=self.workers.number,
            precision=self.stepper.precision,
        )
        self.log({**self.position("validation"), **self.metrics})

    def log(self, row: dict[str, Any], *, eta_s: float = 0.0) -> None:
        """Append a row to the metrics and show it to the watcher."""
        self.run.log(row)
        if self.watch:
            self.watch(TrainProgress(self.step, self.total_steps, row["epoch"], row, eta_s))

    def save(self) -> None:
        """Write a checkpoint. After a step that was skipped, all older ones stay as well."""
        save_state(
            self.task,
            self.stepper.optimizer,
            self.stepper.average,
            self.run,
            step=self.step,
            bad_steps=self.bad_steps,
            identity=self.identity,
            keep=None if self.bad_steps else self.options.keep_checkpoints,
            sound=self.sound,
            initial_rms=self.initial_rms,
        )
