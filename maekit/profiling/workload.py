"""How the samples of a recipe become epochs, steps and micro-batches, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from maekit.data.sampler import BatchSampler
from maekit.training.workers import free_cores, workers_that_hide

if TYPE_CHECKING:
    from maekit.config.schema import Recipe
    from maekit.profiling.step_timing import StepTiming
    from maekit.training.distributed import Process


@dataclass(frozen=True)
class Workload:
    """The steps of a recipe on one process among `world_size`.

    Attributes:
        recipe: its `training` and `schedule` are read.
        samples: in the training split.
        validation: samples in the validation split.
        world_size: number of processes.
    """

    recipe: Recipe
    samples: int
    validation: int
    world_size: int

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches a step."""
        return self.recipe.training.micro_batches(self.world_size)

    @property
    def share(self) -> int:
        """Samples of a step that one process takes."""
        return self.recipe.training.batch_size // self.world_size

    @property
    def micro_batch(self) -> int:
        """Samples that one process takes at once."""
        return self.share // self.gradient_accumulation_steps

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self._sampler.steps

    @property
    def left_out(self) -> int:
        """Samples of an epoch that do not fill a step."""
        return self._sampler.length - self.steps * self.recipe.training.batch_size

    @property
    def _sampler(self) -> BatchSampler:
        return BatchSampler(
            self.samples,
            self.recipe.training.batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            world_size=self.world_size,
            samples_per_epoch=self.recipe.schedule.samples_per_epoch,
        )

    def seconds(self, timing: StepTiming, read_s: float, *, step_s: float | None = None) -> float:
        """Seconds of the whole run: steps, the metrics of logged steps and validations, but not writing checkpoints.

        Args:
            timing: of a step.
            read_s: seconds to read one sample, by all workers together, while nothing else runs.
            step_s: measured seconds of a step with reading; by default computed from `timing` and `read_s`.
        """
        training, epochs = self.recipe.training, self.recipe.schedule.epochs
        if step_s is None:
            step_s = self._overlapped(timing.step(self.share), self.share * read_s)
        evaluation_s = timing.evaluation / timing.samples
        validations = ceil(epochs / training.evaluate_every_epochs) if self.validation else 0
        validation_s = validations * self.validation / self.world_size * self._overlapped(evaluation_s, read_s)
        steps = epochs * self.steps
        return steps * step_s + steps // training.log_every_steps * self.micro_batch * evaluation_s + validation_s

    @property
    def workers(self) -> int:
        """Data workers; none where the recipe says `auto` and nothing has been measured (see `with_workers`)."""
        stated = self.recipe.training.workers
        return 0 if stated == "auto" else stated

    def with_workers(self, timing: StepTiming, read_s: float, process: Process) -> Workload:
        """The workload with the data workers that training would take where the recipe says `auto`.

        Args:
            timing: of a step.
            read_s: seconds to read one sample in one process.
            process: its device, and the cores that are free beside it, are looked at.
        """
        if self.recipe.training.workers != "auto":
            return self
        number = workers_that_hide(self.share * read_s, timing.step(self.share), free_cores(process))
        training = self.recipe.training.model_copy(update={"workers": number})
        return replace(self, recipe=self.recipe.model_copy(update={"training": training}))

    def _overlapped(self, computing: float, reading: float) -> float:
        """With workers, reading and computing overlap and the slower one counts; without, they alternate."""
        return max(computing, reading) if self.workers else computing + reading
