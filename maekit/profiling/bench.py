"""A benchmark of a recipe on this machine: the data loader alone, the training step alone, and both together."""

from __future__ import annotations

import platform
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from maekit.build.experiment import Experiment, task_class
from maekit.build.prepare import RANDOM, prepare_training
from maekit.build.random_experiment import data_exists, random_experiment
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.data.loading import to_device
from maekit.profiling import memory_estimate, step_timing
from maekit.profiling.device_limits import device_name, matmul_dtype, peak_matmul_rate, peak_memory
from maekit.profiling.facts import Facts, batch_fact, free_fact, memory_fact, parameters_fact
from maekit.profiling.trial import example_batch, repeat_samples, time_step, timed_batch_size
from maekit.profiling.workload import Workload
from maekit.report.content import Table
from maekit.report.quantities import duration, operations, size
from maekit.training.distributed import init_distributed
from maekit.training.precision import resolve_precision
from maekit.training.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maekit.data.loading import Batch, Samples
    from maekit.profiling.memory_estimate import StepMemory
    from maekit.profiling.step_timing import StepTiming
    from maekit.tasks.task import Task
    from maekit.training.distributed import Process

RANDOM_SAMPLES = 4096
"""Number of random samples where the size of the data set is not given."""


@dataclass(frozen=True)
class Bench:
    """Result of a benchmark, for all processes together.

    Attributes:
        recipe: its name.
        loader: samples a second that the loader prepares.
        step: samples a second that training steps take, on a batch that is on the device already.
        both: samples a second of training with reading and copying.
        flops: floating-point operations of the matrix products of one sample, forward and backward.
        peak_flops: operations a second of the devices' fastest matrix product in the step's precision.
        facts: everything else, by name.
        first: whether this is the process that prints.
    """

    recipe: str
    loader: float
    step: float
    both: float
    flops: float
    peak_flops: float
    facts: Facts
    first: bool = True

    def utilisation(self, rate: float) -> float:
        """Share of `peak_flops` that the matrix products of `rate` samples a second use."""
        return rate * self.flops / self.peak_flops


def bench(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    seconds: float = 10.0,
    device: str | None = None,
    synthetic: bool = False,
    samples: int | None = None,
    lengths: Mapping[str, int] | None = None,
) -> Bench:
    """Benchmark a recipe. The weights do not change, and nothing is written.

    Args:
        recipe: of any task.
        overrides: as on the command line.
        seconds: for each of loader, step and both.
        device: as for training.
        synthetic: use random samples; they are also used where the data set is missing.
        samples: size of the data set, to estimate the time of the whole recipe from random samples.
        lengths: lengths of the axes that a data spec leaves to the files, for random samples.

    Raises:
        UserError: whatever training would find wrong before its first step, and a micro-batch that does not fit the GPU.
    """
    loaded = load_recipe(recipe, overrides)
    missing = not data_exists(loaded)
    synthetic = synthetic or missing
    with TemporaryDirectory() as scratch, init_distributed(device) as process:
        if synthetic:
            experiment = random_experiment(loaded, samples or RANDOM_SAMPLES, lengths or {})
            torch.manual_seed(loaded.recipe.seed)
            task = make_task(experiment)
        else:
            start = RANDOM if task_class(loaded).needs_labels else None
            experiment, task = prepare_training(loaded, start, Path(scratch))
        training = experiment.some_samples("train", augment=True)
        examples = example_batch(training)
        resolved = resolve_precision(loaded.recipe, task, lambda: examples, process)
        workload = Workload(resolved, len(training), len(experiment.split["validation"]), process.world_size)
        flops = memory_estimate.product_flops(task, examples)
        memory = memory_estimate.step_memory(task, examples, workload.micro_batch, resolved, process)
        rates = _measure(task, training, examples, memory, workload, process, seconds)
        known_size = samples is not None or not synthetic
        facts = [
            *([("samples", _random_samples(experiment, missing=missing))] if synthetic else []),
            ("device", _device(rates.train_step)),
            ("batch", batch_fact(workload) + rates.note),
            ("parameters", parameters_fact(task)),
            ("limit", _limit(rates.loader, rates.step, rates.workers)),
            (
                "matrix products",
                f"{operations(flops)} a sample, forward and backward; {operations(rates.peak_flops, '/s')} at best",
            ),
            ("memory, estimated", memory_fact(memory, process) + free_fact(process)),
            ("memory, peak", _peak(process)),
            ("whole recipe", _whole_recipe(rates, workload, known_size=known_size)),
        ]
        return Bench(
            loaded.recipe.name, rates.loader, rates.step, rates.both, flops, rates.peak_flops, facts, process.first
        )


@dataclass(frozen=True)
class _Rates:
    """Measurements: samples a second as in `Bench`, and what they were measured with."""

    train_step: TrainStep
    timing: StepTiming
    loader: float
    step: float
    both: float
    peak_flops: float
    workers: int
    note: str


def _measure(
    task: Task,
    training: Samples,
    examples: Batch,
    memory: StepMemory,
    workload: Workload,
    process: Process,
    seconds: float,
) -> _Rates:
    """Time the step, then the loader alone and with the step."""
    recipe = workload.recipe
    batch_size = recipe.training.batch_size
    step = TrainStep(task.to(process.device), recipe, process)
    number = timed_batch_size(step, examples, memory, workload, seconds)
    timing = time_step(step, to_device(repeat_samples(examples, number), process.device), workload, seconds)
    whole_steps = number == workload.micro_batch
    workers = workload.with_workers(timing, step_timing.read_seconds(training, number), process).workers

    def ignore(batch: Batch) -> None:
        del batch

    train = step_timing.training_use(step, workload.gradient_accumulation_steps if whole_steps else None)
    rates = []
    for use in (ignore, train):
        feed = step_timing.endless_batches(training, number, process, workers=workers, seed=recipe.seed)
        with closing(feed):
            rate = step_timing.throughput(feed, use, process, seconds, skip=1 + 2 * workers)
        rates.append(process.world_size * rate)
    loader, both = rates
    if not whole_steps:  # the optimizer was left out: its time is added here
        both = 1 / (1 / both + timing.optimizer / batch_size)
    return _Rates(
        step,
        timing,
        loader,
        step=batch_size / timing.step(workload.share),
        both=both,
        peak_flops=process.world_size * peak_matmul_rate(step),
        workers=workers,
        note="" if whole_steps else f"; timed in micro-batches of {number}",
    )


def table(result: Bench) -> Table:
    """The three rates, and the share of the peak matrix rate that they use."""
    rows = [
        [name, rate, duration(1 / rate), "" if name == "loader alone" else f"{100 * result.utilisation(rate):.1f} %"]
        for name, rate in (("loader alone", result.loader), ("step alone", result.step), ("both together", result.both))
    ]
    return Table(result.recipe, ["", "samples/s", "per sample", "of peak matrix rate"], rows)


def _limit(loader: float, step: float, workers: int) -> str:
    if workers:
        slower, ratio = "the loader" if loader < step else "the step", max(loader, step) / min(loader, step)
        return f"{slower}, {ratio:.1f} times slower than the other, with {workers} workers"
    share = (1 / loader) / (1 / loader + 1 / step)
    return f"reading and computing alternate (training.workers: 0); reading takes {100 * share:.0f} % of the time"


def _device(step: TrainStep) -> str:
    dtype = str(matmul_dtype(step)).removeprefix("torch.")
    compiled = ", compiled" if step.compiled is not step.module else ""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{device_name(step.process.device)}, {dtype}{compiled}, {versions}"


def _peak(process: Process) -> str:
    peak = peak_memory(process.device)
    if "resident" in peak:
        return f"{size(peak['resident'])} resident, the whole process"
    return f"{size(peak['tensors'])} of tensors, {size(peak['reserved'])} reserved"


def _random_samples(experiment: Experiment, *, missing: bool) -> str:
    reason = f"there is no data at {experiment.recipe.data.root}: " if missing else ""
    return f"{reason}random, of the right shape; nothing is read or decoded, so only the step is timed as it will be"


def _whole_recipe(rates: _Rates, workload: Workload, *, known_size: bool) -> str:
    if not known_size:
        return "unknown without the data: give the number of training samples with --samples NUMBER"
    step_s = workload.recipe.training.batch_size / rates.both
    seconds = workload.seconds(rates.timing, workload.world_size / rates.loader, step_s=step_s)
    epochs = workload.recipe.schedule.epochs
    no_validation = "" if workload.validation else "; there is no validation split"
    return (
        f"about {duration(seconds)}: {epochs:,} epochs of {workload.steps:,} steps, with evaluation{no_validation}; "
        "without writing checkpoints"
    )
