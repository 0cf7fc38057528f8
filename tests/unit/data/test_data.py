"""Reading: what a spec means, and what every kind of broken file gets (value, expectation, place, mend; nothing lost)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maekit.config.data_spec import DataSpec, Window, load_spec
from maekit.config.split_spec import Folds, Split
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.images.folder import ImageFolderSource
from maekit.data.images.picture import read_picture
from maekit.data.inspect import inspect
from maekit.data.splits import resolve_split, select_labelled
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


def good(file: h5py.File) -> None:
    for i, name in enumerate("ab"):
        group = file.create_group(name)
        group.attrs.update({"rate_hz": 10.0, "subject": name})
        group["x"] = np.arange(40.0) + i
        group["y"] = np.r_[np.zeros(20), np.ones(20)]


def write(folder: Path, change: Callable[[h5py.File], object] = lambda file: None) -> Path:
    with h5py.File(folder / "data.h5", "w") as file:
        good(file)
        change(file)
    return folder


def replace(path: str, **dataset: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, **dataset)

    return change


def link(path: str, target: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[path]
        file[path] = target

    return change


def virtual(file: h5py.File) -> None:
    del file["a/x"]
    layout = h5py.VirtualLayout((40,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (40,))
    file.create_virtual_dataset("a/x", layout)


def outside(file: h5py.File) -> None:
    del file["a/x"]
    Path(file.filename).with_name("raw.bin").write_bytes(bytes(320))
    file.create_dataset("a/x", (40,), "f8", external=[("raw.bin", 0, 320)])


def unwritten(file: h5py.File) -> None:
    del file["a/x"]
    file.create_dataset("a/x", (40,), "f8", chunks=(10,))[:10] = 1


FULL = np.full(40, np.nan)

BAD = {
    "external link": (link("a/x", h5py.ExternalLink("other.h5", "/x")), ["data.h5:/a/x", "external link", "other.h5"]),
    "dangling link": (link("a/x", h5py.SoftLink("/gone")), ["a soft link to nothing"]),
    "circular link": (link("a/x", h5py.SoftLink("/a/x")), ["round in a circle"]),
    "virtual": (virtual, ["a virtual dataset"]),
    "external storage": (outside, ["external storage", "raw.bin"]),
    "unwritten chunks": (unwritten, ["never written", "1 of 4 chunks"]),
    "never written": (replace("a/x", shape=(40,), dtype="f8"), ["never written"]),
    "declared far beyond": (replace("a/x", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,)), ["declares 8192.0 GiB"]),
    "strings": (replace("a/x", data=np.array([b"a"] * 40)), ["data.h5:/a/x"]),
    "objects": (replace("a/x", data=["a"] * 40, dtype=h5py.string_dtype()), ["data.h5:/a/x"]),
    "compound": (replace("a/x", data=np.zeros(40, dtype=[("u", "f4"), ("v", "f4")])), ["data.h5:/a/x"]),
    "complex": (replace("a/x", data=np.ones(40, dtype=complex)), ["complex"]),
    "no rows": (replace("a/x", data=np.zeros(0)), ["zero rows"]),
    "all missing": (
        lambda f: (replace("a/x", data=FULL)(f), replace("b/x", data=FULL)(f)),
        ["no window is left", "missing"],
    ),
    "axes": (replace("a/x", data=np.zeros((40, 3))), ["(40, 3)"]),
    "missing dataset": (lambda f: f.move("a/x", "a/xx"), ["data.h5:/a/x", "a/xx"]),
    "no labels": (lambda f: f.__delitem__("a/y"), ["data.h5:/a/y"]),
    "few labels": (replace("a/y", data=np.zeros(39)), ["fewer labels than samples", "(40,)"]),
    "one class": (
        lambda f: (replace("a/y", data=np.zeros(40))(f), replace("b/y", data=np.zeros(40))(f)),
        ["only one class", "rest"],
    ),
    "unknown class": (replace("a/y", data=np.full(40, 2.0)), ["an unknown class", "2.0"]),
    "no rate": (lambda f: f["a"].attrs.__delitem__("rate_hz"), ["rate_hz"]),
    "bad rate": (lambda f: f["a"].attrs.__setitem__("rate_hz", -3.0), ["-3.0"]),
    "no group": (lambda f: f["a"].attrs.__delitem__("subject"), ["subject"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    change, expected = BAD[name]
    write(tmp_path, change)
    with pytest.raises(UserError) as error:
        HDF5Windows(spec_of(tmp_path), tmp_path)
    for part in expected:
        assert part in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"time,value\n1,2\n", "not an HDF5 file"), (b"", "not an HDF5 file"), (None, "no file matches|an empty folder")],
)
def test_files_that_are_no_hdf5(content: bytes | None, message: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    root = tmp_path / "data"
    root.mkdir()
    if content is not None:
        (root / "data.h5").write_bytes(content)
    with pytest.raises(UserError, match=message):
        HDF5Windows(spec, root)
    with pytest.raises(UserError, match="no such folder"):
        HDF5Windows(spec, tmp_path / "gone")


def test_a_field_of_compound_values_is_converted_as_its_error_says(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["df/table"] = np.zeros(40, dtype=[("u", "f4"), ("v", "f4")])
    text = "name: t\nfiles: '*.h5'\nsignal: {path: df/table/v, axes: [row]}\nwindow: {axis: row, length: 20}\n"
    with pytest.raises(UserError, match=r"a\.h5:/df/table/v: a field of compound values.*key: df/table\.v"):
        HDF5Windows(spec_of(tmp_path, text), tmp_path)


def test_truncated_and_folder(tmp_path: Path) -> None:
    spec, root = spec_of(tmp_path), tmp_path / "data"
    root.mkdir()
    write(root)
    whole = (root / "data.h5").read_bytes()
    (root / "data.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or truncated"):
        HDF5Windows(spec, root)
    (root / "data.h5").unlink()
    (root / "data.h5").mkdir()
    with pytest.raises(UserError, match="a folder where"):
        HDF5Windows(spec, root)


@given(
    dtype=st.sampled_from(["i1", "u1", "<i2", ">i2", "<u4", ">i8", "<f4", ">f4", "<f8", ">f8", "?"]),
    points=st.integers(10, 60),
    length=st.integers(1, 20),
    hop=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None)
def test_windows_of_any_type(
    dtype: str, points: int, length: int, hop: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("types")
    values = (
        np.arange(points * 2).reshape(points, 2) % 2 if dtype == "?" else np.arange(points * 2).reshape(points, 2) % 120
    ).astype(dtype)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = values
    text = "name: t\nfiles: '*.h5'\nsignal: {path: x, axes: [row, channel]}\n"
    spec = spec_of(folder, text + f"window: {{axis: row, length: {max(length, 2)}, hop: {hop}}}\n")
    length = max(length, 2)
    if points < length:
        return
    source = HDF5Windows(spec, folder)
    assert len(source) == (points - length) // hop + 1
    for i in (0, len(source) - 1):
        sample = source[i]
        assert np.array_equal(sample.signal, values[i * hop : i * hop + length].T.astype(np.float32))
        assert sample.signal.dtype in (np.float32, np.float64)  # float64 where float32 would round whole numbers
        assert sample.signal.dtype.isnative
        assert sample.valid is None


def test_missing_is_carried_and_over_budget_is_dropped(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["a/x"][3:5] = np.nan
        file["b/x"][10:13] = np.inf

    source = HDF5Windows(spec_of(tmp_path), write(tmp_path, change))
    assert len(source) == 7
    assert list(source.dropped.values()) == [1]
    valid = source[0].valid
    assert valid is not None
    assert np.flatnonzero(~valid).tolist() == [3, 4]
    assert source[1].valid is None


def test_places_in_time_are_in_seconds_whatever_the_rate(tmp_path: Path) -> None:
    write(tmp_path, lambda file: file["b"].attrs.update(rate_hz=20.0))
    spec = spec_of(tmp_path, SPEC.replace("length: 10", "seconds: 1, hop_seconds: 0.5"))
    source = HDF5Windows(spec, tmp_path)
    assert source.window_s == 1.0
    assert source.positions.tolist() == [*([0, 0.5 * i] for i in range(7)), [1, 0], [1, 0.5], [1, 1.0]]
    in_rows = HDF5Windows(spec_of(tmp_path), tmp_path)
    assert in_rows.window_s is None, "ten rows are one second of the first and half a second of the other"
    assert in_rows.positions[-1].tolist() == [1, 1.5]


def test_padding_is_missing(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, SPEC.replace("length: 10", "length: 50, pad: true").replace("budget: 0.2", "budget: 0.3"))
    source = HDF5Windows(spec, write(tmp_path, lambda f: f["a/y"].__setitem__(slice(None), 1)))
    assert source.info.shape == (1, 50)
    valid = source[0].valid
    assert valid is not None
    assert valid.sum() == 40
    assert not valid[40:].any()


def test_files_are_opened_by_each_process(tmp_path: Path) -> None:
    source = HDF5Windows(spec_of(tmp_path), write(tmp_path))
    first = source[0].signal.copy()
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(source[0].signal, first) for _ in range(20))
        os._exit(0 if same else 1)
    assert all(np.array_equal(source[0].signal, first) for _ in range(20))
    assert os.waitpid(child, 0)[1] == 0


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    one = HDF5Windows(spec, write(tmp_path)).fingerprint()
    other = tmp_path / "copy"
    other.mkdir()
    (other / "data.h5").write_bytes((tmp_path / "data.h5").read_bytes())
    assert HDF5Windows(spec, other).fingerprint() == one
    with h5py.File(other / "data.h5", "r+") as file:
        file["a/x"][0] = 99
    assert HDF5Windows(spec, other).fingerprint() != one


def test_splits() -> None:
    groups = np.array(list("aabbccddee"))
    found = resolve_split(groups, Split(validation=["a"], test=["b", "c"]), "here")
    assert {side: sorted(set(groups[i])) for side, i in found.items()} == {
        "train": ["d", "e"],
        "validation": ["a"],
        "test": ["b", "c"],
    }
    tests = [set(groups[resolve_split(groups, Folds(folds="leave_one_out", fold=f), "here")["test"]]) for f in range(5)]
    assert sorted(map(min, tests)) == list("abcde")
    for fold in range(2):
        parts = [set(groups[i]) for i in resolve_split(groups, Folds(folds=2, fold=fold), "here").values()]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert set.union(*parts) == set("abcde")
    for split, message in ((Split(test=["f"]), "not in the data"), (Split(test=list("abcde")), "no group is left")):
        with pytest.raises(UserError, match=message):
            resolve_split(groups, split, "here")
    with pytest.raises(ValueError, match="in both"):
        Split(validation=["a"], test=["a"])
    few = select_labelled(
        np.arange(10), groups, np.arange(10) % 2, labelled_groups=2, fraction=0.5, stratify=True, seed=1, location=""
    )
    assert len(set(groups[few])) <= 2
    assert set(few % 2) == {0, 1}


def test_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("train", "test"):
        for label in ("cat", "<b>dog"):
            (tmp_path / side / label).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)).save(tmp_path / side / label / "a.png")
    spec = DataSpec(name="p", kind="image_folder")
    source = ImageFolderSource(spec, tmp_path)
    assert source.classes == ("<b>dog", "cat")
    assert source[0].signal.shape == (3, 9, 7)
    assert sorted(set(source.groups)) == ["test", "train"]
    gray = rng.integers(0, 255, (5, 6), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(read_picture(tmp_path / "gray.png"), np.stack([gray] * 3))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(read_picture(tmp_path / "deep.png"), np.stack([gray] * 3))
    Image.fromarray(np.stack([gray] * 4, axis=-1), mode="CMYK").save(tmp_path / "cmyk.jpg")
    assert read_picture(tmp_path / "cmyk.jpg").shape == (3, 5, 6)
    Image.new("1", (10_001, 10_001)).save(tmp_path / "giant.png")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    for name, message in (("giant.png", "at most 89 megapixels"), ("torn.jpg", "cannot be read as a picture")):
        with pytest.raises(UserError, match=message):
            read_picture(tmp_path / name)
    (tmp_path / "train/empty").mkdir()
    with pytest.raises(UserError, match="a class folder without pictures"):
        ImageFolderSource(spec, tmp_path)


def test_inspect(tmp_path: Path) -> None:
    write(
        tmp_path,
        lambda f: (
            f["a/x"].__setitem__(slice(0, 4), np.nan),
            f["b"].__setitem__("far", h5py.ExternalLink("o.h5", "/x")),
        ),
    )
    text = "\n".join(inspect(tmp_path / "data.h5"))
    assert "10.00% missing" in text
    assert "rate_hz=10.0" in text
    assert "not followed" in text
    (tmp_path / "t.csv").write_text("t;a\n" + "".join(f"{20 * i};{i}\n" for i in range(30)))
    assert "0 to 29" in "\n".join(inspect(tmp_path / "t.csv"))
    (tmp_path / "picture.gif").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="a format that is not read"):
        list(inspect(tmp_path / "picture.gif"))


def test_windows_say_one_unit() -> None:
    for options in ({}, {"seconds": 1, "length": 3}, {"seconds": 1, "hop": 3}):
        with pytest.raises(ValueError, match="window"):
            Window(**options)  # type: ignore[arg-type]


def test_names_of_attributes_in_another_encoding_are_passed_over(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(40)
        file["x"].attrs.create(b"caf\xe9", 1)
        file["x"].attrs["rate"] = 50
    text = "name: t\nfiles: '*.h5'\nsignal: {path: x, axes: [time], rate_hz: {attribute: hz}}\n"
    with pytest.raises(UserError, match=r"no attribute 'hz'.*there are rate"):
        HDF5Windows(spec_of(tmp_path, text + "window: {axis: time, length: 20}\n"), tmp_path)
