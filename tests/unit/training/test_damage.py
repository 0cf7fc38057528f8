"""Damaged checkpoints and metrics, divergence, devices that are not there, and file systems that refuse to be written."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import torch

from maekit import files
from maekit.build.weights import read_weights
from maekit.errors import UserError
from maekit.metrics.collapse import effective_rank
from maekit.runs.evaluate import evaluate
from maekit.runs.train import finetune, pretrain
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.task import TaskOutput
from maekit.training import checkpoint
from maekit.training.distributed import init_distributed
from maekit.training.loop import TrainProgress
from maekit.training.run import Run
from maekit.training.stopping import InterruptedRunError, NotFiniteError

ROW = {"kind": "train", "step": 1, "epoch": 0.5, "loss": 1.0}


def save_checkpoint(folder: Path, step: int, keep: int | None = 2) -> Path:
    tensors = {"model": {"w": torch.full((3,), float(step))}, "optimizer": {"m": torch.zeros(2)}}
    return checkpoint.save(folder, checkpoint.Checkpoint(step, tensors, {"bad_steps": 0}), keep=keep)


def rewrite_state(location: Path, **changes: object) -> None:
    """Change the state of a checkpoint, with a manifest that agrees."""
    state = location / checkpoint.STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | changes))
    manifest = location / checkpoint.MANIFEST
    sums = json.loads(manifest.read_text())["sha256"] | {state.name: checkpoint._sha256(state)}
    manifest.write_text(json.dumps({"sha256": sums}))


def test_older_weights_are_used_only_with_a_warning(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = pretrain(tiny, runs=tmp_path).folder
    newest = run / "checkpoints" / "step-000000010" / "model.safetensors"
    evaluate(run)
    assert not caplog.text
    newest.write_bytes(newest.read_bytes()[:-1])
    uses: list[Callable[[], object]] = [
        lambda: read_weights(run),
        lambda: evaluate(run),
        lambda: finetune(tiny, run, runs=tmp_path, overrides=["task=regression", "name=tuned", "schedule.epochs=1"]),
    ]
    for use in uses:
        caplog.clear()
        use()
        assert f"{newest} has changed since it was written" in caplog.text
        assert "the older weights of step 9 are used" in caplog.text


def _no_entries(location: Path) -> None:
    (location / checkpoint.MANIFEST).write_text('{"sha256": {}}')


def _no_state(location: Path) -> None:
    (location / checkpoint.STATE).unlink()


def _a_list(location: Path) -> None:
    (location / checkpoint.MANIFEST).write_text("[]")


def _a_file(location: Path) -> None:
    shutil.rmtree(location)
    location.write_text("")


@pytest.mark.parametrize("damage", [_no_entries, _no_state, _a_list, _a_file])
def test_incomplete_checkpoints_are_damaged_ones(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    save_checkpoint(tmp_path, 1)
    damage(save_checkpoint(tmp_path, 2))
    newest, damaged = checkpoint.load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert len(damaged) == 1
    assert "step-000000002" in damaged[0]
    save_checkpoint(tmp_path, 2)
    save_checkpoint(tmp_path, 3)
    assert checkpoint.steps(tmp_path) == [2, 3]


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1)
    rewrite_state(save_checkpoint(tmp_path, 2), version=checkpoint.VERSION + 1)
    with pytest.raises(UserError, match=r"another version of maekit.*got 2"):
        checkpoint.load_newest(tmp_path)


def test_a_checkpoint_whose_manifest_lists_no_optimizer_is_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1)
    newest = save_checkpoint(tmp_path, 2)
    rewrite_state(newest, optimizer={"m": None})
    manifest = newest / checkpoint.MANIFEST
    sums = json.loads(manifest.read_text())["sha256"]
    del sums["optimizer.safetensors"]
    manifest.write_text(json.dumps({"sha256": sums}))
    found, messages = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert (found.step, len(messages)) == (1, 1)


def test_a_folder_in_place_of_the_lock_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="\\.lock"), Run(tmp_path).owned():
        pass


@pytest.mark.parametrize("line", [b"\0", b"{}", b"\xff\xfe", b"[1]", b"7", b'{"kind": "train"', b"[" * 10_000])
def test_a_damaged_line_of_metrics_is_left_out_alone(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path)
    rows = [ROW | {"step": step} for step in (1, 2, 3)]
    for row in rows:
        run.log(row)
    lines = run.metrics.read_bytes().split(b"\n")
    run.metrics.write_bytes(b"\n".join([lines[0], line, *lines[1:]]))
    assert run.rows() == rows
    assert f"{run.metrics}:2" in caplog.text
    run.rewind(2)
    caplog.clear()
    assert run.rows() == rows[:2]
    assert not caplog.text


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(tmp_path)
    run.log(ROW)
    with run.metrics.open("a") as file:
        file.write('{"kind": "tr')
    assert run.rows() == [ROW]
    assert not caplog.text


def test_divergence_ends_with_exit_code_3(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as stopped:
        pretrain(tiny, runs=tmp_path, overrides=["optimizer.base_lr=1e12", "schedule.epochs=10"])
    assert stopped.value.exit_code == 3
    assert (tmp_path / "tiny/not_finite/batch.safetensors").is_file()


def test_rank_of_embeddings_that_are_not_finite_is_nan() -> None:
    assert effective_rank(torch.full((4, 3), torch.nan)).isnan()
    assert effective_rank(torch.tensor([[3e38, 0.0], [3e38, 1.0], [-3e38, 1.0]])).isnan()


def test_skipped_steps_remove_no_checkpoint(tiny: Path, tmp_path: Path) -> None:
    """From the seventh step on the loss is infinite; the run is also interrupted among those steps, and goes on."""
    original = Pretraining.forward
    steps_done = 0

    def forward(self: Pretraining, batch: dict[str, torch.Tensor]) -> TaskOutput:
        output = original(self, batch)
        return output._replace(loss=output.loss * (torch.inf if steps_done >= 6 else 1))

    def follow(progress: TrainProgress) -> None:
        nonlocal steps_done
        steps_done = progress.step
        if interrupted_at == progress.step:
            signal.raise_signal(signal.SIGTERM)

    every_step = ["training.save_every_steps=1", "schedule.epochs=4", "training.max_bad_steps=5"]
    with mock.patch.object(Pretraining, "forward", forward):
        interrupted_at = 9
        with pytest.raises(InterruptedRunError):
            pretrain(tiny, runs=tmp_path, overrides=every_step, watch=follow)
        assert checkpoint.steps(tmp_path / "tiny/checkpoints") == [5, 6, 9]
        interrupted_at = 0
        with pytest.raises(NotFiniteError):
            pretrain(tiny, runs=tmp_path, overrides=every_step, watch=follow)
    assert checkpoint.steps(tmp_path / "tiny/checkpoints") == [5, 6, 9]


def test_data_that_change_while_a_run_trains_are_named_at_its_end(tiny: Path, tmp_path: Path, cohort: Path) -> None:
    shutil.copytree(cohort, own := tmp_path / "own")

    def record_again(progress: TrainProgress) -> None:
        with (own / "vital_signs.h5").open("r+b") as file:
            file.seek(progress.step)
            file.write(b"1")

    with pytest.raises(UserError, match=rf"{own}: the data changed while the run trained.*--set name"):
        pretrain(tiny, runs=tmp_path, overrides=[f"data.root={own}"], watch=record_again)


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:77", "cuda:-1", "meta", "", "CPU", "cuda" if not torch.cuda.is_available() else "gpus"]
)
def test_a_device_that_is_not_there_is_an_error_before_anything_is_written(
    tiny: Path, tmp_path: Path, device: str
) -> None:
    with pytest.raises(UserError, match=r"--device: no such device.*expected cpu"):
        pretrain(tiny, runs=tmp_path / "runs", device=device)
    assert not (tmp_path / "runs").exists()
    with init_distributed("cpu") as process:
        assert process.device == torch.device("cpu")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EPERM, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_leaves_the_older_ones(tmp_path: Path, code: int) -> None:
    save_checkpoint(tmp_path, 1)
    with (
        mock.patch("maekit.training.checkpoint._sync", side_effect=OSError(code, "the reason")),
        pytest.raises(UserError, match="the reason") as refused,
    ):
        save_checkpoint(tmp_path, 2)
    assert str(tmp_path) in str(refused.value)
    if code == errno.ENOSPC:
        assert "expected 20 bytes to be free" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_run_folder_that_was_removed_is_an_error(tiny: Path, tmp_path: Path) -> None:
    def remove(progress: TrainProgress) -> None:
        if progress.step == 2:
            shutil.rmtree(tmp_path / "tiny")

    with pytest.raises(UserError, match=r"tiny.*No such file or directory.*removed or moved"):
        pretrain(tiny, runs=tmp_path, watch=remove)
    assert not (tmp_path / "tiny").exists()


def test_the_error_of_a_full_disk_names_file_and_sizes(tmp_path: Path) -> None:
    error = files.describe(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "none" / "x.bin", 12345)
    assert "x.bin" in str(error)
    assert "12,345 bytes" in str(error)
    assert "bytes are free" in str(error)


def test_nothing_to_predict_is_refused(tiny: Path, tmp_path: Path, cohort: Path) -> None:
    """A fifth of each two seconds is missing: half of the patches of one second are whole, and none of two seconds."""
    folder = tmp_path / "data"
    shutil.copytree(cohort, folder)
    with h5py.File(folder / "vital_signs.h5", "r+") as file:
        for record in file.values():
            values = record["displacement"][...]
            second = np.arange(len(values)) / record["displacement"].attrs["rate_hz"]
            values[(second % 2 > 0.3) & (second % 2 < 0.7)] = np.nan
            record["displacement"][...] = values
    overrides = [f"data.root={folder}", "schedule.epochs=1"]
    with pytest.raises(UserError, match=r"nothing to predict.*measured and removed"):
        pretrain(tiny, runs=tmp_path, overrides=[*overrides, "adapter.patch_s=2.0"])
    assert not (tmp_path / "tiny" / "recipe.yaml").exists()
    pretrain(tiny, runs=tmp_path, overrides=overrides)


def test_a_process_killed_while_it_removes_an_old_checkpoint_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(path: Path) -> None:
        if path.is_dir():
            next(path.iterdir()).unlink()
            raise KilledError

    (tmp_path / "runs/tiny").mkdir(parents=True)
    save_checkpoint(tmp_path / "runs/tiny/checkpoints", 1)
    save_checkpoint(tmp_path / "runs/tiny/checkpoints", 2)
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", killed)
        with pytest.raises(KilledError):
            save_checkpoint(tmp_path / "runs/tiny/checkpoints", 3)
    assert checkpoint.steps(tmp_path / "runs/tiny/checkpoints") == [2, 3]
    checkpoint.remove_leftovers(tmp_path / "runs/tiny/checkpoints")
    assert len(list((tmp_path / "runs/tiny/checkpoints").iterdir())) == 2
