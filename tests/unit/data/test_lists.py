"""Cell arrays, arrays of structs, sparse matrices and structured arrays: read, or refused with a way on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import savemat
from scipy.sparse import csc_matrix

from maekit.config.data_spec import load_spec
from maekit.data.convert.convert import convert
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

LONG, SHORT = np.arange(120.0), np.arange(90.0) + 1000


def read(folder: Path, file: str, stream: dict[str, Any], **keys: Any) -> HDF5Windows:
    text: dict[str, Any] = {
        "name": "lists",
        "files": "*.h5",
        "records": "/*",
        "signal": {"path": "x", "axes": ["time"], "rate_hz": 50},
        "window": {"axis": "time", "length": 30},
        "convert": {"streams": {"x": {"files": file, "rate_hz": 50, **stream}}, **keys.pop("convert", {})},
        **keys,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(text))
    spec = load_spec(folder / "spec.yaml")
    convert(spec, folder, folder / "out", overwrite=True)
    return HDF5Windows(spec, folder / "out")


def cell(*values: Any) -> Any:
    found = np.empty((1, len(values)), dtype=object)
    for i, value in enumerate(values):
        found[0, i] = value.reshape(-1, 1)
    return found


def save_v73(path: Path) -> None:
    """What MATLAB 7.3 writes of a cell array and of an array of structs, by the HDF5 files that it makes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        parts = []
        for i, values in enumerate((LONG, SHORT, np.array([61.0]), np.array([48.0]))):
            part = file.create_dataset(f"#refs#/{i}", data=values.reshape(1, -1))
            part.attrs["MATLAB_class"] = np.bytes_("double")
            parts.append(part.ref)
        for name, first in (("cells", 0), ("people/ecg", 0), ("people/age", 2)):
            data = file.create_dataset(name, (2, 1), dtype=h5py.ref_dtype)
            data[0, 0], data[1, 0] = parts[first], parts[first + 1]
        empty = file.create_dataset("empty", data=np.array([0, 0], np.uint64))
        empty.attrs.update({"MATLAB_class": np.bytes_("double"), "MATLAB_empty": 1})


@pytest.mark.parametrize("version", [5, 7.3])
def test_cells_and_structs_of_matlab_become_a_recording_each(version: float, tmp_path: Path) -> None:
    people = np.array([(LONG, 61), (SHORT, 48)], dtype=[("ecg", "O"), ("age", "O")]).reshape(1, 2)
    if version == 5:
        savemat(tmp_path / "a.mat", {"cells": cell(LONG, SHORT), "people": people})
    else:
        save_v73(tmp_path / "a.mat")
    with pytest.raises(UserError, match=r"`key: cells\.values` with `offsets: cells\.offsets`"):
        read(tmp_path, "a.mat", {"key": "cells"})
    for name in ("cells", "people.ecg"):
        keys = {"convert": {"attributes": {"age": "people.age"}}, "label": {"attribute": "age"}}
        windows = read(tmp_path, "a.mat", {"key": f"{name}.values", "offsets": f"{name}.offsets"}, **keys)
        assert [recording.rows for recording in windows.recordings] == [120, 90]
        assert windows.labels is not None
        assert windows.labels.tolist() == [61.0] * 4 + [48.0] * 3
        assert np.array_equal(windows[4].signal[0], SHORT[:30])
        windows.close()
    if version == 7.3:
        with pytest.raises(UserError, match=r"without its first stream|empty|zero"):
            read(tmp_path, "a.mat", {"key": "empty"})


def test_sparse_matrices_and_cells_of_one_length_are_arrays(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"s": csc_matrix(LONG.reshape(-1, 1)), "c": cell(LONG, LONG + 1)})
    assert np.array_equal(read(tmp_path, "a.mat", {"key": "s"})[0].signal[0], LONG[:30])
    rows = {"rearrange": "channel time -> time channel", "key": "c"}
    signal = {"path": "x", "axes": ["time", "channel"], "rate_hz": 50}
    assert np.array_equal(read(tmp_path, "a.mat", rows, signal=signal)[0].signal, [LONG[:30], LONG[:30] + 1])


def test_fields_of_structured_arrays_have_names(tmp_path: Path) -> None:
    table = np.zeros(120, dtype=[("t", "f8"), ("ecg", "f4")])
    table["ecg"] = LONG
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "b.npz", table=table, fs=25)
    with pytest.raises(UserError, match=r"data\.t, data\.ecg"):
        read(tmp_path, "a.npy", {})
    assert np.array_equal(read(tmp_path, "a.npy", {"key": "data.ecg"})[0].signal[0], LONG[:30])
    assert np.array_equal(read(tmp_path, "b.npz", {"key": "table.ecg"})[0].signal[0], LONG[:30])


def test_a_rate_beside_the_values_is_told_where_it_differs(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=LONG, fs=25)
    read(tmp_path, "b.npz", {"key": "x"}).close()
    with h5py.File(tmp_path / "out" / "lists.h5") as file:
        assert "fs is 25" in str(file["b/x"].attrs["findings"])
    with pytest.raises(UserError, match="rate that differs"):
        read(tmp_path, "b.npz", {"key": "x", "rate_hz": None})
