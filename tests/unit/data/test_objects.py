"""Tables of objects and signals beside the signal, as they are read from HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data.check.check import check
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.inspect import inspect
from maekit.errors import UserError

SPEC = """\
name: scenes
files: "*.h5"
records: "/*"
signal:
  path: map
  axes: [frame, range, azimuth]
  unit: dB
  steps: {range: {step: 0.5, unit: m}, azimuth: {step: 0.25, start: -0.5, unit: deg, spacing: sine}}
auxiliary:
  picture: {path: picture, axes: [frame, height, width, channel], channels: [red, green, blue]}
  floor: {path: floor, axes: [height, width]}
group: {attribute: drive}
label: {path: objects, objects: [azimuth, range, class], classes: [person, car]}
window: {axis: frame, length: 1}
"""
COLUMNS = ["range", "class", "azimuth", "track"]
FRAMES = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "scenes.h5", "w") as file:
        for drive in range(3):
            record = file.create_group(f"drive{drive}")
            record.attrs["drive"] = f"drive{drive}"
            record["map"] = rng.standard_normal((FRAMES, 8, 5)).astype(np.float32)
            objects = np.full((FRAMES, 2 + drive, 4), np.nan, dtype=np.float32)
            objects[1, 1] = [3.5, 1, -20.0, 7]  # the first of the row is missing
            objects[2, :2] = [[1.0, 0, 0.0, 1], [2.0, 1, 5.0, 2]]
            if drive < 2:
                record["objects"] = objects
                record["objects"].attrs["columns"] = COLUMNS
                record["picture"] = rng.integers(0, 256, (FRAMES, 4, 6, 3), dtype=np.uint8)
            record["floor"] = np.full((4, 6), drive, dtype=np.float32)
    (tmp_path / "scenes.yaml").write_text(SPEC)
    return tmp_path


def opened(folder: Path, **options: object) -> HDF5Windows:
    return HDF5Windows(load_spec(folder / "scenes.yaml"), folder, **options)  # type: ignore[arg-type]


def test_objects_are_those_of_the_row_by_the_names_of_their_columns(folder: Path) -> None:
    source = opened(folder)
    assert source.objects == ("azimuth", "range", "class")
    assert source.labels is not None
    assert source.labels.shape == (2 * FRAMES, 2, 3)  # the third drive has no table
    np.testing.assert_array_equal(source.labels[1], [[-20, 3.5, 1], [np.nan] * 3])
    np.testing.assert_array_equal(source.labels[2], [[0, 1, 0], [5, 2, 1]])
    assert np.isnan(source.labels[0]).all()
    np.testing.assert_array_equal(np.asarray(source[6].label), source.labels[6])
    assert source.dropped == {"no label": FRAMES}
    assert len(opened(folder, with_labels=False)) == 3 * FRAMES


def test_a_window_of_several_rows_has_the_objects_of_its_last(folder: Path) -> None:
    text = SPEC.replace("length: 1}", "length: 2}")
    (folder / "scenes.yaml").write_text(text)
    source = opened(folder)
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels[0][0], [-20, 3.5, 1])


def test_axes_even_in_the_sine_have_their_points_in_degrees(folder: Path) -> None:
    azimuth = opened(folder).info.axes[1]
    np.testing.assert_allclose(azimuth.points(), np.degrees(np.arcsin([-0.5, -0.25, 0, 0.25, 0.5])))


def test_signals_beside_come_with_the_rows_that_have_them(folder: Path) -> None:
    source = opened(folder, with_labels=False, auxiliary=["picture", "floor"])
    assert source.auxiliary["picture"].shape == (3, 4, 6)
    sample, without = source[FRAMES + 2], source[2 * FRAMES + 1]
    assert set(sample.auxiliary) == {"picture", "floor"}
    assert set(without.auxiliary) == {"floor"}
    with h5py.File(folder / "scenes.h5") as file:
        np.testing.assert_array_equal(sample.auxiliary["picture"].signal, file["drive1/picture"][2].transpose(2, 0, 1))
    assert (without.auxiliary["floor"].signal == 2).all()
    assert source.fingerprint() != opened(folder, with_labels=False).fingerprint()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r["objects"].attrs.__delitem__("columns"), "no table of objects"),
        (lambda r: r["objects"].attrs.__setitem__("columns", ["range", "class", "azimut", "track"]), "azimuth"),
        (lambda r: r["objects"].__setitem__((1, 1, 1), 2.0), "an unknown class"),
        (lambda r: r["objects"].__setitem__((1, 1, 0), np.nan), "lacks a number"),
    ],
)
def test_tables_that_are_none_are_refused(folder: Path, change: object, told: str) -> None:
    with h5py.File(folder / "scenes.h5", "a") as file:
        change(file["drive0"])  # type: ignore[operator]
    with pytest.raises(UserError, match=told):
        opened(folder)


def test_signals_beside_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"picture, floor"):
        opened(folder, auxiliary=["pictur"])
    with h5py.File(folder / "scenes.h5", "a") as file:
        del file["drive1/picture"]
        file["drive1/picture"] = np.zeros((FRAMES - 1, 4, 6, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="other rows"):
        opened(folder, auxiliary=["picture"])


def test_checking_counts_objects_and_names_who_lacks_a_signal(folder: Path) -> None:
    with h5py.File(folder / "scenes.h5", "a") as file:
        file["drive0/objects"][2, 0, 0] = 9.0  # beyond the last of 8 bins of 0.5 m
    spec = load_spec(folder / "scenes.yaml")
    text = "\n".join(check(spec, folder, {}))
    assert "objects: 6, 0 to 2 in a sample, 0.75 on average; 4 samples without" in text
    assert "person 2 (0.25 a sample), car 4 (0.50 a sample)" in text
    assert "range 1 to 9, median 2.75 m; the axis goes from 0 to 3.5; OUTSIDE of it: 1" in text
    assert "azimuth -20 to 5, median 0 deg; the axis goes from -30 to 30\n" in text
    assert (
        "auxiliary signals: picture (3, 4, 6) of channel, height, width, in 2 of 3 recordings; not in /drive2" in text
    )
    assert "auxiliary signals: floor (1, 4, 6) of channel, height, width, in all 3 recordings" in text
    with h5py.File(folder / "scenes.h5", "a") as file:
        del file["drive1/floor"]
        file["drive1/floor"] = np.zeros((4, 7), dtype=np.float32)
    with pytest.raises(UserError, match="different length along 'width'"):
        list(check(spec, folder, {}))


def test_looking_into_a_table_tells_its_columns(folder: Path) -> None:
    text = "\n".join(inspect(folder / "scenes.h5"))
    assert "objects  (4, 3, 4) float32\n      3 objects, 0 to 2 in a row, mean 0.75; 2 rows without\n" in text
    assert "        range  1 to 3.5\n        class  0: 1, 1: 2\n        azimuth  -20 to 5\n" in text


def test_objects_do_not_go_with_other_ways_to_a_label(folder: Path) -> None:
    for change in (
        ("classes: [person, car]", "unit: m"),
        ("objects: [azimuth, range, class]", "objects: [azimuth, range]"),
    ):
        (folder / "scenes.yaml").write_text(SPEC.replace(*change))
        with pytest.raises(UserError, match="objects"):
            opened(folder)
