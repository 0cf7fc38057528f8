"""A task with labels from an installed package does all that a built-in one does, from the command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

MODULE = '''\
"""Ordinal regression: cumulative logits over ordered classes (McCullagh, Regression Models for Ordinal Data, 1980)."""

import numpy as np
import torch

from maekit.tasks.label_kinds.classes import ClassLabels
from maekit.tasks.transfer import SampleTask


class OrderedClasses(ClassLabels):
    """Classes with an order: an error counts by how many steps it is off."""

    name = "ordered classes"
    metric_names = ("steps_off", *ClassLabels.metric_names)
    lower_is_better = frozenset({"steps_off"})
    main_metrics = ("steps_off", "accuracy")
    short_metrics = metric_names

    @property
    def metric_titles(self):
        return {"steps_off": "Mean distance in classes", "accuracy": "Accuracy"}

    def sums(self, outputs, labels, *, centre):
        steps = np.bincount(labels.astype(int), np.abs(outputs - labels), len(self.classes))
        return np.vstack([super().sums(outputs, labels, centre=centre), steps])

    def from_sums(self, sums):
        count, steps = sums[..., 0, :].sum(-1), sums[..., 2, :].sum(-1)
        return {"steps_off": steps / count, **super().from_sums(sums[..., :2, :])}


class Ordinal(SampleTask):
    """One score a sample, and rising cuts between the classes."""

    label_kind = OrderedClasses

    def __init__(self, front, encoder, *, classes, width: float = 2.0, **options):
        super().__init__(front, encoder, 1, **options)
        self.labels = OrderedClasses(classes)
        self.first = torch.nn.Parameter(torch.tensor(-width / 2))
        self.gaps = torch.nn.Parameter(torch.zeros(len(classes) - 2))

    def predictions(self, output):
        cuts = torch.cat([self.first[None], self.first + self.gaps.exp().cumsum(0)])
        below = (cuts - output).sigmoid()
        edge = below[:, :1]
        probability = torch.cat([below, torch.ones_like(edge)], 1) - torch.cat([torch.zeros_like(edge), below], 1)
        return {"output": probability.clamp(min=1e-9).log()}

    def losses(self, output, label):
        return -self.predictions(output)["output"].gather(1, label[:, None].long())[:, 0]
'''
SPEC = """\
name: levels
files: "*.h5"
signal: {path: x, axes: [time], rate_hz: 20}
group: {file: .+}
label: {path: level, classes: [low, medium, high]}
window: {axis: time, length: 100}
split: {validation: [b], test: [c, d]}
"""
PRETRAIN = """\
name: pretrain
adapter: {name: heart_rate, patch_s: 0.5}
data: {spec: spec.yaml, root: ROOT}
model: {encoder: {width: 16, depth: 1, heads: 2}, decoder: {width: 8, depth: 1, heads: 2}}
schedule: {epochs: 1}
training: {batch_size: 8}
"""
FINETUNE = """\
extends: pretrain.yaml
name: levels
init: {recipe: pretrain.yaml}
task: {name: ordinal}
optimizer: {base_lr: 0.3}
schedule: {epochs: 12, warmup_epochs: 1}
reference: {metrics: {steps_off: 0.0}, tolerance: {steps_off: 2.0}, source: nobody}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip lays it out, four recordings whose noise has three levels, and recipes."""
    folder = tmp_path_factory.mktemp("ordinal")
    (folder / "site/ordinal-1.0.dist-info").mkdir(parents=True)
    (folder / "site/ordinal_task.py").write_text(MODULE)
    (folder / "site/ordinal-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: ordinal\nVersion: 1.0\n")
    entry = "[maekit.tasks]\nordinal = ordinal_task:Ordinal\n"
    (folder / "site/ordinal-1.0.dist-info/entry_points.txt").write_text(entry)
    rng = np.random.default_rng(0)
    for name in "abcd":
        level = np.repeat(rng.permutation(np.arange(12) % 3), 100)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["x"] = (4.0**level * rng.standard_normal(1200)).astype(np.float32)
            file["level"] = np.array(["low", "medium", "high"], dtype="S")[level]
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "pretrain.yaml").write_text(PRETRAIN.replace("ROOT", str(folder)))
    (folder / "levels.yaml").write_text(FINETUNE)
    return folder


def maekit(folder: Path, *arguments: str) -> str:
    """Standard output of a command, with the package on the path."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(folder / "site"), str(root)])
    command = [sys.executable, "-m", "maekit", *arguments]
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_author_writes_one_short_file() -> None:
    assert len(MODULE.splitlines()) < 60


def test_it_trains_and_is_evaluated_reported_and_compared(folder: Path) -> None:
    assert "right" in maekit(folder, "recipe", "check", "levels.yaml")
    assert "parameters" in maekit(folder, "finetune", "levels.yaml", "--from", "random", "--dry-run")
    assert not (folder / "runs").exists()
    maekit(folder, "finetune", "levels.yaml", "--from", "random")
    run = "runs/levels"
    metrics = json.loads(maekit(folder, "evaluate", run))
    assert {"loss", "steps_off", "accuracy", "balanced_accuracy"} <= set(metrics)
    assert metrics["steps_off"] < 0.6, "guessing is off by 0.67 or more"
    page = (folder / run / "report.html").read_text()
    assert "steps_off" in page
    assert "constant (most frequent class)" in page
    assert "report:" in maekit(folder, "report", run)
    assert "steps_off" in maekit(folder, "compare", run)


def test_it_is_probed_and_studied(folder: Path) -> None:
    table = maekit(folder, "probe", "levels.yaml", "--from", "random")
    assert "steps_off" in table
    assert "nearest neighbours" in table
    arguments = ("study", "levels.yaml", "--seeds", "1", "--set", "schedule.epochs=2", "--runs", "studies")
    table = maekit(folder, *arguments)
    assert "steps_off" in table
    study = json.loads((folder / "studies/levels/study.json").read_text())
    assert study["metrics"][0] == "steps_off"
    assert study["lower_is_better"] == ["steps_off"]
    names = {method["name"] for method in study["points"][0]["methods"]}
    assert {"pretrained, fine-tuned", "pretrained, linear probe", "constant (most frequent class)"} <= names


def test_it_predicts_along_a_recording(folder: Path) -> None:
    maekit(folder, "finetune", "levels.yaml", "--from", "random", "--set", "name=along")
    assert "windows have an estimate" in maekit(
        folder, "predict", "runs/along", "d.h5", "--to", "out.csv", "--hop", "5", "--no-gate"
    )
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["class"] for row in rows} <= {"low", "medium", "high"}
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in rows)
    assert (folder / "out.svg").exists()
