"""What changes the meaning of numbers is applied or named: axis order, bit depth, codes for "no value", several arrays."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat, wavfile

from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.check.check import check
from maekit.data.check.sentinels import find_sentinels
from maekit.data.convert import readers
from maekit.data.convert.convert import convert
from maekit.data.hdf5.safety import check_storage
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.inspect import inspect
from maekit.errors import UserError

RNG = np.random.default_rng(0)


def spec_from(folder: Path, text: str) -> DataSpec:
    (folder / "spec.yaml").write_text(text)
    return load_spec(folder / "spec.yaml")


# Axis order: MATLAB's version 7.3.


def write_v73(path: Path, **arrays: Any) -> None:
    """As MATLAB's `save -v7.3`: a block of its own before the HDF5 signature, axes reversed, the attribute MATLAB_class."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = np.ascontiguousarray(np.asarray(values).T)
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


V73 = """\
name: maps
files: "*.mat"
signal: {path: maps, axes: [range, doppler, frame]}
window: {axis: frame, length: 1}
"""


def test_axes_of_matlab_are_refused_directly_and_converted_as_the_hint_says(tmp_path: Path) -> None:
    maps = RNG.normal(size=(6, 5, 4))
    (tmp_path / "rec").mkdir()
    write_v73(tmp_path / "rec/drive.mat", maps=maps, fs=[[100.0]], ecg=RNG.normal(size=(1, 30)))
    with pytest.raises(UserError, match=r"axes HDF5 sees in reverse order; got \(4, 5, 6\).*Add `convert"):
        HDF5Windows(spec_from(tmp_path, V73), tmp_path / "rec")
    advised = V73.replace('"*.mat"', "'*.h5'\nrecords: '/*'")
    advised += "convert: {streams: {maps: {files: '*.mat', key: maps}}}\n"
    spec = spec_from(tmp_path, advised)
    convert(spec, tmp_path / "rec", tmp_path / "out")
    source = HDF5Windows(spec, tmp_path / "out")
    assert len(source) == 4
    assert np.array_equal(source[3].signal[0], maps[:, :, 3].astype(np.float32))
    content = readers.read(tmp_path / "rec/drive.mat")
    assert content.pick("ecg").shape == (30,)
    assert readers.read(tmp_path / "rec/drive.mat", "hdf5").pick("maps").shape == (6, 5, 4)
    assert any("(6, 5, 4) float64, axes in MATLAB's order" in line for line in inspect(tmp_path / "rec/drive.mat"))


def test_structs_and_vectors_of_matlab(tmp_path: Path) -> None:
    savemat(tmp_path / "p.mat", {"data": {"ecg": np.arange(9.0), "fs": 100.0}, "column": np.arange(3.0)[:, None]})
    content = readers.read(tmp_path / "p.mat")
    assert list(content.arrays) == ["data.ecg", "data.fs", "column"]
    assert np.array_equal(content.numbers("data.ecg"), np.arange(9))
    assert content.numbers("column").shape == (3,)


def test_one_of_several_arrays_is_not_taken_unasked(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    savemat(tmp_path / "rec/p.mat", {"age": 43, "ecg": np.arange(50.0)})
    text = "name: m\nfiles: '*.h5'\nsignal: {path: ecg, axes: [time], rate_hz: {attribute: rate_hz}}\n"
    text += "convert: {streams: {ecg: {files: '*.mat', rate_hz: 100KEY}}}\n"
    with pytest.raises(UserError, match=r"the stream names none; got 'age, ecg'; expected `key`"):
        convert(spec_from(tmp_path, text.replace("KEY", "")), tmp_path / "rec", tmp_path / "out")
    with h5py.File(
        convert(spec_from(tmp_path, text.replace("KEY", ", key: ecg")), tmp_path / "rec", tmp_path / "out")
    ) as file:
        assert np.array_equal(file["ecg"], np.arange(50))


# Bit depth of sounds.


def sound(values: Any, bits: int) -> bytes:
    buffer = io.BytesIO()
    if bits == 24:
        samples = (np.round(values * 2**23).astype("<i4")).tobytes()
        raw = b"".join(samples[i : i + 3] for i in range(0, len(samples), 4))
        wavfile.write(buffer, 8000, np.zeros(len(values), np.int16))
        header = bytearray(buffer.getvalue()[:44])
        header[4:8] = (36 + len(raw)).to_bytes(4, "little")
        header[28:36] = (24000).to_bytes(4, "little") + (3).to_bytes(2, "little") + (24).to_bytes(2, "little")
        header[40:44] = len(raw).to_bytes(4, "little")
        return bytes(header) + raw
    if bits == 8:
        wavfile.write(buffer, 8000, np.round(values * 128 + 128).astype(np.uint8))
    else:
        wavfile.write(buffer, 8000, np.round(values * 2.0 ** (bits - 1)).astype(f"<i{bits // 8}"))
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_sounds_of_any_depth_have_one_scale(bits: int) -> None:
    tone = 0.5 * np.sin(np.arange(800) / 7)
    content = readers.parse(sound(tone, bits), "a.wav", "wav")
    values = content.numbers("data")
    assert np.abs(values / 32768 - tone).max() <= 2.0 ** -min(bits, 17) + 1e-9
    assert content.full_scale == 32768
    assert content.rate_hz == 8000


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_sounds_that_were_written_into_a_pipe_are_read_to_their_end(size: int) -> None:
    content = bytearray(sound(0.5 * np.sin(np.arange(800) / 7), 16))
    content[40:44] = size.to_bytes(4, "little")
    assert readers.parse(bytes(content), "a.wav", "wav").numbers("data").shape == (800,)
    content[20:22] = (7).to_bytes(2, "little")
    with pytest.raises(UserError, match=r"coded samples; got 'mu-law'.*ffmpeg"):
        readers.parse(bytes(content), "a.wav", "wav")


def test_floats_and_integers_in_one_data_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/a.wav").write_bytes(sound(np.zeros(9), 16))
    wavfile.write(tmp_path / "rec/b.wav", 8000, np.zeros(9, np.float32))
    text = "name: s\nfiles: '*.h5'\nrecords: '/*'\nsignal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}\n"
    spec = spec_from(tmp_path, text + "convert: {streams: {x: {files: '*.wav'}}}\n")
    with pytest.raises(UserError, match=r"b/x: sounds of different full scale.*got 1\.0; expected 32768, as in a"):
        convert(spec, tmp_path / "rec", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


# Numbers that mean "no value".


SENTINEL = """\
name: sentinel
files: "*.h5"
records: "/*"
signal: {path: ppg, axes: [time], rate_hz: {attribute: rate_hz}SIGNAL}
label: {path: hr, unit: bpmLABEL}
window: {axis: time, seconds: 10}
convert:
  streams:
    ppg: {files: "*.csv", columns: [ppg], rate_hz: 50STREAM}
    hr: {files: "*.csv", columns: [hr], rate_hz: 50}
"""


@pytest.fixture
def sentinels(tmp_path: Path) -> Path:
    """Two minutes of a pulse with four seconds of -9999, and a heart rate of 72 with -1 and 0 where there was none."""
    ppg = (2000 + 200 * np.sin(2 * np.pi * 1.2 * np.arange(6000) / 50)).round().astype(int)
    ppg[1000:1200] = -9999
    rate = np.full(6000, 72)
    rate[2000:3000], rate[4000:4500] = -1, 0
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/p.csv").write_text("ppg,hr\n" + "".join(f"{a},{b}\n" for a, b in zip(ppg, rate, strict=True)))
    return tmp_path


def sentinel_spec(folder: Path, signal: str = "", label: str = "", stream: str = "") -> DataSpec:
    text = SENTINEL.replace("SIGNAL", signal).replace("LABEL", label).replace("STREAM", stream)
    return spec_from(folder, text)


def test_check_names_values_that_stand_apart_and_its_advice_works(sentinels: Path) -> None:
    spec = sentinel_spec(sentinels)
    convert(spec, sentinels / "rec", sentinels / "out")
    lines = "\n".join(check(spec, sentinels / "out", {}))
    assert "signal: the value -9999 occurs 200 times, far from the others (1800 to 2200)" in lines
    assert "labels: the value -1 occurs 2 times, far from the others (72 to 72)" in lines
    assert "`missing: [0]` under `label`" not in lines, "one window of zeros alone may be true"
    mended = sentinel_spec(sentinels, ", missing: [-9999]", ", missing: [-1, 0]")
    source = HDF5Windows(mended, sentinels / "out")
    assert source.dropped == {"no label": 3}
    valid = source[2].valid
    assert valid is not None
    assert (~valid).sum() == 200
    assert set(np.asarray(source.labels).tolist()) == {72.0}
    assert "far from the others" not in "\n".join(check(mended, sentinels / "out", {}))


def test_missing_values_of_a_stream_are_nan_in_the_result(sentinels: Path) -> None:
    spec = sentinel_spec(sentinels, stream=", missing: [-9999]")
    with h5py.File(convert(spec, sentinels / "rec", sentinels / "out")) as file:
        assert np.array_equal(np.flatnonzero(np.isnan(file["p/ppg"])), np.arange(1000, 1200))


def test_missing_integers_are_dropped_by_the_budget_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.r_[np.full(10, 7), np.full(10, 65535), np.full(10, 8)].astype(np.uint16)
    text = "name: i\nfiles: '*.h5'\nsignal: {path: x, axes: [row], missing: [65535]}\nwindow: {axis: row, length: 10}\n"
    source = HDF5Windows(spec_from(tmp_path, text), tmp_path)
    assert len(source) == 2
    assert [float(source[i].signal[0, 0]) for i in range(2)] == [7, 8]


def test_a_spec_without_missing_values_keeps_its_fingerprint(sentinels: Path) -> None:
    spec = sentinel_spec(sentinels)
    convert(spec, sentinels / "rec", sentinels / "out")
    plain = HDF5Windows(spec, sentinels / "out")
    assert (
        plain.fingerprint() != HDF5Windows(sentinel_spec(sentinels, ", missing: [5]"), sentinels / "out").fingerprint()
    )
    assert "missing" not in plain.meaning().replace("missing_budget", "")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1] * 9, []),  # labels of two classes
        ([*range(-50, 50), 0, 0], []),  # a signal around zero
        ([*range(60, 90), 0, 0, -1, -1], [-1, 0]),
        ([*np.linspace(0.5, 0.7, 30), 0, 0], [0]),
        ([*range(100), 12345, 12345], [12345]),
        ([*range(100), 12345], []),  # one outlier is no code
        ([0] * 90 + [5, 6, 7], []),  # most cells of a map are empty
        ([np.nan, np.nan], []),
    ],
)
def test_what_counts_as_a_code(values: list[float], expected: list[float]) -> None:
    assert [sentinel.value for sentinel in find_sentinels(np.array(values, dtype=float))] == expected


# One long table of many people, WFDB, and other advice.


def test_a_table_of_many_people_becomes_a_recording_each(tmp_path: Path) -> None:
    rows = [(who, t / 50, n) for n, who in enumerate(["007", "011", "1e3"]) for t in range(100)]
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec/all.csv").write_text("subject,t,x\n" + "".join(f"{w},{t},{n}\n" for w, t, n in rows))
    text = "name: t\nfiles: '*.h5'\nrecords: '/*'\nsignal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}\n"
    text += (
        "group: {attribute: subject}\nconvert: {streams: {x: {files: '*.csv', columns: [x], WHEN, by: [subject]}}}\n"
    )
    for when in ("time: t", "rate_hz: 50"):
        spec = spec_from(tmp_path, text.replace("WHEN", when))
        source = HDF5Windows(spec, convert(spec, tmp_path / "rec", tmp_path / "out", overwrite=True).parent)
        assert source.groups.tolist() == ["007", "011", "1e3"]
        assert [float(source[i].signal.mean()) for i in range(3)] == [0, 1, 2]
        assert source.info.rate_hz == pytest.approx(50)
    (tmp_path / "rec/all.csv").write_text("subject,x\n" + "a,1\n" * 5 + "b,2\n" * 5 + "a,3\n" * 5)
    with pytest.raises(UserError, match=r"rows of one recording that do not stand together"):
        convert(
            spec_from(tmp_path, text.replace("WHEN", "rate_hz: 50")), tmp_path / "rec", tmp_path / "out", overwrite=True
        )


def test_a_group_that_is_a_dataset_is_pointed_to(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["subject"] = np.arange(4.0), np.array([b"a"] * 2 + [b"b"] * 2)
    text = "name: g\nfiles: '*.h5'\nsignal: {path: x, axes: [row]}\nwindow: {axis: row, length: 2}\ngroup: {GROUP}\n"
    with pytest.raises(UserError, match=r"write `path: subject` in place of `attribute: subject`"):
        HDF5Windows(spec_from(tmp_path, text.replace("GROUP", "attribute: subject")), tmp_path)
    assert HDF5Windows(spec_from(tmp_path, text.replace("GROUP", "path: subject")), tmp_path).groups.tolist() == [
        "a",
        "b",
    ]


def test_a_wfdb_record_is_read_by_its_header(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    signal = np.stack([np.sin(np.arange(500) / 9), np.cos(np.arange(500) / 9)], axis=-1)
    names = {"sig_name": ["MLII", "V5"], "units": ["mV", "mV"], "fmt": ["212", "212"]}
    (tmp_path / "rec").mkdir()
    wfdb.wrsamp("a1", fs=360, p_signal=signal, write_dir=str(tmp_path / "rec"), **names)
    content = readers.read(tmp_path / "rec/a1.hea")
    assert content.rate_hz == 360
    assert np.abs(content.numbers("V5") - signal[:, 1]).max() < 0.01
    text = "name: w\nfiles: '*.h5'\nsignal: {path: ecg, axes: [time], rate_hz: {attribute: rate_hz}}\n"
    for kind in ("files: '*.dat', format: int16", "files: '*.dat'"):
        spec = spec_from(tmp_path, text + f"convert: {{streams: {{ecg: {{{kind}}}}}}}\n")
        with pytest.raises(UserError, match=r"Name the headers in `files` \(`\*\.hea`\)"):
            convert(spec, tmp_path / "rec", tmp_path / "out")
    spec = spec_from(tmp_path, text + "convert: {streams: {ecg: {files: '*.hea', key: MLII}}}\n")
    with h5py.File(convert(spec, tmp_path / "rec", tmp_path / "out")) as file:
        assert np.abs(file["ecg"][()] - signal[:, 0]).max() < 0.01
        assert dict(file["ecg"].attrs) == {"rate_hz": 360.0, "start_s": 0.0, "unit": "mV"}


def test_signals_of_a_wfdb_record_keep_their_own_rates_and_segments_that_are_missing(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    fast, slow = np.sin(np.arange(400) / 9), np.cos(np.arange(100) / 9)
    names = {"units": ["mV", "mV"], "sig_name": ["ecg", "ppg"], "fmt": ["16", "16"], "write_dir": str(tmp_path)}
    wfdb.wrsamp("s1", fs=100, e_p_signal=[fast, slow], samps_per_frame=[4, 1], **names)
    (tmp_path / "m.hea").write_text("m/3 2 100 250\ns1 100\n~ 50\ns1 100\n")
    for header, gap in (("s1.hea", 0), ("m.hea", 50)):
        content = readers.read(tmp_path / header)
        assert content.rate_hz is None
        assert content.attributes["rates"] == {"ecg": 400, "ppg": 100}
        values = content.numbers("ecg")
        assert np.abs(values[:400] - fast).max() < 0.01
        assert int(np.isnan(values).sum()) == 4 * gap
    assert len(values) == 1000
    (tmp_path / "s1.hea").write_text(re.sub(r"x4 \S+", "x4 0/mV", (tmp_path / "s1.hea").read_text()))
    assert "no gain of ecg" in readers.read(tmp_path / "s1.hea").attributes["findings"][0]


def test_a_filter_that_is_not_installed_is_pointed_to_by_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=np.arange(9), compression="gzip")
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code < 0)
        with pytest.raises(UserError, match=r"pip install 'maekit\[sensors\]'"):
            check_storage(dataset, "a.h5:/x")
