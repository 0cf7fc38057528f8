"""Recordings of different shape are cropped or padded to the sizes that the data spec states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from maekit.config.data_spec import load_spec
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

RNG = np.random.default_rng(0)
SHORT, LONG = RNG.normal(size=(6, 2, 5)).astype(np.float32), RNG.normal(size=(6, 2, 9)).astype(np.float32)


def source(folder: Path, sizes: dict[str, int], dtype: str = "f4", **spec: Any) -> HDF5Windows:
    with h5py.File(folder / "a.h5", "w") as file:
        for name, values in (("short", SHORT), ("long", LONG)):
            file[f"{name}/map"] = (values * 100).astype(dtype)
            file[f"{name}/measured"] = np.ones(values[:, 0].shape, bool)
    signal = {"path": "map", "axes": ["frame", "channel", "range"], "unit": "dB", "sizes": sizes}
    text = {"name": "maps", "files": "*.h5", "records": "/*", "signal": signal, "group": {"record": ".+"}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(text | {"window": {"axis": "frame", "length": 2}} | spec))
    return HDF5Windows(load_spec(folder / "spec.yaml"), folder)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
@pytest.mark.parametrize("masked", [False, True])
def test_longer_ones_are_cropped_and_shorter_ones_padded_as_missing(dtype: str, masked: bool, tmp_path: Path) -> None:
    valid = {"valid": {"path": "measured"}} if masked else {}
    windows = source(tmp_path, {"range": 7}, dtype, **valid)
    assert len(windows) == 6, "padding is not counted as missing"
    assert windows.info.shape == (2, 2, 7)
    by_group = {sample.group: sample for sample in map(windows.__getitem__, range(6)) if sample.location.endswith("@0")}
    long, short = by_group["long"], by_group["short"]
    assert long.valid is None
    assert np.array_equal(long.signal, np.moveaxis((LONG * 100).astype(dtype)[:2, :, :7], 1, 0))
    assert short.valid is not None
    assert np.array_equal(short.valid, np.tile(np.arange(7) < 5, (2, 1)))
    assert np.array_equal(short.signal[..., :5], np.moveaxis((SHORT * 100).astype(dtype)[:2], 1, 0))
    assert np.isnan(short.signal[..., 5:]).all()
    for single, together in zip(map(windows.__getitem__, range(6)), windows.read_batch(range(6)), strict=True):
        assert np.array_equal(single.signal, together.signal, equal_nan=True)


def test_without_sizes_the_mend_is_named_and_works(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"different length along 'range'.*`sizes: \{range: 9\}`"):
        source(tmp_path, {})
    assert source(tmp_path, {"range": 9}).info.shape == (2, 2, 9)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"frame": 3}, "window: {axis: frame, length: 3, pad: true}"),
        ({"rang": 3}, "Did you mean 'range'"),
        ({"channel": 1}, "other than"),
    ],
)
def test_sizes_of_other_axes_are_refused(sizes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        source(tmp_path, sizes)
    assert message in str(error.value)


def test_a_size_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GiB"):
        source(tmp_path, {"range": 10**12})
