"""Attributes that change the meaning of stored numbers are applied, or refused with the key that decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from maekit.config.data_spec import load_spec
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

VALUES = np.round(np.sin(np.arange(500) / 10), 3)
STORED = np.round(VALUES * 1000).astype(np.int16)


def source(
    folder: Path, data: Any, attributes: dict[str, Any], signal: dict[str, Any] | None = None, axes: str = "time"
) -> HDF5Windows:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=data).attrs.update(attributes)
    meaning = {"path": "x", "axes": axes.split(), "unit": "mV", "rate_hz": 50, **(signal or {})}
    text = {"name": "packed", "files": "*.h5", "signal": meaning, "window": {"axis": "time", "length": 100}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(text | {"missing_budget": 0.9}))
    return HDF5Windows(load_spec(folder / "spec.yaml"), folder)


@pytest.mark.parametrize(
    ("attributes", "meant"),
    [
        ({"scale_factor": 0.001, "add_offset": 5.0}, VALUES + 5),
        ({"scale_factor": np.array([0.001])}, VALUES),
        ({"conversion": 1e-3, "offset": 2.0}, VALUES + 2),
        ({"add_offset": 5.0}, STORED + 5.0),
        ({"_FillValue": STORED[7]}, np.where(STORED[7] == STORED, np.nan, STORED)),
        ({"missing_value": STORED[7], "scale_factor": 0.001}, np.where(STORED[7] == STORED, np.nan, VALUES)),
        ({"valid_range": [-500, 500]}, np.where(np.abs(STORED) > 500, np.nan, STORED)),
        ({"valid_max": 500}, np.where(STORED > 500, np.nan, STORED)),
        ({"gain": 1}, STORED),
    ],
)
def test_packing_is_applied(attributes: dict[str, Any], meant: Any, tmp_path: Path) -> None:
    windows = source(tmp_path, STORED, attributes)
    assert len(windows) == 5
    for i in range(5):
        sample, expected = windows[i], meant[100 * i : 100 * (i + 1)]
        measured = np.isfinite(expected)
        assert np.allclose(sample.signal[0][measured], expected[measured], rtol=1e-6)
        assert np.array_equal(np.ones(100, bool) if sample.valid is None else sample.valid, measured)


def test_an_undefined_factor_is_refused_and_its_mend_is_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"may be a factor.*`scale: 0\.2`"):
        source(tmp_path, STORED, {"gain": 0.2})
    windows = source(tmp_path, STORED, {"gain": 0.2, "_FillValue": STORED[7]}, {"scale": 0.2})
    sample = windows[0]
    assert sample.valid is not None
    assert not sample.valid[7]
    assert np.allclose(sample.signal[0][8:], STORED[8:100] * 0.2)


def test_a_stated_scale_replaces_that_of_the_attributes(tmp_path: Path) -> None:
    windows = source(tmp_path, STORED, {"scale_factor": 0.001, "add_offset": 5.0}, {"scale": 2, "offset": 1})
    assert np.allclose(windows[0].signal[0], STORED[:100] * 2.0 + 1)
    windows.close()
    for keys, message in [({"scale": 0}, "same"), ({"offset": 1}, "give both")]:
        with pytest.raises(UserError, match=message):
            source(tmp_path, STORED, {}, keys)


def test_another_rate_is_refused(tmp_path: Path) -> None:
    for name in ("sampling_rate", "Fs"):
        with pytest.raises(UserError, match=r"differs from the stated.*got '?100'?"):
            source(tmp_path, VALUES, {name: 100.0})
        assert source(tmp_path, VALUES, {name: 100.0}, {"rate_hz": {"attribute": name}}).info.rate_hz == 100
        source(tmp_path, VALUES, {name: 50})


def test_a_unit_with_another_prefix_is_refused(tmp_path: Path) -> None:
    for unit in ("µV", "volts", "Microvolt"):
        with pytest.raises(UserError, match=f"unit that differs.*`unit: {unit}`"):
            source(tmp_path, VALUES, {"units": unit})
    alike: list[tuple[str, dict[str, Any]]] = [
        ("mV", {}),
        ("millivolts", {}),
        ("counts", {}),
        ("uV", {"unit": "uV"}),
        ("V", {"scale": 1000}),
    ]
    for unit, signal in alike:
        source(tmp_path, VALUES, {"units": unit}, signal).close()


@pytest.mark.parametrize("name_axes", ["labels", "scales"])
def test_axes_are_compared_with_their_names_in_the_file(name_axes: str, tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        data = file.create_dataset("x", data=np.zeros((100, 100)) + np.arange(100))
        for i, name in enumerate(("time", "channel")):
            if name_axes == "labels":
                data.dims[i].label = name
            else:
                file.create_dataset(name, data=np.arange(100)).make_scale(name)
                data.dims[i].attach_scale(file[name])

    read = opened(tmp_path, write)
    with pytest.raises(UserError, match=r"another order.*\(time, channel\)"):
        read("channel time")
    assert read("time channel").info.shape == (100, 50)


def opened(folder: Path, write: Callable[[h5py.File], None]) -> Callable[[str], HDF5Windows]:
    with h5py.File(folder / "a.h5", "w") as file:
        write(file)

    def read(axes: str) -> HDF5Windows:
        signal = {"path": "x", "axes": axes.split(), "unit": "mV", "rate_hz": 50}
        text = {"name": "named", "files": "*.h5", "signal": signal, "window": {"axis": "time", "length": 50}}
        (folder / "spec.yaml").write_text(yaml.safe_dump(text))
        return HDF5Windows(load_spec(folder / "spec.yaml"), folder)

    return read
