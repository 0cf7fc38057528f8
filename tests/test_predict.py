"""`maekit predict`: estimates along a recording, in constant memory, equal to evaluation, honest where there is nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit import verbs
from maekit.data.hdf5 import HDF5Windows
from maekit.data.hdf5_recording import RecordingReader
from maekit.data.hdf5_safety import open_hdf5
from maekit.data.spec import DataSpec, Window
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.prediction import predict


@pytest.fixture(scope="module")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression run of two epochs."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression}\n")
    return verbs.finetune(recipe, "random", runs=folder).folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_equals_evaluation(run: Path, cohort: Path, tmp_path: Path) -> None:
    """The same windows, one stream and one by one, with labels and without, give the same numbers."""
    found = predict(run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_001", hop_s=5, gate=False)
    _, wanted = verbs.predictions(run, side="test")
    rows = read(found.place)
    assert found.windows == len(rows) == len(wanted["output"]) == 5
    np.testing.assert_allclose([float(row["bpm"]) for row in rows], wanted["output"], rtol=1e-5)
    assert [float(row["start_s"]) for row in rows] == [0, 5, 10, 15, 20]
    assert [float(row["time_s"]) for row in rows] == [5, 10, 15, 20, 25]
