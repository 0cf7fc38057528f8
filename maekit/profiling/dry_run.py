"""A dry run: what training a recipe would do and cost. Nothing is trained or written."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from maekit.build.prepare import prepare_training
from maekit.data.hdf5.read_cost import is_slow, pack_command
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.loading import to_device
from maekit.errors import UserError
from maekit.profiling import memory_estimate
from maekit.profiling.device_limits import device_name, peak_memory
from maekit.profiling.facts import Facts, batch_fact, free_fact, gpu_facts, memory_fact, parameters_fact
from maekit.profiling.gpu_step import gpu_steps
from maekit.profiling.gpus import GPUS
from maekit.profiling.step_timing import read_seconds
from maekit.profiling.trial import example_batch, repeat_samples, time_step, timed_batch_size
from maekit.profiling.workload import Workload
from maekit.report.quantities import duration, size
from maekit.training import checkpoint
from maekit.training.distributed import Process, init_distributed
from maekit.training.precision import resolve_precision
from maekit.training.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.build.experiment import Experiment
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch, Samples
    from maekit.profiling.memory_estimate import StepMemory
    from maekit.tasks.task import Task

TIMED_S = 4.0
"""Seconds that a dry run spends on timing."""


@dataclass(frozen=True)
class DryRun:
    """Result of a dry run.

    Attributes:
        title: names the recipe.
        facts: what was found, by name.
        seconds: estimate for the whole run; None where nothing was timed.
        first: whether this is the process that prints.
    """

    title: str
    facts: Facts
    seconds: float | None
    first: bool = True


def dry_run(
    loaded: LoadedRecipe, start: str | Path | None, *, runs: Path = Path("runs"), device: str | None = None
) -> DryRun:
    """Open the data, build the model, check the disk, and take a few training steps that leave nothing behind.

    Args:
        loaded: a recipe.
        start: as for `finetune`; None in pretraining.
        runs: where the run would be written.
        device: as for training; `meta` times nothing, and a name in `maekit.profiling.gpus` stands for a GPU that need not
            be here, of which each process of `torchrun` (or of `WORLD_SIZE` in the environment) has one.

    Raises:
        UserError: whatever training would find wrong before its first step, and a micro-batch that does not fit the GPU.
    """
    gpu = GPUS.get(device or "")
    with TemporaryDirectory() as scratch, _process(device) as process:
        experiment, task = prepare_training(loaded, start, Path(scratch))
        training = experiment.some_samples("train", augment=True)
        examples = example_batch(training)
        recipe = loaded.recipe if gpu is not None else resolve_precision(loaded.recipe, task, lambda: examples, process)
        workload = Workload(recipe, len(training), len(experiment.split["validation"]), process.world_size)
        steps = _steps(workload)
        if gpu is None:
            memory = memory_estimate.step_memory(task, examples, workload.micro_batch, recipe, process)
            on_gpu, free = [], free_fact(process)
        else:
            estimate = gpu_steps([gpu], task, examples, workload, process)[0]
            memory, on_gpu, free = estimate.memory, gpu_facts(estimate, workload), ""
        facts = [
            ("data", _data(experiment)),
            ("split", ", ".join(f"{side} {len(experiment.split[side]):,}" for side in ("train", "validation", "test"))),
            *_slow_reading(experiment, loaded),
            ("sample", _sample(experiment, examples)),
            ("steps", steps),
            ("batch", batch_fact(workload)),
            ("learning rate", f"{recipe.optimizer.base_lr * recipe.training.batch_size / 256:.3g} at its peak"),
            ("parameters", parameters_fact(task)),
            ("memory, estimated", memory_fact(memory, process) + free),
            ("checkpoints", _checkpoints(task, recipe, runs, memory)),
            ("run folder", _run_folder(runs / recipe.name)),
        ]
        seconds = None
        if gpu is not None:
            facts += on_gpu
        elif process.device.type == "meta":
            facts.append(("time", "not measured on meta"))
        else:
            seconds, measured = _measure(task, training, examples, memory, workload, process)
            facts += [*measured, ("time", _time(seconds, recipe, process))]
        return DryRun(f"{recipe.name}: a dry run, nothing is trained or written", facts, seconds, process.first)


@contextmanager
def _process(device: str | None) -> Iterator[Process]:
    """The process of a dry run. Those of GPUs that need not be here join no group, since they compute nothing."""
    if device in GPUS:
        yield Process(int(os.environ.get("RANK", "0")), _world_size(), torch.device("cuda"))
        return
    with init_distributed("cpu" if device == "meta" else device) as process:
        yield Process(process.rank, process.world_size, torch.device("meta")) if device == "meta" else process


def _world_size() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError("not a number of processes", location="WORLD_SIZE", value=text, expected="a number from 1 on")
    return int(text)


def checkpoint_size(task: Task, recipe: Recipe, memory: StepMemory) -> int:
    """Bytes of a checkpoint: weights, buffers and optimizer state, and the moving average where there is one."""
    weights = sum(t.nbytes for t in task.state_dict().values())
    return weights * (1 if recipe.training.ema is None else 2) + memory.optimizer


def _measure(
    task: Task, training: Samples, examples: Batch, memory: StepMemory, workload: Workload, process: Process
) -> tuple[float, Facts]:
    """Time steps and reading.

    Returns:
        Seconds of the whole run, and facts about the measurement.
    """
    stated = workload.recipe.training.workers
    step = TrainStep(task.to(process.device), workload.recipe, process)
    number = timed_batch_size(step, examples, memory, workload, TIMED_S)
    read_s = read_seconds(training, number)
    cuda = process.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(process.device)
    batch = to_device(repeat_samples(examples, number), process.device)
    timing = time_step(step, batch, workload, TIMED_S)
    workload = workload.with_workers(timing, read_s, process)
    rate = timing.samples / timing.forward_backward
    facts = [("measured", f"{rate:,.1f} samples/s forward and backward, in micro-batches of {number}")]
    if cuda:
        peak = peak_memory(process.device)
        facts.append(("memory, measured", f"{size(peak['tensors'])} of tensors, {size(peak['reserved'])} reserved"))
    if workload.recipe.training.workers != stated:
        facts.append(("data workers", f"{workload.workers}, as training would take with `workers: auto`"))
    return workload.seconds(timing, read_s / max(workload.workers, 1)), facts


def _data(experiment: Experiment) -> str:
    source = experiment.source
    groups = len(set(source.groups.tolist()))
    dropped: dict[str, int] = getattr(source, "dropped", {})
    return (
        f"{len(source):,} samples in {groups:,} group{'s' if groups > 1 else ''} "
        f"({experiment.spec.name}, {experiment.recipe.data.root})"
        + "".join(f"; {number:,} left out: {reason}" for reason, number in dropped.items())
    )


def _slow_reading(experiment: Experiment, loaded: LoadedRecipe) -> Facts:
    """Recordings whose chunks make windows slow to read, and the command that mends it; nothing where there are none."""
    source, data = experiment.source, loaded.recipe.data
    if not isinstance(source, HDF5Windows):
        return []
    slow = [(cost, i) for i, cost in enumerate(source.costs) if is_slow(*cost)]
    if not slow:
        return []
    (decoded, window), i = max(slow)
    beside = loaded.path.parent / data.spec
    spec = str(beside) if beside.is_file() else data.spec
    return [
        (
            "slow reading",
            f"{len(slow)} of {len(source.costs)} recordings have compressed chunks of which {size(decoded)} are decoded for a window of "
            f"{size(window)} ({source.recordings[i].file.name}); mend: {pack_command(spec, source.root)}",
        )
    ]


def _sample(experiment: Experiment, examples: Batch) -> str:
    patchifier = experiment.adapter.patchifier
    shape, grid = (" x ".join(map(str, sizes)) for sizes in (patchifier.sample_shape, patchifier.grid_size))
    return (
        f"{shape}, {prod(patchifier.grid_size):,} patches ({grid}) of {patchifier.patch_dim:,} values; "
        f"{size(examples['signal'][0].nbytes)} to the device"
    )


def _steps(workload: Workload) -> str:
    epochs = workload.recipe.schedule.epochs
    left_out = f" ({workload.left_out:,} samples of each epoch do not fill a step)" if workload.left_out else ""
    return f"{workload.steps:,} an epoch, {workload.steps * epochs:,} in {epochs:,} epochs{left_out}"


def _checkpoints(task: Task, recipe: Recipe, runs: Path, memory: StepMemory) -> str:
    folder = (runs / recipe.name).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free, each = shutil.disk_usage(existing).free, checkpoint_size(task, recipe, memory)
    keep = recipe.training.keep_checkpoints
    needed = each * (keep + 1)  # the oldest is removed after a new one is complete
    verdict = "enough room" if needed < free else "NOT ENOUGH ROOM"
    return f"{size(each)} each, {keep} kept; {size(needed)} while one is written, {size(free)} free: {verdict}"


def _run_folder(folder: Path) -> str:
    steps = checkpoint.steps(folder / "checkpoints")
    if steps:
        return f"{folder}: resumes from step {steps[-1]:,}"
    return f"{folder}: {'has no checkpoint' if folder.exists() else 'new'}"


def _time(seconds: float, recipe: Recipe, process: Process) -> str:
    saves = ceil(recipe.schedule.epochs / recipe.training.save_every_epochs)
    return (
        f"about {duration(seconds)} on this machine ({device_name(process.device)}), and writing {saves:,} checkpoints"
    )
