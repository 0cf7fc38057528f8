"""Windows that cost too much to read, or are too many or too large, are refused at once with their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import DataSpec
from maekit.data.hdf5.pack import pack_recordings
from maekit.data.hdf5.read_cost import decoded_bytes
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError


def spec(rate_hz: float = 50, **window: Any) -> DataSpec:
    signal = {"path": "x", "axes": ["time"], "rate_hz": rate_hz}
    return DataSpec.model_validate({"name": "s", "files": "*.h5", "signal": signal, "window": window})


def write(path: Path, rows: int, chunk: int, compression: str | None) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(rows, np.float32), chunks=(chunk,), compression=compression)


def test_one_large_compressed_chunk_is_refused_and_its_pack_is_read(tmp_path: Path) -> None:
    write(tmp_path / "f.h5", 1 << 25, 1 << 25, "gzip")
    with pytest.raises(UserError, match=r"decodes 128 MiB.*`maekit data pack ") as caught:
        HDF5Windows(spec(seconds=10), tmp_path)
    assert "f.h5:/x" in str(caught.value)
    pack_recordings(spec(seconds=10), tmp_path, tmp_path.with_name("packed"))
    assert len(HDF5Windows(spec(seconds=10), tmp_path.with_name("packed"))) == (1 << 25) // 500


def test_large_chunks_without_a_filter_are_read_in_parts(tmp_path: Path) -> None:
    write(tmp_path / "f.h5", 1 << 25, 1 << 25, None)
    assert len(HDF5Windows(spec(seconds=1000), tmp_path)) == 671


def test_decoded_bytes_count_whole_chunks_of_all_axes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        data = file.create_dataset("x", shape=(100, 30), chunks=(40, 20), dtype="f4", compression="gzip")
        assert decoded_bytes(data, 0, 10) == (4 * 40 * 40, 4 * 10 * 30)
        assert decoded_bytes(data, 0, 50) == (4 * 80 * 40, 4 * 50 * 30)


@pytest.mark.parametrize("window", [{"seconds": 10}, {"seconds": 10, "pad": True}])
def test_a_rate_in_the_wrong_unit_is_refused_with_the_size(window: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "f.h5", 5000, 5000, None)
    with pytest.raises(UserError, match=r"37\.25 GiB.*10,000,000,000 points, at 1e\+09 Hz.*`rate_hz` is in hertz"):
        HDF5Windows(spec(1e9, **window), tmp_path)


def test_more_windows_than_can_be_indexed_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = np.zeros(1 << 25, np.int8)
    with pytest.raises(UserError, match=r"33,554,\d+ windows in one recording"):
        HDF5Windows(spec(length=10, hop=1), tmp_path)
