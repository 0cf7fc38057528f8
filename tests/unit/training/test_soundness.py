"""Losses and weights that are finite but have exploded: noticed, and the last sound checkpoint stays."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from maekit.runs.train import pretrain
from maekit.training import checkpoint
from maekit.training.checkpoint import Checkpoint
from maekit.training.loop import Trainer
from maekit.training.soundness import LossMonitor, has_exploded, root_mean_square


@pytest.mark.parametrize("level", [1.0, 1e-6, -2.0, 0.0])
def test_usual_losses_are_sound_and_explosions_are_not(level: float) -> None:
    rng = np.random.default_rng(0)
    monitor = LossMonitor()
    losses = level + 0.1 * max(abs(level), 0.1) * rng.standard_normal(500)
    assert all(monitor.is_sound(float(loss)) for loss in losses)
    for loss in (1e3, 1e28, 1e3):
        assert not monitor.is_sound(loss)
    assert monitor.is_sound(level)


def test_weights() -> None:
    weights = [torch.full((3, 4), 2.0), torch.zeros(12)]
    assert root_mean_square(weights) == pytest.approx(2**0.5)
    assert not has_exploded(weights, 1.0)
    assert has_exploded([torch.full((4,), 1e28)], 1.0)
    assert has_exploded([torch.tensor([float("nan")])], 1.0)


def test_rotation_keeps_the_newest_sound_checkpoint(tmp_path: Path) -> None:
    def save(step: int, *, sound: bool) -> None:
        content = Checkpoint(step, {"model": {"w": torch.ones(1)}, "optimizer": {}}, {})
        checkpoint.save(tmp_path, content, keep=2, sound=sound)

    for step in range(1, 4):
        save(step, sound=True)
    for step in range(4, 8):
        save(step, sound=False)
    assert checkpoint.steps(tmp_path) == [3, 6, 7]
    newest, messages = checkpoint.load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 3
    assert len(messages) == 2
    assert all("exploded" in message for message in messages)
    save(4, sound=True)  # after a resume at step 3
    assert checkpoint.steps(tmp_path) == [3, 4]


def test_a_run_resumes_before_the_explosion(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = ["schedule.epochs=4", "training.save_every_steps=1"]
    whole = pretrain(str(tiny), overrides=options, runs=tmp_path / "whole").folder
    take = Trainer.train_step

    def exploding(self: Trainer, *arguments: object, **options: object) -> object:
        result, *rest = take(self, *arguments, **options)  # type: ignore[arg-type]
        if self.step >= 14:
            result = result._replace(loss=1e20)
        if self.step == 17:
            raise RuntimeError("killed")
        return result, *rest

    monkeypatch.setattr(Trainer, "train_step", exploding)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(str(tiny), overrides=options, runs=tmp_path / "runs")
    folder = tmp_path / "runs" / "tiny" / "checkpoints"
    assert checkpoint.steps(folder) == [13, 16, 17]
    monkeypatch.setattr(Trainer, "train_step", take)
    with caplog.at_level(logging.WARNING):
        pretrain(str(tiny), overrides=options, runs=tmp_path / "runs")
    assert "exploded" in caplog.text
    assert "run again from step 13" in caplog.text
    last = checkpoint.load(folder / "step-000000020")
    expected = checkpoint.load(whole / "checkpoints" / "step-000000020")
    for name, weight in expected.tensors["model"].items():
        assert torch.equal(last.tensors["model"][name], weight), name
