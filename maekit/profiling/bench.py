"""How fast a recipe runs on this machine, and what holds it back: the loader, the step, and both together."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from maekit import plugins
from maekit.build.experiment import LABELLED_TASKS, Experiment
from maekit.build.models import make_task
from maekit.build.prepare import RANDOM, prepare_training
from maekit.config.data_spec import load_spec
from maekit.config.load import load_recipe
from maekit.config.options import construct
from maekit.data.loading import to_device
from maekit.data.random_source import RandomSource
from maekit.errors import UserError
from maekit.profiling import dry_run, memory_estimate, step_timing
from maekit.report.content import Table
from maekit.report.quantities import duration, operations, size
from maekit.training.distributed import init_distributed
from maekit.training.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maekit.config.load import LoadedRecipe
    from maekit.training.distributed import Process

RANDOM_SAMPLES = 4096
"""Drawn where nobody says how many samples the data set has."""


@dataclass(frozen=True)
class Bench:
    """What was measured, on all processes together.

    Attributes:
        recipe: its name.
        loader, step, both: samples a second: prepared by the loader alone; trained on a batch that is on the device
            already; and trained as the loop does it, reading and copying included.
        flops: of the matrix products of one sample, forward and backward.
        ceiling: operations a second of the best matrix product of the devices in the step's precision.
        facts: everything else, by name.
        first: whether this process is the one that speaks.
    """

    recipe: str
    loader: float
    step: float
    both: float
    flops: float
    ceiling: float
    facts: list[tuple[str, str]]
    first: bool = True

    def utilisation(self, rate: float) -> float:
        """Share of the ceiling that the matrix products of `rate` samples a second take."""
        return rate * self.flops / self.ceiling


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
    """Measure a recipe, about `seconds` for each part. Weights do not move, nothing is written.

    Args:
        recipe: of any task.
        overrides: as on the command line.
        seconds: for each of loader, step and both.
        device: as for training.
        synthetic: random samples instead of the data set; so it is, too, where its folder is not there.
        samples: how many of them the data set has, for the time of the whole recipe.
        lengths: of axes whose length stands in the files alone, for random samples.

    Raises:
        UserError: whatever training would find wrong before its first step, a step that does not fit the GPU.
    """
    loaded = load_recipe(recipe, overrides)
    missing = not _is_there(loaded)
    with TemporaryDirectory() as scratch, init_distributed(device) as process:
        if synthetic or missing:
            experiment = random_setup(loaded, samples or RANDOM_SAMPLES, lengths or {})
            torch.manual_seed(loaded.recipe.seed)
            task = make_task(experiment)
        else:
            start = RANDOM if loaded.recipe.task.name in LABELLED_TASKS else None
            experiment, task = prepare_training(loaded, start, Path(scratch))
        training = experiment.some_samples("train", augment=True)
        shape = dry_run.Shape(loaded.recipe, len(training), len(experiment.split["validation"]), process.world_size)
        few = dry_run.some(training)
        flops = memory_estimate.product_flops(task, few)
        memory = memory_estimate.step_memory(task, few, shape.micro_batch, loaded.recipe, process)
        step = TrainStep(task.to(process.device), loaded.recipe, process)
        number = dry_run.measurable(step, few, memory, shape, seconds)
        found = dry_run.paced(step, to_device(dry_run.cycled(few, number), process.device), shape, seconds)
        workers = loaded.recipe.training.workers
        whole_step = number == shape.micro_batch
        uses = (
            lambda batch: None,
            step_timing.learner(step, shape.gradient_accumulation_steps if whole_step else None),
        )
        rates = []
        for use in uses:
            with closing(
                step_timing.batches(training, number, process, workers=workers, seed=loaded.recipe.seed)
            ) as feed:
                rates.append(process.world_size * step_timing.rate(feed, use, process, seconds, skip=1 + 2 * workers))
        loader, both = rates
        if not whole_step:
            both = 1 / (1 / both + found.update / shape.recipe.training.batch_size)
        reading = process.world_size / loader
        whole = shape.seconds(found, reading, step=shape.recipe.training.batch_size / both)
        ceiling = process.world_size * step_timing.product_ceiling(step)
        known = samples is not None or not (synthetic or missing)
        step_rate = shape.recipe.training.batch_size / found.step(shape.share)
        facts = [
            *([("samples", _random_words(experiment, missing, samples, lengths))] if synthetic or missing else []),
            ("device", _device(process, step)),
            ("batch", dry_run.batch_words(shape) + ("" if whole_step else f"; timed in micro-batches of {number}")),
            ("parameters", dry_run.parameter_words(task)),
            ("limit", _limit(loader, step_rate, workers)),
            (
                "matrix products",
                f"{operations(flops)} a sample, forward and backward; {operations(ceiling, '/s')} at best",
            ),
            ("memory, estimated", dry_run.memory_words(memory, process)),
            ("memory, at most", _peak(process)),
            ("whole recipe", _whole(whole, shape, known)),
        ]
        return Bench(loaded.recipe.name, loader, step_rate, both, flops, ceiling, facts, process.first)


def table(found: Bench) -> Table:
    """The three rates, and how much of the matrix ceiling they use."""
    rows = [
        [name, rate, duration(1 / rate), "" if name == "loader alone" else f"{100 * found.utilisation(rate):.1f} %"]
        for name, rate in (("loader alone", found.loader), ("step alone", found.step), ("both together", found.both))
    ]
    columns = ["", "samples/s", "a sample", "of matrix ceiling"]
    return Table(found.recipe, columns, rows)


def random_setup(loaded: LoadedRecipe, samples: int, lengths: Mapping[str, int]) -> Experiment:
    """The setup of a recipe on random samples, all of them in the training split; nothing is estimated from them.

    Raises:
        UserError: a shape that only the files would tell, options that do not fit.
    """
    recipe = loaded.recipe
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    kind = plugins.find("adapters", recipe.adapter.name, location=loaded.locate("adapter", "name"))
    labels = recipe.task.name in LABELLED_TASKS
    source = RandomSource(spec, recipe.data.window, samples=samples, lengths=lengths, labels=labels)
    adapter = construct(kind, recipe.adapter, loaded, ("adapter",), source.info)
    if 0 in source.shape:
        source.shape = adapter.patchifier.sample_shape
    nothing = np.array([], dtype=np.int64)
    split = {"train": np.arange(samples), "validation": nothing, "test": nothing}
    return Experiment(loaded, spec, source, split, adapter)


def _is_there(loaded: LoadedRecipe) -> bool:
    """Whether there is a data set at all; one that is wrong is there, and what is wrong gets said."""
    data = loaded.recipe.data
    spec = load_spec(data.spec, loaded.path.parent)
    root = Path(data.root)
    return (root / (spec.folder or "")).is_dir() if spec.files is None else any(root.glob(spec.files))


def _limit(loader: float, step: float, workers: int) -> str:
    slower = "the loader" if loader < step else "the step"
    if workers:
        return (
            f"{slower}, {max(loader, step) / min(loader, step):.1f} times slower than the other, with {workers} workers"
        )
    share = (1 / loader) / (1 / loader + 1 / step)
    return f"they take turns (training.workers: 0), and reading takes {100 * share:.0f} % of the time"


def _device(process: Process, step: TrainStep) -> str:
    import platform

    dtype = str(step_timing.precision(step)).removeprefix("torch.")
    if process.device.type == "cuda":
        name = torch.cuda.get_device_name(process.device)
    else:
        name = f"CPU, {torch.get_num_threads()} threads"
    compiled = ", compiled" if step.compiled is not step.module else ""
    return f"{name}, {dtype}{compiled}, torch {torch.__version__}, Python {platform.python_version()}"


def _peak(process: Process) -> str:
    found = step_timing.peak_memory(process.device)
    if "resident" in found:
        return f"{size(found['resident'])} resident, the whole process"
    return f"{size(found['tensors'])} of tensors, {size(found['reserved'])} reserved"


def _random_words(experiment: Experiment, missing: bool, samples: int | None, lengths: Mapping[str, int] | None) -> str:
    why = f"no data at {experiment.recipe.data.root}: " if missing else ""
    return (
        f"{why}random ones of the right shape, so nothing is read or decoded and only the step's time is the recipe's"
    )


def _whole(seconds: float, shape: dry_run.Shape, known: bool) -> str:
    if not known:
        return "unknown without the data: say how many training samples with --samples NUMBER"
    epochs = shape.recipe.schedule.epochs
    evaluated = "" if shape.validation else "; there is no validation split"
    return f"{duration(seconds)}, about: {epochs:,} epochs of {shape.steps:,} steps, evaluation included{evaluated}; not writing checkpoints"


def read_lengths(given: Sequence[str]) -> dict[str, int]:
    """`NAME=LENGTH` as typed.

    Raises:
        UserError: something else.
    """
    found = {}
    for text in given:
        name, _, length = text.partition("=")
        if not name or not length.isdecimal() or int(length) < 1:
            raise UserError(
                "not a length of an axis", location="--axis", value=text, expected="NAME=NUMBER, e.g. time=500"
            )
        found[name] = int(length)
    return found
