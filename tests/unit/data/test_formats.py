"""Every published format through conversion: what is stored, and what a broken source leaves behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.convert.convert import convert
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
group: {attribute: subject}
label: {path: y, classes: [rest, walk]}
window: {axis: time, length: 10}
missing_budget: 0.2
"""


def spec_of(folder: Path, text: str = SPEC) -> DataSpec:
    (folder / "spec.yaml").write_text(text)
    return load_spec(folder / "spec.yaml")


CONVERT = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
convert:
  record: "(?P<record>[a-z0-9]+)[.]"
  streams: {x: STREAM}
"""


def converted(folder: Path, stream: str, name: str, content: bytes) -> HDF5Windows:
    source = folder / "source"
    source.mkdir()
    (source / name).write_bytes(content)
    spec = spec_of(folder, CONVERT.replace("STREAM", stream))
    convert(spec, source, folder / "out")
    return HDF5Windows(spec, folder / "out")


def npy(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)  # type: ignore[arg-type]
    return buffer.getvalue()


def wav(values: object) -> bytes:
    import io

    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, 50, values)
    return buffer.getvalue()


def mat(values: object) -> bytes:
    import io

    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, {"sig": values})
    return buffer.getvalue()


TABLE = "t;a;b\n" + "".join(f"{i * 20};{i};{i if i != 3 else ''}\n" for i in range(30))


@pytest.mark.parametrize(
    ("stream", "name", "content"),
    [
        ('{files: "*", columns: [b], time: t, time_unit: ms}', "one.csv", TABLE.encode()),
        ('{files: "*", columns: [b], time: t, time_unit: ms}', "one.csv.gz", gzip.compress(TABLE.encode())),
        ('{files: "*", rate_hz: 50}', "one.npy", npy(np.where(np.arange(30) == 3, np.nan, np.arange(30.0)))),
        ('{files: "*"}', "one.wav", wav(np.arange(30, dtype=np.int16))),
        ('{files: "*", key: sig, rate_hz: 50}', "one.mat", mat(np.arange(30.0)[:, None])),
        ('{files: "*", key: sig, rate_hz: 50}', "row.mat", mat(np.arange(30.0)[None])),
    ],
)
def test_every_format_converts(stream: str, name: str, content: bytes, tmp_path: Path) -> None:
    source = converted(tmp_path, stream, name, content)
    sample = source[0]
    assert sample.rate_hz == pytest.approx(50)
    assert sample.signal.shape == (1, 30)
    expected = np.arange(30)
    measured = sample.valid if sample.valid is not None else np.ones(30, bool)
    assert np.array_equal(sample.signal[0][measured], expected[measured])
    assert measured.sum() >= 29


@pytest.mark.parametrize(
    ("stream", "name", "content", "message"),
    [
        ('{files: "*", columns: [c], rate_hz: 1}', "one.csv", TABLE.encode(), "no such column"),
        (
            '{files: "*", columns: [a], rate_hz: 1}',
            "one.csv",
            TABLE.replace(";7;", ";seven;").encode(),
            r"one.csv:9.*seven",
        ),
        ('{files: "*", columns: [a], rate_hz: 1}', "one.csv", b"a,b\n1,2\n3\n", "a torn last line"),
        (
            '{files: "*", columns: [a], time: t}',
            "one.csv",
            TABLE.replace("\n60;", "\n75;").encode(),
            "not evenly spaced",
        ),
        ('{files: "*", columns: [a], rate_hz: 1}', "one.csv", b"", "an empty file"),
        ('{files: "*", rate_hz: 1}', "one.npy", npy(np.array([{}], dtype=object)), "pickles are not read"),
        ('{files: "*", rate_hz: 1}', "one.npy", b"\x93NUMPY torn", "cannot be read as NPY"),
        ('{files: "*.csv", rate_hz: 1}', "one.npy", npy(np.zeros(3)), "no source file matches"),
        (
            '{files: "*", columns: [a], rate_hz: 1}',
            "one.csv.gz",
            gzip.compress(TABLE.encode(), mtime=0)[:40],
            "cut off",
        ),
    ],
)
def test_bad_sources_leave_nothing_behind(stream: str, name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        converted(tmp_path, stream, name, content)
    assert not list((tmp_path / "out").glob("*"))


def test_packed_files_are_read_and_leftovers_in_archives_are_not(tmp_path: Path) -> None:
    content = npy(np.arange(30.0))
    packed = {".gz": gzip.compress(content), ".bz2": bz2.compress(content), ".xz": lzma.compress(content)}
    for ending, data in packed.items():
        windows = converted(make(tmp_path / ending), "{files: '*.npy*', rate_hz: 10}", f"a.npy{ending}", data)
        assert windows[0].signal[0].tolist() == list(range(30))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.npy", content)
        file.writestr("__MACOSX/._a.npy", b"leftover")
    stream = "{files: '*.zip', member: '*.npy', rate_hz: 10}"
    assert len(converted(make(tmp_path / "zip"), stream, "all.zip", archive.getvalue())) == 1


@pytest.mark.parametrize(
    ("name", "hint"), [("a.flac", "ffmpeg"), ("a.tar.gz", "Unpack"), ("a.zip", "member"), ("a.xlsx", "CSV")]
)
def test_formats_that_are_not_read_name_a_way_on(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"not read.*{hint}"):
        converted(tmp_path, "{files: 'a.*', rate_hz: 10}", name, b"anything")


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_conversion_never_overwrites_and_zip_stays_inside(tmp_path: Path) -> None:
    converted(tmp_path, '{files: "*.npy", rate_hz: 50}', "one.npy", npy(np.arange(30.0)))
    spec = load_spec(tmp_path / "spec.yaml")
    with pytest.raises(UserError, match="a result already"):
        convert(spec, tmp_path / "source", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "source/evil.zip", "w") as archive:
        archive.writestr("../../evil.npy", npy(np.zeros(3)))
    inside = CONVERT.replace("STREAM", '{files: "*.zip", member: "*.npy", rate_hz: 50}')
    with pytest.raises(UserError, match="outside the folder"):
        convert(spec_of(tmp_path, inside), tmp_path / "source", tmp_path / "elsewhere")
    assert not (tmp_path / "evil.npy").exists()


def test_real_radar_recording_converts(real_data: Path, tmp_path: Path) -> None:
    """One person: 50 Hz displacement, and a heart rate from the ECG in every window."""
    from maekit.adapters.heart.heart_rate import HeartRateAdapter

    (tmp_path / "source").mkdir()
    (tmp_path / "source/subject04").symlink_to(real_data / "radar_phase_ecg/subject04")
    spec = load_spec("radar_phase_ecg")
    convert(spec, tmp_path / "source", tmp_path / "out", derivations={"heart_rate": HeartRateAdapter.derivations})
    source = HDF5Windows(spec, tmp_path / "out", reducers=HeartRateAdapter.reducers)
    assert source.info.rate_hz == 50
    assert len(source) > 180
    assert source.labels is not None
    assert 55 < np.median(source.labels.astype(float)) < 100
    assert np.std(source.labels.astype(float)) < 8
