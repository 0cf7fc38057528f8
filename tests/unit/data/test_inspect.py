"""Looking into files: every number shown is true of the file, and nothing in it steers program or terminal."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data import inspect as module
from maekit.data.check.check import check
from maekit.data.convert import file_array
from maekit.data.inspect import inspect
from maekit.errors import UserError


def lines(path: Path) -> str:
    return "\n".join(inspect(path))


def test_ranges_are_those_of_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    values[::4] = np.nan
    values[998] = 77
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
        file["x"].attrs["rate_hz"] = 50.0
        file["z"] = np.full(5, 3 + 4j)
        file["full"] = np.array([60000, 60000], dtype=np.float16)
        file["scalar"] = 7
        file["none"] = np.full(3, np.nan)
    monkeypatch.setattr(file_array, "BLOCK_BYTES", 500)
    text = lines(tmp_path / "a.h5")
    assert (
        f"(1000, 3) float32  {np.nanmin(values):.6g} to 77, mean {np.nanmean(values, dtype=float):.6g}, 25.00% missing"
        in text
    )
    assert "rate_hz=50.0" in text
    assert "magnitude 5 to 5" in text
    assert "mean 60000" in text, "the sum does not overflow"
    assert "() int64  7" in text
    assert "all missing" in text
    monkeypatch.setattr(module, "MOST_BYTES", 1200)
    assert "(of the first 100 of 1000 rows)" in lines(tmp_path / "a.h5")
    monkeypatch.setattr(module, "MOST_BYTES", 8)
    assert "not looked into" in lines(tmp_path / "a.h5")


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        inner = file.create_group("inner")
        inner["again"] = inner
        inner["far"] = h5py.ExternalLink("other.h5", "/x")
        inner["soft"] = h5py.SoftLink("/gone")
        file["kind"] = np.dtype("f8")
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("hollow", (1 << 40,), "f8", chunks=(1 << 20,))
    text = lines(tmp_path / "a.h5")
    assert "again/  -> /inner (a link back" in text
    assert "other.h5:/x (not followed" in text
    assert "soft  -> /gone" in text
    assert "kind  a named type" in text
    assert text.count("REFUSED") == 2


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["\x1b[31mred"] = [1]
        file.attrs["note"] = "\x1b]0;title\x07 [bold]"
    (tmp_path / "a.csv").write_bytes(b"\x1b[2Ja,b\n\x1b[31m,1\n")
    for name in ("a.h5", "a.csv"):
        text = lines(tmp_path / name)
        assert "\x1b" not in text
        assert "\\x1b[" in text


def test_plain_formats(tmp_path: Path) -> None:
    rows = "".join(f"{i * 0.02:.2f},{i if i != 3 else ''},up\n" for i in range(30))
    (tmp_path / "t.csv").write_text("time,a,state\n" + rows)
    text = lines(tmp_path / "t.csv")
    assert "rising by 0.02" in text
    assert "a  (30,) float64  0 to 29, mean 14.8966, 3.33% missing" in text
    assert "state  (30,) text, e.g. up" in text
    np.savez(tmp_path / "z.npz", good=np.arange(4.0), bad=np.array([{}], dtype=object))
    text = lines(tmp_path / "z.npz")
    assert "0 to 3" in text
    assert "bad  REFUSED" in text
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("README", "hello")
        for i in range(20):
            archive.writestr(f"r/{i}.csv", "a,b\n1,2\n3,4\n")
    text = lines(tmp_path / "all.zip")
    assert "21 files" in text
    assert "and 9 more" in text
    assert "1 to 3, mean 2" in text
    for name, content, message in (
        ("p.gif", b"GIF89a", "not read"),
        ("m.zip", b"no", "zip"),
        ("h.h5", b"text", "HDF5"),
        ("gone.csv", None, "no such"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            lines(tmp_path / name)


SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: 10}
group: {attribute: subject}
label: {attribute: y, classes: [rest, walk]}
window: {axis: time, length: 10}
split: {test: [b]}
"""


def test_check_says_what_a_spec_finds(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, name in enumerate("ab"):
            file.create_group(name).attrs.update({"subject": name, "y": i})
            file[name]["x"] = np.arange(40.0)
            file[name]["x"][:3] = np.nan
            file[name]["x"][10:17] = np.nan
    spec = load_spec(tmp_path / "spec.yaml")
    text = "\n".join(check(spec, tmp_path, {}))
    assert "2 recordings, 6 usable windows" in text
    assert "left out: 2 (missing share over the budget)" in text
    assert "missing: 10.00% of the values, in 2 of 6 samples examined" in text
    assert "rest 3, walk 3" in text
    assert "train 3, validation 0, test 3" in text
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["b"].attrs["subject"] = "c"
    with pytest.raises(UserError, match="b"):
        list(check(spec, tmp_path, {}))


def test_torn_lines_of_a_table_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"t,x\n1,2\n3,4\n5\0\0\0")
    shown = "\n".join(inspect(tmp_path / "x.csv"))
    assert "1 torn line left out" in shown
    assert "line 4; state `torn: skip`" in shown
    assert "t  (2,)" in shown
