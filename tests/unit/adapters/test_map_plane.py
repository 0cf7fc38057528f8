"""Where the cells of maps lie, and what of a data spec or a table of objects cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from blobs import AZIMUTHS, DETECTION, RANGES, write

from maekit.adapters.radar.plane import map_plane
from maekit.build.experiment import build_experiment
from maekit.build.parts import label_kind_of
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.data.sample import Axis
from maekit.errors import UserError
from maekit.runs.train import finetune

RANGE = Axis("range", 8, "m", 0.5, 1.0)


@pytest.mark.parametrize(("unit", "step"), [("deg", 10.0), ("rad", np.deg2rad(10))])
def test_an_angle_is_one_in_either_unit(unit: str, step: float) -> None:
    plane = map_plane([RANGE, Axis("azimuth", 7, unit, step, -3 * step)])
    assert plane is not None
    where = plane.at(torch.tensor([4.0, 6.0]))
    torch.testing.assert_close(
        plane.location(where), torch.tensor([3 * np.sin(np.deg2rad(30)), 3 * np.cos(np.deg2rad(30))]).float()
    )


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        (Axis("azimuth", 7, "degrees", 10.0, -30.0), "azimuth is in 'degrees', expected deg or rad"),
        (Axis("azimuth", 7, "", 10.0, -30.0), "expected deg or rad"),
        (Axis("azimuth", 7, "rad", 10.0, -30.0), "more than a turn"),
        (Axis("azimuth", 7, "deg", -10.0, 30.0), "azimuth fall from 30 to -30"),
        (Axis("doppler", 7, "m/s", -1.0, 3.0), "doppler fall from 3 to -3"),
    ],
)
def test_axes_that_would_be_read_wrongly_are_refused(axis: Axis, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        map_plane([RANGE, axis])
    assert map_plane([RANGE, Axis("azimuth", 7)]) is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("unit: deg", "unit: degrees", "azimuth is in 'degrees'"),
        ("step: 1, start: 1,", "step: -1, start: 32,", "range fall from 32 to 1"),
        ("start: 1, unit: m", "start: 101, unit: m", "no object of the training split lies on the map"),
    ],
)
def test_a_spec_that_cannot_be_is_told_of_before_training(tmp_path: Path, old: str, new: str, told: str) -> None:
    recipe = write(tmp_path, frames=8)
    spec = tmp_path / "blobs.yaml"
    spec.write_text(spec.read_text().replace(old, new))
    with pytest.raises(UserError, match=told):
        finetune(recipe, "random", overrides=[DETECTION], runs=tmp_path)
    if "no object" not in told:  # objects are moved with the map by its coordinates
        with pytest.raises(UserError, match=told):
            finetune(recipe, "random", overrides=[DETECTION, "augment=[{name: shift, bins: [2, 2]}]"], runs=tmp_path)
    assert not list(tmp_path.glob("blobs/checkpoints/*"))


def emptied(table: np.ndarray) -> np.ndarray:
    return np.full_like(table, np.nan)


def no_capacity(table: np.ndarray) -> np.ndarray:
    return table[:, :0]


@pytest.mark.parametrize("change", [emptied, no_capacity])
def test_nothing_in_any_training_sample_is_learned_and_said_as_nothing(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    recipe = write(tmp_path, frames=8)
    with h5py.File(tmp_path / "blobs.h5", "a") as file:
        for record in file.values():
            table, columns = record["objects"][:], record["objects"].attrs["columns"]
            del record["objects"]
            record.create_dataset("objects", data=change(table)).attrs["columns"] = columns
    experiment = build_experiment(load_recipe(recipe, [DETECTION]))
    assert label_kind_of(experiment).constant(experiment)[1][0].shape == (0, 4)
    batch = {
        "signal": torch.zeros(2, 1, RANGES, AZIMUTHS),
        "index": torch.arange(2),
        "label": torch.from_numpy(np.asarray(experiment.labels[:2])),
    }
    task = make_task(experiment)
    assert torch.isfinite(task(batch).loss)
    assert (
        task.compute_metrics(
            {
                "loss": torch.zeros(2),
                "detections": torch.full((2, 3, 4), torch.nan),
                "objects": torch.full((2, 1, 3), torch.nan),
            }
        )["ap"]
        == 0
    )


def test_a_box_without_extent_is_refused(tmp_path: Path) -> None:
    recipe = write(tmp_path, frames=8)
    with h5py.File(tmp_path / "blobs.h5", "a") as file:
        table = file["drive0/objects"][:]
        table[np.isfinite(table).all(-1), 3] *= -1
        file["drive0/objects"][:] = table
    with pytest.raises(UserError, match=r"a box without extent.*range_extent"):
        build_experiment(load_recipe(recipe, [DETECTION]))


@pytest.mark.parametrize("wrong", ["nms_threshold: -3", "nms_threshold: 2", "box_weight: -3"])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: str) -> None:
    options: Any = DETECTION.replace("}", f", {wrong}}}")
    with pytest.raises(UserError, match="nms_threshold"):
        make_task(build_experiment(load_recipe(write(tmp_path, frames=8), [options])))
