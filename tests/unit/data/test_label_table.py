"""Labels in a table by file name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.convert.convert import convert
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

SPEC = """\
name: sounds
files: "*.h5"
records: "/*"
signal: {path: sound, axes: [time], rate_hz: {attribute: rate_hz}}
group: {attribute: fold}
label: LABEL
window: {axis: time, seconds: 1}
convert:
  record: "(?P<record>.+)[.]wav$"
  streams: {sound: {files: "**/*.wav"}}
  table: TABLE
"""
CLASSES = "{attribute: category, classes: [dog, rain]}"
TABLE = "{file: meta.csv, name: filename, attributes: {category: category, fold: fold}}"
FILES = ("audio/a.wav", "audio/b.wav", "more/c.wav")


def prepare(
    folder: Path, table: str, *, rule: str = TABLE, label: str = CLASSES, files: tuple[str, ...] = FILES
) -> DataSpec:
    for number, name in enumerate(files):
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, 100, np.full(100, number + 1, np.int16))
    (folder / "set/meta.csv").write_text(table)
    (folder / "spec.yaml").write_text(SPEC.replace("LABEL", label).replace("TABLE", rule))
    return load_spec(folder / "spec.yaml")


def labels(folder: Path, spec: DataSpec) -> dict[str, tuple[object, str]]:
    lines: list[str] = []
    convert(spec, folder / "set", folder / "out", tell=lines.append)
    (folder / "lines").write_text("\n".join(lines))
    source = HDF5Windows(spec, folder / "out")
    assert source.labels is not None
    return {
        "abcd"[int(source[i].signal.max()) - 1]: (source.labels[i].item(), str(source.groups[i]))
        for i in range(len(source))
    }


@pytest.mark.parametrize(
    "names",
    [
        ("a.wav", "b.wav", "c.wav"),
        ("a", "b", "c"),
        ("audio/a.wav", "audio/b.wav", "more/c.wav"),
        ("./audio/a", "audio\\b", "c"),
        ("/data/set/audio/a.wav", "/data/set/audio/b.wav", "/data/set/more/c.wav"),
    ],
)
def test_rows_find_their_files(tmp_path: Path, names: tuple[str, ...]) -> None:
    table = "filename,fold,category\n" + "".join(
        f"{name},{fold},{kind}\n"
        for name, fold, kind in zip(names, ("x", "y", "x"), ("rain", "dog", "dog"), strict=True)
    )
    assert labels(tmp_path, prepare(tmp_path, table)) == {"a": (1, "x"), "b": (0, "y"), "c": (0, "x")}


def test_a_table_without_a_header_gives_values(tmp_path: Path) -> None:
    rule = "{file: meta.csv, name: 0, header: false, attributes: {rate: 1, fold: 2}}"
    spec = prepare(tmp_path, "a,61.5,s1\nb,70,s2\nc,55,s2\n", rule=rule, label="{attribute: rate}")
    assert labels(tmp_path, spec) == {"a": (61.5, "s1"), "b": (70.0, "s2"), "c": (55.0, "s2")}


def test_recordings_without_a_row_or_with_an_empty_cell_have_no_label(tmp_path: Path) -> None:
    rule = "{file: meta.csv, name: filename, attributes: {category: category}}"
    table = "filename,category\na.wav,dog\nb.wav,\nd.wav,rain\n"
    spec = prepare(tmp_path, table, rule=rule, files=(*FILES, "d.wav")).model_copy(update={"group": None})
    assert set(labels(tmp_path, spec)) == {"a", "d"}
    assert "1 of 4 recordings have no row" in (tmp_path / "lines").read_text()


@pytest.mark.parametrize(
    ("table", "files", "message"),
    [
        ("filename,fold,category\na.wav,1,dog\nz.wav,2,rain\n", FILES, r"1 of 2 names match no file; got 'z.wav'"),
        ("filename,fold,category\na.wav,1,dog\naudio/a,2,rain\n", FILES, r"two rows for one recording.*rows 1 and 2"),
        ("filename,fold,category\na.wav,1,dog\n", ("x/a.wav", "y/a.wav"), r"matches several recordings.*x_a, y_a"),
        ("filename,fold,kind\na.wav,1,dog\n", FILES, r"no such column or key; got 'category'"),
        ("filename,fold,category\n,1,dog\nb.wav,1,dog\n", FILES, "a row without a file name"),
    ],
)
def test_rows_that_do_not_find_one_file_are_refused(
    tmp_path: Path, table: str, files: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        convert(prepare(tmp_path, table, files=files), tmp_path / "set", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_no_table_and_an_attribute_in_no_file_lead_to_the_key(tmp_path: Path) -> None:
    spec = prepare(tmp_path, "filename,fold,category\n")
    (tmp_path / "set/meta.csv").unlink()
    with pytest.raises(UserError, match="not one table"):
        convert(spec, tmp_path / "set", tmp_path / "out")
    text = SPEC.replace("LABEL", CLASSES).replace("  table: TABLE", "  attributes: {category: category}")
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UserError, match="`table` in `convert`"):
        convert(load_spec(tmp_path / "spec.yaml"), tmp_path / "set", tmp_path / "out")
