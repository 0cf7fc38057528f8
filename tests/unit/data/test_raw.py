"""Files of bare numbers: complex types, SigMF, and captures larger than the limit for packed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data.convert import archive, file_array
from maekit.data.convert.convert import convert
from maekit.data.convert.file_array import FileArray
from maekit.data.convert.readers import read
from maekit.data.inspect import inspect
from maekit.errors import UserError

SPEC = """\
name: iq
files: "*.h5"
records: "/*"
signal: {path: iq, axes: [time], rate_hz: {attribute: rate_hz}COMPLEX}
group: {record: ".+"}
window: {axis: time, length: 10}
convert:
  streams: {iq: STREAM}
"""
TONE = np.exp(2j * np.pi * np.arange(200) / 25)
INTEGERS = {"i1": 100, "i2": 20000, "u1": 100, "u2": 20000, "i4": 2**30, "u4": 2**30}


def stored(dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(numbers of a file, the complex values that they stand for)."""
    pairs = np.stack([TONE.real, TONE.imag], axis=-1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        numbers = pairs.astype(kind)
        return numbers, numbers[:, 0] + 1j * numbers[:, 1]
    middle = (2 ** (8 * kind.itemsize) - 1) / 2 if kind.kind == "u" else 0.0
    numbers = np.round(pairs * INTEGERS[kind.str[1:]] + middle).astype(kind)
    return numbers, (numbers[:, 0] - middle) + 1j * (numbers[:, 1] - middle)


def run(folder: Path, stream: str, *, rule: str = ", complex: keep") -> Path:
    (folder / "spec.yaml").write_text(SPEC.replace("STREAM", stream).replace("COMPLEX", rule))
    return convert(load_spec(folder / "spec.yaml"), folder / "in", folder / "out")


def write(folder: Path, name: str, content: bytes, meta: dict[str, Any] | None = None) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    file = folder / "in" / name
    file.write_bytes(content)
    if meta is not None:
        file.with_suffix(".sigmf-meta").write_text(json.dumps(meta))
    return file


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("cf32_le", "<f4"), ("cf32_be", ">f4"), ("cf64", "<f8"), ("ci16", "<i2"), ("ci16_be", ">i2"), ("ci8", "i1"),
        ("cu8", "u1"), ("cu16_le", "<u2"), ("ci32_le", "<i4"),
    ],
)  # fmt: skip
def test_pairs_of_each_type_become_complex(tmp_path: Path, form: str, dtype: str) -> None:
    numbers, expected = stored(dtype)
    write(tmp_path, "a.bin", numbers.tobytes())
    with h5py.File(run(tmp_path, f"{{files: '*.bin', format: {form}, rate_hz: 50}}")) as file:
        values = file["a/iq"][()]
        assert values.dtype.kind == "c"
        assert np.allclose(values, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sigmf_recording_is_read_by_its_metadata(tmp_path: Path, channels: int) -> None:
    numbers, expected = stored(">i2")
    meta = {
        "global": {"core:datatype": "ci16_be", "core:sample_rate": 50, "core:num_channels": channels},
        "captures": [],
    }
    file = write(tmp_path, "a.sigmf-data", numbers.tobytes(), meta)
    content = read(file)
    assert content.rate_hz == 50
    assert np.array_equal(np.ravel(content.numbers("data")), expected)
    assert content.numbers("data").shape == ((200,) if channels == 1 else (100, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core:datatype": "cx7"}, "no type, rate or number"),
        ({"core:sample_rate": -1}, "no type, rate or number"),
        ({"core:dataset": "other.bin"}, "non-conforming"),
        (
            {"captures": [{"core:frequency": 1e9}, {"core:frequency": 2e9, "core:sample_start": 9}]},
            "centre frequencies",
        ),
        ({"captures": [{"core:global_index": 0}, {"core:sample_start": 9, "core:global_index": 99}]}, "with pauses"),
        ({"captures": [{"core:header_bytes": 4}]}, "no samples"),
    ],
)
def test_sigmf_recordings_that_are_not_plain_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    general = {"core:datatype": "cf32_le", "core:sample_rate": 50} | change
    captures = general.pop("captures", [])
    file = write(tmp_path, "a.sigmf-data", bytes(80), {"global": general, "captures": captures})
    with pytest.raises(UserError, match=message):
        read(file)


def test_iq_is_never_stored_as_one_line_of_real_numbers(tmp_path: Path) -> None:
    numbers, _ = stored("<i2")
    meta = {"global": {"core:datatype": "ci16_le", "core:sample_rate": 50}}
    write(tmp_path, "a.sigmf-data", numbers.tobytes(), meta)
    with pytest.raises(UserError, match=r"got 'int16'; expected ci16_le.*Leave `format` out"):
        run(tmp_path, "{files: '*.sigmf-data', format: int16, rate_hz: 50}")
    write(tmp_path, "a.bin", numbers.tobytes())
    with pytest.raises(UserError, match=r"real numbers, and the data spec says `complex: keep`.*ci16_le"):
        run(tmp_path, "{files: '*.bin', format: int16, rate_hz: 50}")
    assert not list((tmp_path / "out").glob("*"))
    run(tmp_path, "{files: '*.sigmf-data'}")  # the advice of the first error


def test_a_part_of_a_sample_is_named_with_the_command_that_cuts_it_off(tmp_path: Path) -> None:
    file = write(tmp_path, "a.cs16", stored("<i2")[0].tobytes() + b"\1\2")
    with pytest.raises(UserError, match=r"802 bytes.*multiple of 4.*head -c 800"):
        read(file)
    with pytest.raises(UserError, match="0 bytes"):
        read(write(tmp_path, "b.cs16", b""))
    with pytest.raises(UserError, match="no metadata beside the samples"):
        read(write(tmp_path, "c.sigmf-data", bytes(8)))


def test_limits_of_size_are_those_of_packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    write(tmp_path, "a.bin", bytes(4000))
    with h5py.File(run(tmp_path, "{files: '*.bin', format: int16, rate_hz: 50}", rule="")) as file:
        assert file["a/iq"].shape == (2000,)


def test_captures_are_converted_and_inspected_a_block_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, complex_values = stored("<i2")
    file = write(tmp_path, "a.cs16", numbers.tobytes())
    whole, lengths, fromfile = list(inspect(file)), [], np.fromfile

    def noted(*arguments: Any, **options: Any) -> Any:
        values = fromfile(*arguments, **options)
        lengths.append(len(values))
        return values

    monkeypatch.setattr(np, "fromfile", noted)
    monkeypatch.setattr(np, "memmap", None)  # what is decoded of a mapped file lies in memory as a whole
    monkeypatch.setattr(file_array, "BLOCK_BYTES", 64)
    assert list(inspect(file)) == whole
    with h5py.File(run(tmp_path, "{files: '*', rate_hz: 50}")) as converted:
        assert (converted["a/iq"][()] == complex_values.astype(np.complex64)).all()
    assert sum(lengths) == 3 * numbers.size
    assert max(lengths) == 16


def test_a_long_array_is_converted_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(600.0).reshape(200, 3)
    np.save(write(tmp_path, "a.npy", b""), values)
    monkeypatch.setattr(FileArray, "__array__", None)
    monkeypatch.setattr(file_array, "BLOCK_BYTES", 64)
    with h5py.File(run(tmp_path, "{files: '*', rate_hz: 50, missing: [7]}", rule="")) as converted:
        assert converted["a/iq"].dtype == np.float32
        np.testing.assert_array_equal(converted["a/iq"], np.where(values == 7, np.nan, values))


def test_a_capture_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    numbers, _ = stored("<i2")
    file = write(tmp_path, "a.cs16", numbers.tobytes())
    values = read(file).rows("data")
    file.write_bytes(numbers.tobytes()[:100])
    with pytest.raises(UserError, match="became shorter"):
        values[0:200]
