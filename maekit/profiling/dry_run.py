"""What a recipe would do, said before it does: steps, batch, parameters, disk, memory and time. Nothing is written."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.build.experiment import Experiment
from maekit.build.prepare import RANDOM, prepare_training
from maekit.config.load import load_recipe
from maekit.data.loading import collate, to_device
from maekit.data.sampler import BatchSampler, Key
from maekit.errors import UserError
from maekit.profiling import memory_estimate, step_timing
from maekit.report.quantities import duration, size
from maekit.studies import methods, study
from maekit.studies.jobs import is_done
from maekit.training import checkpoint
from maekit.training.distributed import Process, init_distributed
from maekit.training.step import TrainStep

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch, Samples
    from maekit.profiling.memory_estimate import Memory
    from maekit.profiling.step_timing import Pace
    from maekit.tasks.task import Task

LOOKED_AT = 8
"""Samples whose shapes stand for all."""
TIMED_S = 4.0
"""Seconds that a dry run spends on timing."""
MOST_TIMED = 6
"""How many trainings of a study are timed; the others take their mean."""


@dataclass(frozen=True)
class Plan:
    """Facts by name, in the order they are told; `seconds` of the whole run, None where nothing was timed."""

    title: str
    facts: list[tuple[str, str]]
    seconds: float | None
    first: bool = True


@dataclass(frozen=True)
class Shape:
    """How the samples of a recipe become steps on one process among `world_size`."""

    recipe: Recipe
    samples: int
    validation: int
    world_size: int

    @property
    def gradient_accumulation_steps(self) -> int:
        return self.recipe.training.micro_batches(self.world_size)

    @property
    def share(self) -> int:
        """Samples of a step that one process takes."""
        return self.recipe.training.batch_size // self.world_size

    @property
    def micro_batch(self) -> int:
        return self.share // self.gradient_accumulation_steps

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
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

    def seconds(self, found: Pace, reading: float, *, step: float | None = None) -> float:
        """The whole run: all steps, what is logged on the way, and the evaluations; without writing checkpoints.

        Args:
            found: timings.
            reading: seconds to read one sample where nothing else is done, by all workers together.
            step: seconds of a step with reading, where that was measured; else the two are put together.
        """
        training, epochs = self.recipe.training, self.recipe.schedule.epochs
        if step is None:
            step = self.together(found.step(self.share), self.share * reading)
        evaluations = ceil(epochs / training.evaluate_every_epochs) if self.validation else 0
        row = found.rows / found.samples
        held_out = evaluations * self.validation / self.world_size * self.together(row, reading)
        steps = epochs * self.steps
        return steps * step + steps // training.log_every_steps * self.micro_batch * row + held_out

    def together(self, computing: float, reading: float) -> float:
        """Without workers they take turns, with workers the slower one is waited for."""
        return max(computing, reading) if self.recipe.training.workers else computing + reading


def plan(
    loaded: LoadedRecipe, start: str | Path | None, *, runs: Path = Path("runs"), device: str | None = None
) -> Plan:
    """Look at data, model and disk, and take a few steps that leave nothing behind.

    Args:
        loaded: a recipe, for a verb that takes it.
        start: as for `maekit.finetune`; None in pretraining.
        runs: where the run would be written.
        device: as for training; `meta` times nothing.

    Raises:
        UserError: whatever training itself would find wrong before its first step, and a step that does not fit the GPU.
    """
    name = "cpu" if device == "meta" else device
    with TemporaryDirectory() as scratch, init_distributed(name) as process:
        if device == "meta":
            process = Process(process.rank, process.world_size, torch.device("meta"))
        experiment, task = prepare_training(loaded, start, Path(scratch))
        recipe, training = loaded.recipe, experiment.some_samples("train", augment=True)
        shape = Shape(recipe, len(training), len(experiment.split["validation"]), process.world_size)
        steps = shape.steps
        few = some(training)
        memory = memory_estimate.step_memory(task, few, shape.micro_batch, recipe, process)
        facts = [
            ("data", _data(experiment)),
            ("split", ", ".join(f"{side} {len(experiment.split[side]):,}" for side in ("train", "validation", "test"))),
            ("sample", _sample(experiment, few)),
            (
                "steps",
                f"{steps:,} an epoch, {steps * recipe.schedule.epochs:,} in {recipe.schedule.epochs:,} epochs{_left_out(shape)}",
            ),
            ("batch", batch_words(shape)),
            ("learning rate", f"{recipe.optimizer.base_lr * recipe.training.batch_size / 256:.3g} at its peak"),
            ("parameters", parameter_words(task)),
            ("memory, estimated", memory_words(memory, process)),
            *_disk(task, recipe, runs, memory),
        ]
        seconds = None
        if process.device.type != "meta":
            found, reading, measured = first_steps(task, training, few, memory, shape, process, TIMED_S)
            seconds = shape.seconds(found, reading)
            facts += measured
        facts.append(("time", _time(seconds, recipe, process)))
        return Plan(f"{recipe.name}: a dry run, nothing is trained or written", facts, seconds, process.first)


def first_steps(
    task: Task, training: Samples, few: Batch, memory: Memory, shape: Shape, process: Process, seconds: float
) -> tuple[Pace, float, list[tuple[str, str]]]:
    """Time steps on the device, and reading.

    Returns:
        The pace, seconds to read a sample, and what to say about the measurement.
    """
    step = TrainStep(task.to(process.device), shape.recipe, process)
    number = measurable(step, few, memory, shape, seconds)
    reading = read_seconds(training, number, shape.recipe.training.workers)
    cuda = process.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(process.device)
    batch = to_device(cycled(few, number), process.device)
    found = paced(step, batch, shape, seconds)
    told = [
        ("measured", f"{found.samples / found.learn:,.1f} samples/s forward and backward, in micro-batches of {number}")
    ]
    if cuda:
        peak = step_timing.peak_memory(process.device)
        told.append(("memory, measured", f"{size(peak['tensors'])} of tensors, {size(peak['reserved'])} reserved"))
    return found, reading, told


def paced(step: TrainStep, batch: Batch, shape: Shape, seconds: float) -> Pace:
    """`maekit.profiling.step_timing.pace`.

    Raises:
        UserError: a micro-batch that does not fit the device.
    """
    try:
        return step_timing.pace(step, batch, seconds)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a micro-batch of {shape.micro_batch} does not fit the GPU",
            location="training.micro_batch",
            value=str(error).split(". ")[0],
            hint=f"Try `--set training.micro_batch={max(shape.micro_batch // 2, 1)}`, or `training.activation_checkpointing=true`.",
        ) from error


def measurable(step: TrainStep, few: Batch, memory: Memory, shape: Shape, seconds: float) -> int:
    """How many samples to time at once: a micro-batch on a GPU, on a CPU not more than memory and patience allow."""
    number, device = shape.micro_batch, step.process.device
    if device.type == "cuda":
        return number
    free = step_timing.free_memory(device)
    if free is not None:
        room = free / 2 - memory.weights - memory.optimizer
        number = min(number, max(2, int(number * room / memory.passing)))
    return step_timing.patient(step, lambda n: to_device(cycled(few, n), device), number, max(seconds / 8, 0.5))


def some(training: Samples) -> Batch:
    """A few prepared training samples."""
    return collate([training[Key(0, i)] for i in range(min(LOOKED_AT, len(training)))])


def cycled(few: Batch, number: int) -> Batch:
    """`number` samples, the same few again and again."""
    picked = torch.arange(number) % len(few["index"])
    return {name: value[picked] for name, value in few.items()}


def read_seconds(training: Samples, number: int, workers: int) -> float:
    """Seconds to read and prepare a sample, shared by the workers there may be."""
    import time

    began = time.perf_counter()
    keys = [Key(1, i) for i in np.random.default_rng(0).integers(0, len(training), min(max(number, 16), 64))]
    collate([training[key] for key in keys])
    return (time.perf_counter() - began) / len(keys) / max(workers, 1)


def batch_words(shape: Shape) -> str:
    """How the effective batch is made up."""
    made = [f"{shape.micro_batch:,} at once"]
    if shape.gradient_accumulation_steps > 1:
        made.append(f"{shape.gradient_accumulation_steps} accumulated")
    if shape.world_size > 1:
        made.append(f"{shape.world_size} processes")
    return f"{shape.recipe.training.batch_size:,} a step: " + " x ".join(made)


def parameter_words(task: Task) -> str:
    """How many parameters train, of how many."""
    total = sum(p.numel() for p in task.parameters())
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    return f"{trained:,} trained of {total:,}"


def memory_words(memory: Memory, process: Process) -> str:
    """What a step holds, and what the device has."""
    parts = [
        f"{size(memory.weights)} weights",
        f"{size(memory.optimizer)} optimizer",
        f"{size(memory.passing)} gradients and activations",
    ]
    free = None if process.device.type == "meta" else step_timing.free_memory(process.device)
    room = "" if free is None else f"; {size(free)} free"
    where = " of a process" if process.world_size > 1 else ""
    return f"{size(memory.total)}{where}: " + " + ".join(parts) + room


def checkpoint_size(task: Task, recipe: Recipe, memory: Memory) -> int:
    """Bytes of a checkpoint: weights, buffers and the optimizer's state, with their average where one is kept."""
    weights = sum(t.nbytes for t in task.state_dict().values())
    return weights * (1 if recipe.training.ema is None else 2) + memory.optimizer


def _disk(task: Task, recipe: Recipe, runs: Path, memory: Memory) -> list[tuple[str, str]]:
    folder = runs / recipe.name
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free, one = shutil.disk_usage(there).free, checkpoint_size(task, recipe, memory)
    kept = recipe.training.keep_checkpoints
    needed = one * (kept + 1)  # a new one is whole before the oldest is removed
    verdict = "enough room" if needed < free else "NOT ENOUGH ROOM"
    written = checkpoint.steps(folder / "checkpoints")
    return [
        (
            "checkpoints",
            f"{size(one)} each, {kept} kept; {size(needed)} while one is written, {size(free)} free: {verdict}",
        ),
        (
            "run folder",
            f"{folder}: "
            + (
                f"goes on from step {written[-1]:,}"
                if written
                else "new"
                if not folder.exists()
                else "holds no checkpoint"
            ),
        ),
    ]


def _data(experiment: Experiment) -> str:
    source = experiment.source
    groups = len(set(source.groups.tolist()))
    found = f"{len(source):,} samples in {groups:,} group{'s' if groups > 1 else ''} ({experiment.spec.name}, {experiment.recipe.data.root})"
    dropped: dict[str, int] = getattr(source, "dropped", {})
    return found + "".join(f"; {number:,} left out: {reason}" for reason, number in dropped.items())


def _sample(experiment: Experiment, few: Batch) -> str:
    patchifier, signal = experiment.adapter.patchifier, few["signal"]
    shape = " x ".join(map(str, patchifier.sample_shape))
    grid = " x ".join(map(str, patchifier.grid_size))
    return f"{shape}, {int(np.prod(patchifier.grid_size)):,} patches ({grid}) of {patchifier.patch_dim:,}; {size(signal[0].nbytes)} to the device"


def _left_out(shape: Shape) -> str:
    return f" ({shape.left_out:,} samples of each epoch do not fill a step)" if shape.left_out else ""


def _time(seconds: float | None, recipe: Recipe, process: Process) -> str:
    if seconds is None:
        return "not measured on meta"
    saves = ceil(recipe.schedule.epochs / recipe.training.save_every_epochs)
    where: Any = (
        torch.cuda.get_device_name(process.device)
        if process.device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return f"{duration(seconds)} on this machine ({where}), about; and writing {saves:,} checkpoints"


def study_plans(planned: study.Plan, *, jobs: int = 1, device: str | None = None) -> list[Plan]:
    """The trainings of a study or sweep that are not there yet: some of them looked at, and all of them together.

    Raises:
        UserError: as `plan`.
    """
    left = [cell for cell in planned.cells if not is_done(planned.folder, cell.name)]
    found: dict[str, Any] = {cell.name: cell.compute for cell in left}
    trainings: dict[str, methods.Training] = {
        name: one for name, one in found.items() if isinstance(one, methods.Training)
    }
    distinct: dict[str, list[methods.Training]] = {}
    for name, training in trainings.items():  # those that differ in seed and fold alone take the same time
        location = "/".join(
            part for part in name.rsplit("-", 1)[0].split("/") if not re.fullmatch(r"seed\d+(_fold\d+)?", part)
        )
        distinct.setdefault(f"{training.recipe}: {location}", []).append(training)
    looked_at = list(distinct.values())[:: max(len(distinct) // MOST_TIMED, 1)]
    plans = []
    for some_ in looked_at:
        start = None if isinstance(some_[0], methods.Pretraining) else RANDOM
        plans.append(plan(load_recipe(some_[0].recipe, some_[0].named), start, runs=some_[0].runs, device=device))
    pretrainings = sum(isinstance(one, methods.Pretraining) for one in trainings.values())
    folds, seeds = len(planned.rounds[0][0]), len(planned.rounds[0])
    facts = [
        (
            "trainings",
            f"{pretrainings} pretrainings and {len(trainings) - pretrainings} with labels to do: "
            f"{len(planned.points)} point(s) x {seeds} seeds x {folds} folds, each only once",
        ),
        (
            "other parts",
            f"{len(left) - len(trainings)} probes, estimates and constants to do; {len(planned.cells) - len(left)} of "
            f"{len(planned.cells)} parts are there already",
        ),
    ]
    total, first = None, plans[0].first if plans else True
    if all(one.seconds is not None for one in plans):
        counted = sum(len(some_) for some_ in looked_at)
        timed = sum(len(some_) * (one.seconds or 0.0) for some_, one in zip(looked_at, plans, strict=True))
        total = timed / counted * len(trainings) / jobs if counted else 0.0
        shared = f" in {jobs} processes, if the machine has cores for them" if jobs > 1 else ""
        facts.append(("time", f"{duration(total)}{shared}, about; probes and checkpoints come on top"))
    title = f"{planned.loaded.recipe.name}: the {'sweep' if planned.probing else 'study'}"
    return [*plans, Plan(title, facts, total, first)]
