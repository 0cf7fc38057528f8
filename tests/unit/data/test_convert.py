"""Converting: time is never made up, nothing is dropped without a word, and nothing half-written stays."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat, wavfile

from maekit.config.data_spec import load_spec
from maekit.data.convert import readers
from maekit.data.convert.convert import convert
from maekit.errors import UserError

SPEC = """\
name: mine
files: "*.h5"
RECORDS
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
convert:
  record: "PATTERN"
  streams: STREAMS
MORE
"""
ONE = "(?P<record>[a-z0-9]+)[.]"


def run(
    folder: Path,
    files: Mapping[str, bytes],
    streams: str,
    *,
    pattern: str = ONE,
    more: str = "",
    records: str = 'records: "/*"',
    **options: Any,
) -> dict[str, Any]:
    """Every dataset and attribute of what a conversion writes."""
    for name, content in files.items():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes(content)
    if not streams.startswith("{x:"):
        streams = f"{{x: {{files: '**/*', {streams}}}}}"
    text = SPEC.replace("STREAMS", streams).replace("PATTERN", pattern).replace("MORE", more)
    (folder / "spec.yaml").write_text(text.replace("RECORDS", records))
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        found.update({f"{name}@{key}": value for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(convert(load_spec(folder / "spec.yaml"), folder / "source", folder / "out", **options)) as file:
        file.visititems(note)
    return found


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def mat(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


def wav(values: Any, rate: int = 50) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, values)
    return buffer.getvalue()


def table(times: Any, values: Any = None) -> bytes:
    rows = zip(times, times if values is None else values, strict=True)
    return ("t,a\n" + "".join(f"{t:.9f},{v}\n" for t, v in rows)).encode()


RAMP = np.arange(30)


@pytest.mark.parametrize(
    ("name", "content", "stream"),
    [
        ("x.csv", table(RAMP / 50, RAMP), "columns: [a], time: t"),
        ("x.csv", b",a\n" + b"".join(b"%d,%d\n" % (9, i) for i in RAMP), "columns: [a], rate_hz: 50"),
        ("x.csv", b"".join(b"%d,9\n" % i for i in RAMP), "columns: [0], rate_hz: 50"),
        ("x.csv", b"a;b\n" + b"".join(b"%d,0;9\n" % i for i in RAMP), 'columns: [a], rate_hz: 50, decimal: ","'),
        ("x.csv", b"a|b\n" + b"".join(b"%d|9\n" % i for i in RAMP), 'columns: [a], rate_hz: 50, delimiter: "|"'),
        ("x.csv.gz", gzip.compress(table(RAMP / 50, RAMP)), "columns: [a], time: t"),
        ("x.npy", npy(RAMP.astype(">i2")), "rate_hz: 50"),
        ("x.npz", npz(a=RAMP, t=RAMP * 20, other=np.array([{}], dtype=object)), "key: a, time: t, time_unit: ms"),
        ("x.mat", mat(a=RAMP[:, None], t=RAMP[None] / 50), "key: a, time: t"),
        ("x.wav", wav(RAMP.astype(np.int16)), "rate_hz: 50"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_formats(name: str, content: bytes, stream: str, zipped: bool, tmp_path: Path) -> None:
    files = {name: content}
    if zipped:
        if name.endswith(".gz"):
            pytest.skip("a zip packs its members itself")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"folder/{name}", content)
        files, stream = {"all.zip": buffer.getvalue()}, f"member: 'folder/*', {stream}"
    found = run(tmp_path, files, stream)
    assert np.array_equal(found["x/x"].ravel(), RAMP)
    assert found["x/x@rate_hz"] == pytest.approx(50)


BAD: dict[str, tuple[dict[str, bytes], str, str]] = {
    "two files for one": ({"a/x.npy": npy(RAMP), "b/x.npy": npy(RAMP)}, "rate_hz: 1", "two files for 'x'"),
    "pattern": ({"x.npy": npy(RAMP), "X_.npy": npy(RAMP)}, "rate_hz: 1", "X_.npy.*does not match"),
    "cut WAV": ({"x.wav": wav(RAMP.astype(np.int16))[:60]}, "", "cut off.*expected 104 bytes"),
    "other rate": ({"x.wav": wav(RAMP.astype(np.int16))}, "rate_hz: 100", "50.*expected 100 Hz"),
    "stamp missing": ({"x.csv": b"t,a\n0,1\n,2\n2,3\n"}, "columns: [a], time: t", "time stamp is missing.*row 1"),
    "one stamp": ({"x.csv": b"t,a\n0,1\n"}, "columns: [a], time: t", "too few time stamps"),
    "back": ({"x.csv": table([0, 1, 2, 1.5, 3])}, "columns: [a], time: t, resample_hz: 1", r"go back.*row 3"),
    "uneven": ({"x.csv": table([0, 1, 2, 3.5])}, "columns: [a], time: t", "not evenly spaced.*resample_hz"),
    "rate not kept": ({"x.csv": table(np.arange(99) / 10)}, "columns: [a], time: t, rate_hz: 11", "do not keep"),
    "a year apart": ({"x.csv": table([*RAMP, *(RAMP + 3e7)])}, "columns: [a], time: t, rate_hz: 1", "span far more"),
    "unit": ({"x.csv": table(RAMP * 20e3)}, "columns: [a], time: t, resample_hz: 50", "time_unit"),
    "no time": ({"x.npy": npy(RAMP)}, "resample_hz: 5", "nothing to resample by"),
    "rows of time": ({"x.npz": npz(a=RAMP, t=RAMP[:5])}, "key: a, time: t", "not one time stamp a row"),
    "twice a column": ({"x.csv": b"a,a\n1,2\n"}, "columns: [a], rate_hz: 1", "two columns of one name"),
    "line": ({"x.csv": b"a,b\n\n1,2\n3,4\nx,4\n"}, "columns: [a], rate_hz: 1", r"x.csv:5: a cell.*'x'"),
    "no header": ({"x.csv": b"1,2\nx,4\n"}, "columns: [0], rate_hz: 1", r"x.csv:2: a cell"),
    "decimal comma": ({"x.csv": b"a;b\n1,5;2\n"}, "columns: [a], rate_hz: 1", "decimal"),
    "struct": ({"x.mat": mat(s={"f": 1})}, "key: s, rate_hz: 1", r"no such column or key.*s\.f"),
    "text": ({"x.npy": npy(np.array(["a"]))}, "rate_hz: 1", "no numbers"),
    "objects": ({"x.npz": npz(a=np.array([{}], dtype=object))}, "key: a, rate_hz: 1", "pickles are not read"),
    "torn": ({"x.npz": npz(a=RAMP)[:90]}, "key: a, rate_hz: 1", "cannot be read as NPZ"),
    "offsets": ({"x.npz": npz(a=RAMP, o=[0, 9, 99])}, "key: a, offsets: o, rate_hz: 1", "not row offsets"),
    "rates": ({"x.npz": npz(a=RAMP, o=[0, 9, 30], r=[1.0])}, "key: a, offsets: o, rate_key: r", "one rate a rec"),
    "zip": ({"x.zip": b"PK no"}, "member: '*', rate_hz: 1", "not a sound zip"),
    "empty": ({"README": b""}, "rate_hz: 1", "pattern of recordings"),
}


def test_a_field_of_a_compound_and_arrays_of_equal_length_are_read(tmp_path: Path) -> None:
    rows = np.zeros(30, dtype=[("index", "<i8"), ("values", "<f8", (3,))])
    rows["values"] = RAMP[:, None]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["df/table"] = rows
        for name, lengths in (("even", (4, 4)), ("uneven", (4, 5))):
            data = file.create_dataset(name, (2,), dtype=h5py.vlen_dtype(np.float32))
            for i, length in enumerate(lengths):
                data[i] = np.full(length, i, np.float32)
    content = readers.read(tmp_path / "f.h5")
    assert np.array_equal(content.numbers("df/table.values"), rows["values"])
    assert np.array_equal(content.numbers("even"), [[0] * 4, [1] * 4])
    with pytest.raises(UserError, match=r"arrays of different length.*`key: uneven.values`"):
        content.numbers("uneven")


@pytest.mark.parametrize("rate", [4410, 4800, 8000])
def test_a_rate_that_the_file_states_is_resampled_from(rate: int, tmp_path: Path) -> None:
    tone = (3000 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.int16)
    found = run(tmp_path, {"x.wav": wav(tone, rate)}, "resample_hz: 4410")
    (name,) = (name for name in found if "@" not in name)
    expected = 3000 * np.sin(2 * np.pi * 440 * np.arange(8820) / 4410)
    assert found[name].shape == (8820,)
    assert found[f"{name}@rate_hz"] == 4410
    assert np.abs(found[name] - expected)[200:-200].max() < 30, "1 % of the amplitude"


def test_missing_values_stay_missing_when_a_stated_rate_is_resampled(tmp_path: Path) -> None:
    values = np.sin(np.arange(300) / 20)
    values[100:150] = np.nan
    found = run(tmp_path, {"x.npy": npy(values)}, "rate_hz: 50, resample_hz: 25")
    (name,) = (name for name in found if "@" not in name)
    assert np.isnan(found[name][51:74]).all()
    assert np.isfinite(np.delete(found[name], np.s_[49:77])).all()


def test_a_rate_far_above_that_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"far above what was measured.*in hertz"):
        run(tmp_path, {"x.wav": wav(np.arange(500, dtype=np.int16), 50)}, "resample_hz: 50000")


@pytest.mark.parametrize("name", BAD)
def test_bad_files_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    files, stream, message = BAD[name]
    with pytest.raises(UserError, match=message):
        run(tmp_path, files, stream)
    assert not list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*"))


def test_one_bad_file_of_many_loses_no_earlier_result(tmp_path: Path) -> None:
    run(tmp_path, {"x.npy": npy(RAMP)}, "rate_hz: 1")
    before = (tmp_path / "out/mine.h5").read_bytes()
    with pytest.raises(UserError, match="a result already"):
        run(tmp_path, {}, "rate_hz: 1")
    with pytest.raises(UserError, match=r"y\.npy.*cannot be read"):
        run(tmp_path, {"y.npy": b"torn"}, "rate_hz: 1", overwrite=True)
    assert (tmp_path / "out/mine.h5").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.h5"]
    assert len(run(tmp_path, {"y.npy": npy(RAMP)}, "rate_hz: 1", overwrite=True)) == 6


def test_others_may_read_the_result(tmp_path: Path) -> None:
    run(tmp_path, {"x.npy": npy(RAMP)}, "rate_hz: 1")
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "out/mine.h5").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_two_devices_share_a_clock_and_events_count_from_the_first(tmp_path: Path) -> None:
    one, two = 1.7e9 + np.arange(500) / 50, 1.7e9 - 2 + np.arange(1500) / 125
    pulse = np.zeros(1500)
    pulse[[375, 1000]] = 1  # 1 s and 6 s after the first device began
    streams = """{x: {files: "*/one.csv", columns: [a], time: t, rate_hz: 50},
                  y: {files: "*/two.csv.gz", columns: [a], time: t, rate_hz: 125, optional: true}}"""
    pattern = "(?P<record>(?P<person>[^/]+))/[^/]+$"
    more = "  derived: {events: {adapter: mine, function: peaks, source: y}}"
    files = {"p1/one.csv": table(one), "p1/two.csv.gz": gzip.compress(table(two, pulse)), "p2/one.csv": table(one)}

    def peaks(values: Any, rate_hz: float) -> Any:
        return np.flatnonzero(values) / rate_hz

    found = run(tmp_path, files, streams, pattern=pattern, more=more, derivations={"mine": {"peaks": peaks}})
    assert found["p1/events"] == pytest.approx([1, 6], abs=1e-6)
    assert found["p1@person"] == "p1"
    assert found["p1/y@start_s"] == pytest.approx(-2, abs=1e-6)
    assert found["p2/y@start_s"] == 0
    assert found["p2/events"].size == found["p2/y"].size == 0

    def refuses(values: Any, rate_hz: float) -> Any:
        raise ValueError("too slow a rate")

    known: dict[str, dict[str, dict[str, Callable[[Any, float], Any]]]] = {
        "p1/y.*too slow": {"mine": {"peaks": refuses}},
        "Did you mean 'peak'": {"mine": {"peak": peaks}},
    }
    for message, derivations in known.items():
        with pytest.raises(UserError, match=message):
            run(tmp_path, {}, streams, pattern=pattern, more=more, derivations=derivations, overwrite=True)
    mixed = streams.replace("time: t, rate_hz: 125", "rate_hz: 125")
    with pytest.raises(UserError, match="with and without time stamps"):
        run(tmp_path, {}, mixed, pattern=pattern, overwrite=True)
    with pytest.raises(UserError, match=r"p2.*expected y"):
        run(tmp_path, {}, streams.replace(", optional: true", ""), pattern=pattern, overwrite=True)


def test_ragged_arrays_become_recordings(tmp_path: Path) -> None:
    stamps = np.r_[np.arange(10) / 10, np.arange(20) / 20]
    stamps[25:] += 1  # twenty rows of the second are missing
    content = npz(a=RAMP, t=stamps, o=[0, 10, 30], r=[10.0, 20.0], who=np.array(["é", "b"]))
    more = "  attributes: {subject: who}"
    found = run(tmp_path, {"x.npz": content}, "key: a, time: t, offsets: o, rate_key: r", more=more)
    assert np.array_equal(found["x_00000/x"], RAMP[:10])
    assert (found["x_00000@subject"], found["x_00001@subject"]) == ("é", "b")
    assert (found["x_00000/x@rate_hz"], found["x_00001/x@rate_hz"]) == (10, 20)
    second = found["x_00001/x"]
    assert len(second) == 40
    assert np.isnan(second[15:35]).all()
    assert np.array_equal(second[35:], RAMP[25:])
    with pytest.raises(UserError, match="fewer entries than recordings"):
        run(
            tmp_path,
            {"x.npz": npz(a=RAMP, o=[0, 10, 30], who=["b"])},
            "key: a, offsets: o, rate_hz: 1",
            more=more,
            overwrite=True,
        )
    with pytest.raises(UserError, match=r"no such column or key.*whom"):
        run(tmp_path, {}, "key: a, offsets: o, rate_hz: 1", more=more.replace("who", "whom"), overwrite=True)


def test_labels_of_rows_follow_them_to_another_grid(tmp_path: Path) -> None:
    times = np.r_[0:2:0.01, 3:5:0.01]
    rows = "".join(f"{t:.4f},{t:.4f},{'rest' if t < 2.5 else 'walk'},{int(t > 2.5)}\n" for t in times)
    more = "  attributes: {activity: activity, code: code}"
    found = run(
        tmp_path, {"x.csv": b"t,a,activity,code\n" + rows.encode()}, "columns: [a], time: t, resample_hz: 10", more=more
    )
    assert found["x/activity"].shape == found["x/code"].shape == found["x/x"].shape
    known = np.isfinite(found["x/x"])
    assert np.array_equal(found["x/activity"][known] == b"walk", found["x/x"][known] > 2.5)
    assert np.array_equal(found["x/code"][known], found["x/x"][known] > 2.5)


def test_several_recordings_need_groups(tmp_path: Path) -> None:
    found = run(tmp_path, {"x.npy": npy(RAMP)}, "rate_hz: 5", records="")
    assert found["x@rate_hz"] == 5
    with pytest.raises(UserError, match="no groups to hold them"):
        run(tmp_path, {"y.npy": npy(RAMP)}, "rate_hz: 5", records="", overwrite=True)


def test_a_pattern_is_checked_with_the_spec(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spec.yaml:6:.*not a regular expression"):
        run(tmp_path, {}, "rate_hz: 5", pattern="(")


def test_a_pause_of_a_real_recording_is_missing(real_data: Path, tmp_path: Path) -> None:
    """The sensor of subject02 stopped for 0.44 s; what follows must not move towards it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/subject02").symlink_to(real_data / "radar_phase_ecg/subject02")
    spec = load_spec("radar_phase_ecg")
    rules = spec.convert.model_copy(update={"derived": {}}) if spec.convert else None
    with h5py.File(convert(spec.model_copy(update={"convert": rules}), tmp_path / "source", tmp_path)) as file:
        values = file["subject02/displacement"][()]
    missing = np.flatnonzero(np.isnan(values))
    assert len(missing) == 21
    assert missing[-1] - missing[0] == 20
    content = readers.read(real_data / "radar_phase_ecg/subject02/radar.csv.gz")
    stamps = content.numbers("Timestamp")
    assert (len(values) - 1) / 50 == pytest.approx(stamps[-1] - stamps[0], abs=0.05)


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.csv", "a/../../*.csv", "**csv", ""])
def test_patterns_of_files_stay_below_the_folder(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spec.yaml:\d+:\d+: convert.streams.x.files.*a pattern|not a pattern"):
        run(tmp_path, {"x.csv": table(RAMP)}, f"{{x: {{files: '{pattern}', rate_hz: 50}}}}")


def test_an_npy_file_with_a_torn_header_is_damaged(tmp_path: Path) -> None:
    content = npy(RAMP).replace(b"'shape': (30,)", b"'shape': (30,'")
    with pytest.raises(UserError, match=r"x.npy: cannot be read as NPY"):
        run(tmp_path, {"x.npy": content}, "rate_hz: 50")


def test_arrays_that_are_none_and_single_numbers_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(npz(a=RAMP))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("b", b"text")
    with pytest.raises(UserError, match=r"x.npz:b: no array; got 'bytes'"):
        run(tmp_path / "1", {"x.npz": buffer.getvalue()}, "key: b, rate_hz: 50")
    with pytest.raises(UserError, match=r"arrays without values.*\(30, 0\)"):
        run(tmp_path / "4", {"x.npy": npy(np.zeros((30, 0)))}, "rate_hz: 50")
    with pytest.raises(UserError, match="single numbers where recordings are expected"):
        run(tmp_path / "2", {"x.npy": npy(3.0)}, "rate_hz: 50")
    with pytest.raises(UserError, match=r"columns of different shapes.*\(30,\).*\(4,\)"):
        run(tmp_path / "3", {"x.npz": npz(a=RAMP, b=RAMP[:4])}, "columns: [a, b], rate_hz: 50")


@pytest.mark.parametrize(("pattern", "name"), [("/*", "''"), ("(?P<record>[.])", r"'\.'")])
def test_a_pattern_that_names_no_recording_is_refused(pattern: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"a\.npy: .*a name that no recording can have.*{name}"):
        run(tmp_path, {"a.npy": npy(np.zeros(50))}, "rate_hz: 50", pattern=pattern)


def test_an_attribute_in_another_encoding_is_kept_as_far_as_it_is_text(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = RAMP
        file["a"].attrs.create("unit", b"\xb5V", dtype=h5py.string_dtype())
    found = run(tmp_path, {"x.h5": (tmp_path / "x.h5").read_bytes()}, "key: a, rate_hz: 5")
    assert found["x/x@unit"] == "\ufffdV"
