"""The training loop: bit-exact resume after any crash, samplers, schedules, parameter groups, values that are not finite."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from maekit.build.experiment import build_experiment
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.config.schema import Schedule
from maekit.core.autoencoder import Encoder
from maekit.data.sampler import BatchSampler
from maekit.errors import UserError
from maekit.runs.train import pretrain
from maekit.tasks.task import TaskOutput
from maekit.training import checkpoint
from maekit.training.loop import TrainProgress
from maekit.training.optimizer import learning_rate, parameter_groups
from maekit.training.run import Run
from maekit.training.stopping import InterruptedRunError, NotFiniteError


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in Run(folder).rows() if row["kind"] == "train"]


@pytest.fixture
def reference(tiny: Path, tmp_path: Path) -> list[tuple[int, float]]:
    """Losses of an uninterrupted run."""
    return losses(pretrain(tiny, runs=tmp_path / "reference").folder)


def test_golden_losses(reference: list[tuple[int, float]]) -> None:
    """A refactoring that changes these losses changed what is computed.

    They were recorded on a CPU in float32; the tolerance covers other processors' order of summation. To renew them after
    an intended change, copy the losses that this test prints when it fails, and say in the commit why they changed.
    """
    assert [step for step, _ in reference] == list(range(1, 11))
    assert [loss for _, loss in reference] == pytest.approx(GOLDEN, rel=2e-4)


GOLDEN = [1.46703, 1.86861, 1.82398, 1.57592, 1.78706, 1.60155, 1.92771, 1.50212, 1.89258, 1.66772]


def test_logged_metrics_come_from_the_pass_of_the_step(tiny: Path, tmp_path: Path) -> None:
    """A logged step costs no second pass: the encoder sees as many batches as there are steps."""
    passes = []
    encode = Encoder.encode

    def counted(self: Encoder, *args: Any) -> torch.Tensor:
        passes.append(torch.is_grad_enabled())
        return encode(self, *args)

    with mock.patch.object(Encoder, "encode", counted):
        folder = pretrain(tiny, runs=tmp_path, overrides=["schedule.epochs=1", "training.log_every_steps=1"]).folder
    rows = [row for row in Run(folder).rows() if row["kind"] == "train"]
    assert passes.count(True) == len(rows)
    assert all(math.isfinite(row["loss_mean_patch"]) and row["effective_rank"] >= 1 for row in rows)


class StopError(Exception):
    """Stands for the end of the process."""


def test_resume_is_bit_equal(tiny: Path, tmp_path: Path, reference: list[tuple[int, float]]) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 7:
            raise StopError

    with pytest.raises(StopError):
        pretrain(tiny, runs=tmp_path, watch=stop)
    assert checkpoint.steps(tmp_path / "tiny/checkpoints") == [5, 6]
    resumed = pretrain(tiny, runs=tmp_path)
    assert losses(resumed.folder) == reference
    assert resumed.metrics
    assert pretrain(tiny, runs=tmp_path).metrics == resumed.metrics


def test_workers_and_accumulation_change_nothing(
    tiny: Path, tmp_path: Path, reference: list[tuple[int, float]]
) -> None:
    with_workers = pretrain(tiny, runs=tmp_path / "w", overrides=["training.workers=2"]).folder
    assert losses(with_workers) == reference
    parts = pretrain(
        tiny,
        runs=tmp_path / "a",
        overrides=["training.gradient_accumulation_steps=2", "model.drop_path=0", "model.encoder.drop_path=0"],
    ).folder
    whole = pretrain(tiny, runs=tmp_path / "b", overrides=["model.encoder.drop_path=0"]).folder
    assert [x for _, x in losses(parts)] == pytest.approx([x for _, x in losses(whole)], rel=1e-4)


def run_in_child(recipe: Path, runs: Path) -> int:
    """Fork and train; the child never returns."""
    child = os.fork()
    if child == 0:
        try:
            pretrain(recipe, runs=runs)
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def test_killed_at_random_moments(tiny: Path, tmp_path: Path, reference: list[tuple[int, float]]) -> None:
    began = time.monotonic()
    child = run_in_child(tiny, tmp_path / "timing")
    os.waitpid(child, 0)
    whole = time.monotonic() - began
    chance = random.Random(0)
    kills = finished = 0
    while kills < 40:  # `make torture` kills at more
        runs = tmp_path / f"run{finished}"
        child = run_in_child(tiny, runs)
        time.sleep(chance.uniform(0.2, 0.8) * whole)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        if os.WIFEXITED(status):
            assert losses(runs / "tiny") == reference
            finished += 1
    child = run_in_child(tiny, runs)
    assert os.waitpid(child, 0)[1] == 0
    assert losses(runs / "tiny") == reference


OPERATIONS = (
    "pathlib.Path.rename",
    "os.fsync",
    "os.open",
    "pathlib.Path.mkdir",
    "pathlib.Path.write_text",
    "shutil.rmtree",
    "maekit.training.tensor_file.save_file",
)


def save_checkpoint(folder: Path, step: int, keep: int = 2) -> None:
    tensors = {"model": {"w": torch.full((3,), float(step))}, "optimizer": {"m": torch.zeros(2)}}
    checkpoint.save(folder, checkpoint.Checkpoint(step, tensors, {"bad_steps": 0}), keep=keep)


def test_killed_at_every_file_operation_of_a_save(tmp_path: Path) -> None:
    """Whichever operation is the last one, the newest intact checkpoint is the old one or the new one."""
    stopped_after = 0
    while True:
        folder = tmp_path / str(stopped_after)
        for step in (1, 2):
            save_checkpoint(folder, step)
        count = 0

        def counted(original: object, limit: int = stopped_after) -> object:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal count
                if count == limit:
                    raise KeyboardInterrupt
                count += 1
                return original(*args, **kwargs)  # type: ignore[operator]

            return call

        with contextlib.ExitStack() as stack:
            for name in OPERATIONS:
                module, _, attribute = name.rpartition(".")
                target = eval(
                    module,
                    {
                        "os": os,
                        "pathlib": __import__("pathlib"),
                        "shutil": __import__("shutil"),
                        "maekit": __import__("maekit"),
                    },
                )
                stack.enter_context(mock.patch.object(target, attribute, counted(getattr(target, attribute))))
            try:
                save_checkpoint(folder, 3)
                finished = True
            except KeyboardInterrupt:
                finished = False
        newest, notes = checkpoint.load_newest(folder)
        assert newest is not None
        assert newest.step in (2, 3)
        assert newest.tensors["model"]["w"].tolist() == [newest.step] * 3
        assert not notes
        save_checkpoint(folder, 4)
        assert checkpoint.steps(folder)[-1] == 4
        assert not list(folder.glob(".unfinished*"))
        if finished:
            break
        stopped_after += 1
    assert stopped_after > 12


def test_damaged_checkpoints(
    tiny: Path, tmp_path: Path, reference: list[tuple[int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = pretrain(tiny, runs=tmp_path).folder
    newest = folder / "checkpoints" / "step-000000010" / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(bytes(content))
    pretrain(tiny, runs=tmp_path)
    assert "1 steps are lost" in caplog.text
    assert losses(folder) == reference
    for location in (folder / "checkpoints").iterdir():
        (location / "optimizer.safetensors").write_bytes(b"")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="every checkpoint of this run is damaged"):
        pretrain(tiny, runs=tmp_path)
    assert sorted(folder.rglob("*")) == before


def test_signal_saves_and_stops(tiny: Path, tmp_path: Path, reference: list[tuple[int, float]]) -> None:
    def interrupt(progress: TrainProgress) -> None:
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError) as stopped:
        pretrain(tiny, runs=tmp_path, watch=interrupt)
    assert stopped.value.exit_code == 143
    assert checkpoint.steps(tmp_path / "tiny/checkpoints")[-1] == 4
    assert losses(pretrain(tiny, runs=tmp_path).folder) == reference


def test_files_follow_the_umask(tiny: Path, tmp_path: Path) -> None:
    """Safetensors too, which the library itself would make readable for their owner alone."""
    previous = os.umask(0o027)
    try:
        folder = pretrain(tiny, runs=tmp_path, overrides=["schedule.epochs=1"]).folder
    finally:
        os.umask(previous)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {0o640}


def test_not_finite_is_skipped_then_stops_with_a_dump(tiny: Path, tmp_path: Path) -> None:
    import maekit.tasks.pretraining as pretraining

    original = pretraining.Pretraining.forward

    def infinite(self: pretraining.Pretraining, batch: dict[str, torch.Tensor]) -> TaskOutput:
        output = original(self, batch)
        return output._replace(loss=output.loss * torch.inf)

    endless = mock.patch.object(pretraining.Pretraining, "forward", infinite)
    with endless, pytest.raises(NotFiniteError) as stopped:
        pretrain(tiny, runs=tmp_path, overrides=["training.max_bad_steps=3"])
    assert stopped.value.exit_code == 3
    facts = json.loads((tmp_path / "tiny/not_finite/facts.json").read_text())
    assert facts["steps_in_a_row"] == 4
    assert (tmp_path / "tiny/not_finite/batch.safetensors").stat().st_size > 100


def test_two_runs_on_one_folder(tmp_path: Path) -> None:
    with (
        Run(tmp_path / "run").owned(),
        pytest.raises(UserError, match="another process is training"),
        Run(tmp_path / "run").owned(),
    ):
        pass


def test_never_resume_and_tensorboard(tiny: Path, tmp_path: Path) -> None:
    folder = pretrain(tiny, runs=tmp_path, overrides=["training.tensorboard=true"], resume="never").folder
    assert list((folder / "tensorboard").glob("events*"))
    with pytest.raises(UserError, match="holds checkpoints"):
        pretrain(tiny, runs=tmp_path, resume="never")


def test_another_recipe_is_refused(tiny: Path, tmp_path: Path) -> None:
    pretrain(tiny, runs=tmp_path)
    with pytest.raises(UserError, match="they differ in model"):
        pretrain(tiny, runs=tmp_path, overrides=["model.mask_ratio=0.6"])
    pretrain(tiny, runs=tmp_path, overrides=["training.log_every_steps=3"])


@pytest.mark.parametrize(("samples", "drawn"), [(7, 30), (30, 30), (103, 30), (10, 30)])
def test_an_epoch_of_any_length_goes_through_all_samples_equally_often(samples: int, drawn: int) -> None:
    sampler = BatchSampler(samples, 10, seed=3, samples_per_epoch=drawn)
    keys = []
    for epoch in range(2):
        sampler.start_at(epoch)
        keys.append([key for batch in sampler for key in batch])
        assert len(keys[-1]) == drawn == 10 * sampler.steps
        counts = np.bincount([key.position for key in keys[-1]], minlength=samples)
        assert counts.max() - counts.min() <= 1
        sampler.start_at(epoch, 2)
        assert [key for batch in sampler for key in batch] == keys[-1][20:]
    assert len({*keys[0], *keys[1]}) == 2 * drawn, "augmented alike"
    assert keys[0] != keys[1]
    with pytest.raises(UserError, match="samples_per_epoch"):
        BatchSampler(7, 10)


def test_sampler_deals_the_same_samples_to_any_number_of_processes() -> None:
    def step_sets(world: int, gradient_accumulation_steps: int) -> list[set[int]]:
        parts = [
            list(
                BatchSampler(
                    103, 12, seed=3, gradient_accumulation_steps=gradient_accumulation_steps, rank=r, world_size=world
                )
            )
            for r in range(world)
        ]
        micro = list(zip(*parts, strict=True))
        return [
            {key.position for m in micro[i : i + gradient_accumulation_steps] for part in m for key in part}
            for i in range(0, len(micro), gradient_accumulation_steps)
        ]

    assert step_sets(1, 1) == step_sets(3, 1) == step_sets(2, 2)
    assert all(len(samples) == 12 for samples in step_sets(1, 1))
    sampler = BatchSampler(103, 12, seed=3)
    whole = list(sampler)
    sampler.start_at(0, 5)
    assert list(sampler) == whole[5:]
    sampler.start_at(1)
    assert list(sampler) != whole
    everything = [
        key.position
        for r in range(3)
        for batch in BatchSampler(10, 6, rank=r, world_size=3, shuffle=False)
        for key in batch
    ]
    assert sorted(set(everything)) == list(range(10))


def test_learning_rate_is_the_papers() -> None:
    schedule = Schedule(epochs=100, warmup_epochs=10, min_lr=1e-6)
    at = [learning_rate(s, steps_per_epoch=7, batch_size=512, base_lr=1e-3, schedule=schedule) for s in range(700)]
    assert at[0] == 0
    assert at[35] == pytest.approx(2e-3 * 0.5)
    assert at[70] == pytest.approx(2e-3)
    middle = 1e-6 + (2e-3 - 1e-6) * 0.5 * (1 + math.cos(math.pi * (385 / 7 - 10) / 90))
    assert at[385] == pytest.approx(middle)
    assert all(a > b for a, b in itertools.pairwise(at[70:]))


def test_parameter_groups(tiny: Path) -> None:
    experiment = build_experiment(load_recipe(tiny, ["task=regression", "optimizer.layer_decay=0.5"]))
    task = make_task(experiment)
    groups = parameter_groups(task, weight_decay=0.1, layer_decay=0.5)
    found = {id(p): (g["weight_decay"], g["lr_scale"]) for g in groups for p in g["params"]}
    named = dict(task.named_parameters())
    expected = {
        "encoder.patch_embed.proj.weight": (0.1, 0.125),
        "encoder.cls_token": (0.0, 0.125),
        "encoder.pos_embed": (0.0, 0.125),
        "encoder.blocks.0.attn.qkv.weight": (0.1, 0.25),
        "encoder.blocks.1.mlp.fc1.bias": (0.0, 0.5),
        "head.weight": (0.1, 1.0),
    }
    assert {name: found[id(named[name])] for name in expected} == expected
    assert len(found) == sum(p.requires_grad for p in task.parameters())
    assert named["encoder.pos_embed"].requires_grad
    pretraining = make_task(build_experiment(load_recipe(tiny)))
    assert not dict(pretraining.named_parameters())["model.encoder.pos_embed"].requires_grad
    decays = {
        id(p): g["weight_decay"]
        for g in parameter_groups(pretraining, weight_decay=0.1, layer_decay=1)
        for p in g["params"]
    }
    assert decays[id(pretraining.model.encoder.cls_token)] == 0.1  # type: ignore[union-attr]


def test_compile_falls_back_without_a_compiler(tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch("shutil.which", return_value=None):
        pretrain(tiny, runs=tmp_path, overrides=["training.compile=true", "schedule.epochs=1"])
    assert "no C++ compiler" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(tiny: Path, tmp_path: Path) -> None:
    overrides = ["training.precision=float32", "model.encoder.drop_path=0"]
    one = losses(pretrain(tiny, runs=tmp_path / "cpu", device="cpu", overrides=overrides).folder)
    two = losses(pretrain(tiny, runs=tmp_path / "cuda", device="cuda", overrides=overrides).folder)
    assert [x for _, x in two] == pytest.approx([x for _, x in one], rel=1e-2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
