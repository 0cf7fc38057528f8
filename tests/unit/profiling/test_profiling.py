"""What a run costs: estimates against counts, dry runs and benchmarks of the tiny recipe."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from maekit.build.prepare import random_task
from maekit.cli.console import read_lengths
from maekit.config.data_spec import load_spec
from maekit.config.load import load_recipe
from maekit.data.hdf5.pack import pack_recordings
from maekit.errors import UserError
from maekit.profiling.bench import bench, table
from maekit.profiling.dry_run import dry_run
from maekit.profiling.memory_estimate import product_flops, step_memory
from maekit.profiling.step_timing import StepTiming, time_step
from maekit.profiling.trial import example_batch, repeat_samples
from maekit.profiling.workload import Workload
from maekit.training.distributed import Process
from maekit.training.step import TrainStep

CPU = Process(0, 1, torch.device("cpu"))


def test_workload_counts_what_the_loop_does(tiny: Path) -> None:
    overrides = ["training.batch_size=6", "training.micro_batch=1", "training.log_every_steps=2"]
    recipe = load_recipe(tiny, overrides).recipe
    workload = Workload(recipe, samples=20, validation=5, world_size=2)
    assert (workload.share, workload.gradient_accumulation_steps, workload.micro_batch) == (3, 3, 1)
    assert (workload.steps, workload.left_out) == (3, 2)
    timing = StepTiming(samples=4, forward_backward=0.4, optimizer=0.1, evaluation=0.04)
    assert timing.step(3) == pytest.approx(0.4)
    # Six steps that compute and then read, three of them logged, two validations shared by two processes.
    expected = 6 * (0.4 + 3 * 1.0) + 3 * 0.01 + 2 * 5 / 2 * (0.01 + 1.0)
    assert workload.seconds(timing, read_s=1.0) == pytest.approx(expected)
    overlapped = load_recipe(tiny, [*overrides, "training.workers=2"]).recipe
    with_workers = Workload(overlapped, samples=20, validation=0, world_size=2)
    assert with_workers.seconds(timing, read_s=1.0) == pytest.approx(6 * 3 * 1.0 + 3 * 0.01)


def test_memory_and_operations_equal_counts(tiny: Path) -> None:
    experiment, task = random_task(tiny)
    examples = example_batch(experiment.some_samples("train"))
    recipe = experiment.recipe
    memory = step_memory(task, examples, 4, recipe, CPU)
    trainable = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    assert memory.weights == sum(t.nbytes for t in (*task.parameters(), *task.buffers()))
    steps = 4 * sum(p.requires_grad for p in task.parameters())  # AdamW also counts the steps of each parameter
    assert memory.optimizer == 2 * trainable + steps
    assert memory.transient > trainable
    larger = step_memory(task, examples, 32, recipe, CPU)
    assert (larger.weights, larger.optimizer) == (memory.weights, memory.optimizer)
    assert larger.transient > memory.transient
    sharded = recipe.model_copy(update={"training": recipe.training.model_copy(update={"parallel": "fsdp2"})})
    assert step_memory(task, examples, 4, sharded, Process(0, 2, CPU.device)).weights == memory.weights // 2
    # More than the patch embedding of the visible patches alone, which is multiplied twice a training step.
    weight = task.model.encoder.patch_embed.proj.weight  # type: ignore[union-attr]
    assert product_flops(task, examples) > 2 * 2 * 5 * weight.numel()  # type: ignore[operator]


def test_timing_moves_no_weight(tiny: Path) -> None:
    experiment, task = random_task(tiny)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    step = TrainStep(task, experiment.recipe, CPU)
    batch = repeat_samples(example_batch(experiment.some_samples("train")), 11)
    timing = time_step(step, batch, 0.05)
    assert timing.samples == 11
    assert min(timing.forward_backward, timing.optimizer, timing.evaluation) > 0
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


def test_dry_run_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = dry_run(load_recipe(tiny), None, runs=tmp_path / "runs", device="meta")
    facts = dict(result.facts)
    assert result.seconds is None
    assert facts["time"] == "not measured on meta"
    assert facts["split"] == "train 20, validation 5, test 5"
    assert facts["steps"] == "5 an epoch, 10 in 2 epochs"
    assert facts["batch"] == "4 a step: 4 at once"
    assert facts["run folder"].endswith("runs/tiny: new")
    timed = dry_run(load_recipe(tiny), None, runs=tmp_path / "runs", device="cpu")
    assert timed.seconds is not None
    assert 0 < timed.seconds < 60
    assert sorted(tmp_path.rglob("*")) == before


def test_bench_with_and_without_data(tiny: Path) -> None:
    result = bench(tiny, seconds=0.1, device="cpu")
    assert min(result.loader, result.step, result.both, result.flops, result.peak_flops) > 0
    assert 0 < result.utilisation(result.step) < 1
    assert [row[0] for row in table(result).rows] == ["loader alone", "step alone", "both together"]
    assert "2 epochs of 5 steps" in dict(result.facts)["whole recipe"]
    missing = bench(tiny, seconds=0.1, device="cpu", overrides=["data.root=/nowhere"], lengths={"time": 500})
    facts = dict(missing.facts)
    assert facts["samples"].startswith("there is no data at /nowhere: random")
    assert facts["whole recipe"].startswith("unknown without the data")


def test_lengths_of_axes() -> None:
    assert read_lengths(["time=500", "range=64"]) == {"time": 500, "range": 64}
    for wrong in ("time", "=5", "time=0", "time=x"):
        with pytest.raises(UserError, match="not a length of an axis"):
            read_lengths([wrong])


def test_dry_run_names_recordings_that_are_slow_to_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> str | None:
        facts = dict(dry_run(load_recipe(tiny), None, runs=tmp_path / "runs", device="meta").facts)
        return facts.get("slow reading")

    assert slow() is None
    monkeypatch.setattr("maekit.data.hdf5.read_cost.DECODED_NOTE", 0)
    monkeypatch.setattr("maekit.data.hdf5.read_cost.WASTE_RATIO", 0)
    told = slow()
    assert told is not None
    command = shlex.split(told.partition("mend: ")[2])
    assert command[:3] == ["maekit", "data", "pack"]
    folder = Path(command[command.index("--to") + 1])
    pack_recordings(load_spec(command[3]), Path(command[command.index("--root") + 1]), folder)
    assert list(folder.rglob("*.h5"))
