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
from maekit.data.convert.convert import convert
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


@pytest.mark.parametrize("scales", [np.int64(7), h5py.Empty("i8"), np.arange(2), np.array([b"a", b"b"])])
@pytest.mark.parametrize("attribute", ["DIMENSION_LIST", "DIMENSION_LABELS"])
def test_axes_are_unnamed_where_the_names_are_damaged(attribute: str, scales: Any, tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("x", data=np.zeros((100, 100)) + np.arange(100)).attrs[attribute] = scales

    assert opened(tmp_path, write)("channel time").info.shape == (100, 50)


def opened(folder: Path, write: Callable[[h5py.File], None]) -> Callable[[str], HDF5Windows]:
    with h5py.File(folder / "a.h5", "w") as file:
        write(file)

    def read(axes: str) -> HDF5Windows:
        signal = {"path": "x", "axes": axes.split(), "unit": "mV", "rate_hz": 50}
        text = {"name": "named", "files": "*.h5", "signal": signal, "window": {"axis": "time", "length": 50}}
        (folder / "spec.yaml").write_text(yaml.safe_dump(text))
        return HDF5Windows(load_spec(folder / "spec.yaml"), folder)

    return read


@pytest.mark.parametrize(
    ("data", "attributes", "meant"),
    [
        (np.array([-1, 5, -2] * 100, np.int16), {"_Unsigned": "true"}, [65535, 5, 65534]),
        (np.array([-1, 5, -2] * 100, np.int16), {"_Unsigned": "true", "_FillValue": np.int16(-1)}, [np.nan, 5, 65534]),
        (np.array([241, 5, 7] * 100, np.uint8), {"missing_value": -9999.0}, [241, 5, 7]),
        (np.array([5000, 5001, 7] * 100, np.int16), {"scale_factor": 0.001, "valid_max": 5.0}, [5, np.nan, 0.007]),
        (np.array([5, 6, 7] * 100, np.int16), {"scale_factor": [0.5, 0.5]}, [2.5, 3, 3.5]),
    ],
)
def test_signs_fills_and_limits_are_those_of_the_conventions(
    data: Any, attributes: dict[str, Any], meant: list[float], tmp_path: Path
) -> None:
    sample, expected = source(tmp_path, data, attributes)[0], np.resize(meant, 100)
    measured = np.isfinite(expected)
    assert np.array_equal(np.ones(100, bool) if sample.valid is None else sample.valid, measured)
    assert np.allclose(sample.signal[0][measured], expected[measured])


@pytest.mark.parametrize(
    ("attributes", "message", "mend"),
    [
        ({"Gain": 0.5}, r"may be a factor.*`scale: 0\.5`", {"scale": 0.5}),
        ({"uV_per_bit": 0.195}, r"may be a factor", {"scale": 1}),
        ({"offset": 512}, r"may be an offset.*`scale: 1` and `offset: 512`", {"scale": 1, "offset": 512}),
        (
            {"physical_min": -5.0, "physicalMaximum": 5.0, "digital_min": 0, "digital_max": 1000},
            r"`scale: 0\.01` and `offset: -5`",
            {"scale": 0.01, "offset": -5},
        ),
        ({"scale_factor": [0.1, 0.2]}, "for each channel", {"scale": 2}),
    ],
)
def test_what_no_convention_defines_is_decided_by_the_spec_directly_and_after_conversion(
    attributes: dict[str, Any], message: str, mend: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        source(tmp_path, STORED, attributes)
    expected = STORED[:100] * float(mend["scale"]) + mend.get("offset", 0)
    assert np.allclose(source(tmp_path, STORED, attributes, mend)[0].signal[0], expected, atol=1e-5)
    if "scale_factor" in attributes:
        return
    assert np.allclose(converted(tmp_path, mend)[0].signal[0], expected, atol=1e-5)
    with pytest.raises(UserError, match=message):
        converted(tmp_path, {})


def converted(folder: Path, signal: dict[str, Any], stream: dict[str, Any] | None = None) -> HDF5Windows:
    """`a.h5` through conversion."""
    text = {
        "name": "converted",
        "files": "*.h5",
        "records": "/*",
        "signal": {"path": "x", "axes": ["time"], "rate_hz": 50, **signal},
        "window": {"axis": "time", "length": 100},
        "convert": {"streams": {"x": {"files": "a.h5", "key": "x", **(stream or {})}}},
    }
    (folder / "converted.yaml").write_text(yaml.safe_dump(text))
    spec = load_spec(folder / "converted.yaml")
    convert(spec, folder, folder / "out", overwrite=True)
    return HDF5Windows(spec, folder / "out")


def test_rates_and_units_of_a_file_survive_conversion(tmp_path: Path) -> None:
    source(tmp_path, VALUES, {"SamplingRate": 50.0, "units": "uV"}, {"unit": "uV"}).close()
    with pytest.raises(UserError, match="other than the stated"):
        converted(tmp_path, {}, {"rate_hz": 100})
    with pytest.raises(UserError, match="unit that differs"):
        converted(tmp_path, {"unit": "mV"})
    assert converted(tmp_path, {"unit": "uV", "rate_hz": {"attribute": "rate_hz"}}).info.rate_hz == 50


def test_arrays_of_different_length_become_a_recording_each(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", (2,), dtype=h5py.vlen_dtype(np.float32))
        data[0], data[1] = np.arange(150), np.arange(230)
    (tmp_path / "direct.yaml").write_text("{name: a, files: '*.h5', signal: {path: x, axes: [time], rate_hz: 50}}")
    with pytest.raises(UserError, match=r"variable length.*key: x\.values, offsets: x\.offsets"):
        HDF5Windows(load_spec(tmp_path / "direct.yaml"), tmp_path)
    with pytest.raises(UserError, match=r"`key: x\.values` with `offsets: x\.offsets`"):
        converted(tmp_path, {})
    windows = converted(tmp_path, {}, {"key": "x.values", "offsets": "x.offsets"})
    assert [recording.rows for recording in windows.recordings] == [150, 230]
    assert windows[2].signal[0, 0] == 100


def test_names_of_axes_and_of_enumerated_labels_survive_conversion(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((100, 100)) + np.arange(100)
        for i, name in enumerate(("channel", "time")):
            file["x"].dims[i].label = name
        kinds = h5py.enum_dtype({"run": 0, "rest": 1}, basetype="i1")
        file.create_dataset("y", data=np.repeat([0, 1], 50).astype("i1"), dtype=kinds)
    text: dict[str, Any] = {
        "name": "named",
        "files": "*.h5",
        "signal": {"path": "x", "axes": ["channel", "time"], "rate_hz": 50},
        "label": {"path": "y", "classes": ["rest", "run"]},
        "window": {"axis": "time", "length": 50},
    }
    (tmp_path / "direct.yaml").write_text(yaml.safe_dump(text))
    windows = HDF5Windows(load_spec(tmp_path / "direct.yaml"), tmp_path)
    assert windows.labels is not None
    assert windows.labels.tolist() == [1, 0]
    windows.close()
    with pytest.raises(UserError, match=r"another order than the file names them.*\(channel, time\)"):
        converted(tmp_path, {"axes": ["time", "channel"]})
    turned = converted(tmp_path, {"axes": ["time", "channel"]}, {"rearrange": "channel time -> time channel"})
    assert turned.info.shape == (100, 100)


def test_a_recording_that_is_cut_along_its_short_axis_is_said_to_be(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2000)))
    with pytest.raises(UserError, match=r"another order.*time 3, channel 2000"):
        converted(tmp_path, {"axes": ["time", "channel"]}, {"files": "a.npy", "key": "data"})
