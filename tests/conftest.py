"""Shared fixtures: real recordings where they stand beside the checkout, and a tiny recipe that trains in a second."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from maekit.adapters.heart.beats import r_peaks
from maekit.adapters.simulate.vital_signs import simulate_vital_signs
from maekit.runs.train import finetune

torch.set_num_threads(1)

TINY = """\
name: tiny
adapter: {name: heart_rate, patch_s: 1.0, rate_hz: 10, difference: true}
data:
  spec: simulated_vital_signs
  root: ROOT
  window: {axis: time, seconds: 10, hop_seconds: 5}
  split: {validation: [p000], test: [p001]}
model:
  encoder: {width: 16, depth: 2, heads: 2, drop_path: 0.1}
  decoder: {width: 8, depth: 1, heads: 2}
  mask_ratio: 0.5
schedule: {epochs: 2, warmup_epochs: 1}
training: {batch_size: 4, log_every_steps: 1, save_every_steps: 3, precision: float32}
"""


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def radar_person(real_data: Path) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Displacement (50 Hz, mm) and beat times (s) of one person of `radar_phase_ecg`, from the published CSV."""

    def read(person: str) -> tuple[np.ndarray, np.ndarray]:
        folder = real_data / "radar_phase_ecg" / person
        with gzip.open(folder / "radar.csv.gz", "rt") as file:
            columns = file.readline().strip().split(",")
            chosen = (columns.index("Timestamp"), columns.index("unwrapPhasePeak_mm"))
            radar = np.genfromtxt(file, delimiter=",", usecols=chosen)
        with gzip.open(folder / "attys.csv.gz", "rt") as file:
            ecg = np.genfromtxt(file, delimiter=",", skip_header=1)
        # Stamps are quantised, frames are not: the line through them says when the first one was.
        start = np.median(radar[:, 0] - np.arange(len(radar)) / 50.0)
        return radar[:, 1], r_peaks(ecg[:, 1], 125.0) + ecg[0, 0] - start

    return read


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated vital signs: six people, half a minute each."""
    folder = tmp_path_factory.mktemp("cohort")
    simulate_vital_signs(folder, people=6, seconds=30, seed=1)
    return folder


@pytest.fixture
def tiny(tmp_path: Path, cohort: Path) -> Path:
    """A recipe file over the cohort: 20 training windows, five steps an epoch."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(cohort)))
    return path


@pytest.fixture(scope="session")
def heart_run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression}\n")
    return finetune(recipe, "random", runs=folder).folder


@pytest.fixture(scope="session")
def sure_run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says how sure it is, and something else of every window."""
    folder = tmp_path_factory.mktemp("sure")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression, bins: 30}\n")
    return finetune(recipe, "random", runs=folder, overrides=["optimizer.base_lr=0.05", "schedule.epochs=6"]).folder
