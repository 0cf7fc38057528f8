"""Fronts are made anew for each model: what happens to a task never reaches the adapter, a probe or another task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import DETECTION, write

from maekit.build.experiment import build_experiment
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.core.joint import PRIMARY
from maekit.data.loading import collate
from maekit.data.sampler import Key
from maekit.runs.probe import raw
from maekit.tasks.detection import Detection


@pytest.mark.parametrize("change", ["double", "meta"])
def test_a_task_that_moves_leaves_adapter_and_probe_where_they_are(tiny: Path, change: str) -> None:
    experiment = build_experiment(load_recipe(tiny))
    before, _ = raw(experiment, "test")
    task = make_task(experiment)
    if change == "double":
        task.double()
    else:
        task.to("meta")
    after, _ = raw(experiment, "test")
    assert after.dtype == np.float32
    assert np.array_equal(before, after)
    assert all(buffer.device.type == "cpu" for buffer in make_task(experiment).front.buffers())


def test_the_normalisation_of_a_task_is_that_of_the_experiment_and_stays_its_own(tiny: Path) -> None:
    experiment = build_experiment(load_recipe(tiny))
    first, second = make_task(experiment), make_task(experiment)
    statistics = experiment.statistics[PRIMARY]
    assert torch.equal(first.front.std, torch.tensor(statistics.std))  # type: ignore[arg-type]
    first.front.std.fill_(7)  # type: ignore[operator, union-attr]
    assert torch.equal(second.front.std, torch.tensor(statistics.std))  # type: ignore[arg-type]
    assert experiment.statistics[PRIMARY] == statistics


def test_detection_runs_the_front_once_a_step(tmp_path: Path) -> None:
    experiment = build_experiment(load_recipe(write(tmp_path), [DETECTION, "task.skip_channels=4"]))
    task = make_task(experiment)
    assert isinstance(task, Detection)
    assert task.skip_channels is not None
    calls: list[int] = []
    task.front.register_forward_hook(lambda *_: calls.append(1))
    samples = experiment.some_samples("train")
    task(collate([samples[Key(0, i)] for i in range(2)]))
    assert len(calls) == 1
