"""Arrays in another order of axes, and frames whose tables of objects may be empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import savemat

from maekit.adapters.radar.public_sets import TRANSFORMATIONS
from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.convert.convert import convert
from maekit.errors import UserError

CUBE = {
    "name": "cubes",
    "files": "*.h5",
    "records": "/*",
    "signal": {"path": "adc", "axes": ["frame", "receiver", "chirp", "sample"], "complex": "keep"},
    "group": {"record": ".+"},
    "window": {"axis": "frame", "length": 1},
    "convert": {
        "record": "(?P<record>[^/]+)/(?:adc|objects)/(?P<frame>[0-9]+)[.](npy|mat|csv)$",
        "streams": {"adc": {"files": "*/adc/*", "rearrange": "sample chirp receiver tx -> (tx receiver) chirp sample"}},
    },
}


def spec_of(folder: Path, content: dict[str, Any]) -> DataSpec:
    (folder / "spec.yaml").write_text(yaml.safe_dump(content))
    return load_spec(folder / "spec.yaml")


def cubes(folder: Path, count: int = 3) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    x: np.ndarray[Any, Any] = (
        rng.standard_normal((count, 8, 4, 2, 3)) + 1j * rng.standard_normal((count, 8, 4, 2, 3))
    ).astype(np.complex64)
    (folder / "in/drive/adc").mkdir(parents=True)
    for number, frame in enumerate(x):
        if number % 2:
            savemat(folder / f"in/drive/adc/{number:03d}.mat", {"adcData": frame})
        else:
            np.save(folder / f"in/drive/adc/{number:03d}.npy", frame)
    return x


def test_frames_are_put_in_the_order_of_the_spec(tmp_path: Path) -> None:
    x = cubes(tmp_path)
    with h5py.File(convert(spec_of(tmp_path, CUBE), tmp_path / "in", tmp_path / "out")) as file:
        stored = file["drive/adc"][()]
    assert stored.shape == (3, 6, 4, 8)
    for tx in range(3):
        for receiver in range(2):
            assert np.array_equal(stored[:, 2 * tx + receiver], x[:, :, :, receiver, tx].swapaxes(1, 2))


@pytest.mark.parametrize(
    "pattern", ["a b -> a", "a b", "a a -> a a", "a b -> (b a", "a b -> b ((a))", "a 2 -> 2 a", "a b -> a c"]
)
def test_patterns_that_lose_or_make_up_axes_are_refused(tmp_path: Path, pattern: str) -> None:
    content = yaml.safe_load(yaml.safe_dump(CUBE))
    content["convert"]["streams"]["adc"]["rearrange"] = pattern
    with pytest.raises(UserError, match=r"rearrange.*(names of axes|parentheses)"):
        spec_of(tmp_path, content)


def test_a_pattern_for_another_number_of_axes_names_both(tmp_path: Path) -> None:
    cubes(tmp_path)
    content = yaml.safe_load(yaml.safe_dump(CUBE))
    content["convert"]["streams"]["adc"]["rearrange"] = "chirp sample -> sample chirp"
    with pytest.raises(
        UserError, match=r"other axes than those of `rearrange`; got \(8, 4, 2, 3\); expected axes for 'chirp sample'"
    ):
        convert(spec_of(tmp_path, content), tmp_path / "in", tmp_path / "out")


def with_objects(folder: Path, tables: list[str], stream: dict[str, Any]) -> DataSpec:
    cubes(folder, len(tables))
    (folder / "in/drive/objects").mkdir()
    for number, table in enumerate(tables):
        (folder / f"in/drive/objects/{number}.csv").write_text(table)
    content = yaml.safe_load(yaml.safe_dump(CUBE))
    content["convert"]["streams"]["objects"] = {"files": "*/objects/*", "header": False, **stream}
    content["label"] = {"path": "objects", "objects": ["range", "azimuth", "class"], "classes": ["car", "person"]}
    return spec_of(folder, content)


def test_a_frame_without_objects_has_none(tmp_path: Path) -> None:
    tables = ["1,5.0,-10,0\n2,6.0,20,1\n", "", "  \n", "3,7.5,0,1\n"]
    spec = with_objects(tmp_path, tables, {"columns": [1, 2, 3]})
    with h5py.File(convert(spec, tmp_path / "in", tmp_path / "out")) as file:
        stored = file["drive/objects"]
        assert list(stored.attrs["columns"]) == ["range", "azimuth", "class"]
        assert np.isfinite(stored[()]).all(axis=-1).sum(axis=1).tolist() == [2, 0, 0, 1]
        assert np.array_equal(stored[0], np.array([[5, -10, 0], [6, 20, 1]], dtype=np.float32))


def test_too_few_columns_of_objects_are_named(tmp_path: Path) -> None:
    spec = with_objects(tmp_path, ["1,5.0,-10,0\n", ""], {"columns": [1, 2]})
    with pytest.raises(UserError, match=r"not one column for each of `label.objects`.*range, azimuth, class"):
        convert(spec, tmp_path / "in", tmp_path / "out")


def test_objects_on_the_ground_become_range_and_azimuth(tmp_path: Path) -> None:
    through = {"adapter": "range_doppler", "function": "cartesian_objects", "options": {"codes": [2, 0]}}
    spec = with_objects(tmp_path, ["22,2,3.0,4.0\n", "", "23,0,-1,1\n"], {"columns": [1, 2, 3], "through": through})
    functions = {"range_doppler": TRANSFORMATIONS}
    with h5py.File(convert(spec, tmp_path / "in", tmp_path / "out", transformations=functions)) as file:
        stored = file["drive/objects"][()]
    assert np.allclose(stored[0, 0], [5, np.degrees(np.arctan2(3, 4)), 0])
    assert np.isnan(stored[1]).all()
    assert np.allclose(stored[2, 0], [np.sqrt(2), -45, 1])
    (tmp_path / "in/drive/objects/0.csv").write_text("22,80,3.0,4.0\n")
    with pytest.raises(UserError, match=r"unknown class; got 80.*one of 2, 0.*`codes`"):
        convert(spec, tmp_path / "in", tmp_path / "again", transformations=functions)
