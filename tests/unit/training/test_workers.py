"""The number of data workers, taken by measurement: as many as hide reading, and no sample depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maekit.data import loading
from maekit.runs.train import pretrain
from maekit.training import loop, workers
from maekit.training.distributed import Process


def test_workers_that_are_taken_by_measurement_change_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = pretrain(tiny, runs=tmp_path / "none")
    made: list[int] = []

    def noted(*args: Any, workers: int, **options: Any) -> loading.Batches:
        made.append(workers)
        return loading.loader(*args, workers=workers, **options)

    monkeypatch.setattr(loop, "loader", noted)
    monkeypatch.setattr(workers, "MEASURED_STEPS", 2)
    monkeypatch.setattr(workers, "workers_that_hide", lambda *_seconds: 1)
    auto = pretrain(tiny, runs=tmp_path / "auto", overrides=["training.workers=auto"])
    assert auto.metrics == none.metrics
    assert made == [0, 1], "none at first, then one from the third step, in the middle of an epoch"


def test_as_many_workers_as_hide_reading_and_as_cores_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers.workers_that_hide(0.001, 0.1, 8) == 0
    assert workers.workers_that_hide(0.05, 0.1, 8) == 1
    assert workers.workers_that_hide(0.3, 0.1, 8) == 4
    assert workers.workers_that_hide(0.3, 0.1, 2) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert workers.free_cores(Process(0, 2, torch.device("cpu"))) == 2
    assert workers.free_cores(Process(0, 2, torch.device("cuda"))) == 7
