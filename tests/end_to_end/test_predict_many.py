"""`maekit predict` of many recordings: as one after another, whatever one of them is like, and nothing over anything else."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from maekit.cli.main import app
from maekit.config.data_spec import load_spec
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.predict import predict, predict_many
from maekit.inference.recording_files import PredictionNames, find_recording_files
from maekit.inference.windows import run_model
from maekit.training.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.data.sample import Sample

RATE = 50.0


def record(path: Path, seconds: float, seed: int = 0, *names: str) -> Path:
    """Recordings without labels, compressed in chunks of 5 s."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names or ("person",)):
            time = np.arange(round(seconds * RATE)) / RATE
            noise = 0.01 * np.random.default_rng(seed + number).standard_normal(len(time))
            chest = 3 * np.sin(2 * np.pi * 0.25 * time) + 0.2 * np.sin(2 * np.pi * (1 + 0.1 * seed) * time) + noise
            options = {"chunks": (250,), "compression": "gzip"}
            file.create_group(name).create_dataset("displacement", data=chest.astype(np.float32), **options)
            file[name].attrs["rate_hz"] = RATE
    return path


def damage(path: Path) -> Path:
    """Overwrite the fifth chunk."""
    with h5py.File(path) as file:
        chunk = file["person/displacement"].id.get_chunk_info(4)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(bytes(chunk.size))
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def same(path: Path, other: Path) -> None:
    rows, others = read(path), read(other)
    assert [(row["start_s"], row["reason"]) for row in rows] == [(row["start_s"], row["reason"]) for row in others]
    numbers, wanted = ([float(row["bpm"] or "nan") for row in table] for table in (rows, others))
    np.testing.assert_allclose(numbers, wanted, rtol=2e-5)


def test_equals_one_after_the_other(heart_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of several recordings are in one batch, and two files of one name in two folders stay apart."""
    batches = []

    def counting(run: Any, prepared: Any, *others: Any) -> list[Any]:
        batches.append([len(one.windows) for one in prepared])
        return run_model(run, prepared, *others)

    monkeypatch.setattr("maekit.inference.together.run_model", counting)
    files = [record(tmp_path / "a" / "x.h5", 30, 1), record(tmp_path / "b" / "x.h5", 45, 2)]
    both = record(tmp_path / "b" / "two.h5", 20, 3, "anna", "bela")
    lines: list[str] = []
    options: dict[str, Any] = {"smoothing": 3, "hop_s": 0.5}
    found = predict_many(
        heart_run, [files[0], tmp_path / "b", files[1]], tmp_path / "out", report=lines.append, **options
    )
    assert batches == [[41, 21, 2], [19, 45], [26]]
    assert not found.failures
    assert found.error() is None
    wanted = {
        "a_x_person_predicted": files[0],
        "b_x_person_predicted": files[1],
        "two_anna_predicted": both,
        "two_bela_predicted": both,
    }
    names = {f"{name}.{ending}" for name in wanted for ending in ("csv", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, "predictions.json"}
    monkeypatch.undo()
    for name, file in wanted.items():
        alone: dict[str, Any] = {"record": name.split("_")[1]} if file == both else {}
        predict(heart_run, file, tmp_path / f"{name}.csv", **alone, **options)
        same(tmp_path / "out" / f"{name}.csv", tmp_path / f"{name}.csv")
    overview = json.loads((tmp_path / "out" / "predictions.json").read_text())
    told = {one["predictions"]: (one["file"], one["record"]) for one in overview["recordings"]}
    assert told["two_bela_predicted.csv"] == (str(both), "/bela")
    assert told["b_x_person_predicted.csv"] == (str(files[1]), "/person")
    assert overview["real_time_factor"] == pytest.approx((30 + 45 + 2 * 20) / found.took_s)
    assert len(lines) == 4
    assert "times real time" in list(found.lines())[-1]


def test_a_damaged_one_among_many_is_told_at_the_end(
    heart_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stream.PIECE_BYTES", "hdf5.digest._BYTES"):  # as if the recordings were long
        monkeypatch.setattr(f"maekit.data.{name}", 1000)
    record(tmp_path / "in" / "a.h5", 30)
    damage(record(tmp_path / "in" / "b.h5", 90))
    (tmp_path / "in" / "c.h5").write_text("no HDF5\n")
    record(tmp_path / "in" / "d.h5", 5)
    record(tmp_path / "in" / "e.h5", 20)
    arguments = ["predict", str(heart_run), str(tmp_path / "in"), "--to", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError)
    text = str(done.exception)
    assert "3 of 5" in text
    for word in ("in/b.h5", "c.h5: not an HDF5 file", "d.h5:/person: a recording shorter than a window"):
        assert word in text
    assert "2 recordings, " in done.stdout
    assert "times real time" in done.stdout
    partial = tmp_path / "out" / "b_person_predicted.partial.csv"
    assert str(partial) in text
    assert len(read(partial)) == 11, "all windows before the damage"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    written = [f"{name}_person_predicted.{ending}" for name in "ae" for ending in ("csv", "svg")]
    assert names == {*written, partial.name, "predictions.json"}
    predict(heart_run, tmp_path / "in" / "e.h5", tmp_path / "e.csv")
    same(tmp_path / "out" / "e_person_predicted.csv", tmp_path / "e.csv")
    failures = json.loads((tmp_path / "out" / "predictions.json").read_text())["failures"]
    told = sorted(one["recording"].removeprefix(f"{tmp_path / 'in'}/") for one in failures)
    assert told == ["b.h5:/person", "c.h5", "d.h5:/person"]
    # Nothing is replaced unless that is asked for.
    assert "--overwrite" in str(CliRunner().invoke(app, arguments).exception)


def test_a_signal_keeps_what_was_predicted(heart_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(*arguments: Any) -> Iterator[tuple[int, Sample]]:
        for i, found in enumerate(stream(*arguments)):
            if i == 30:
                os.kill(os.getpid(), signal.SIGTERM)
            yield found

    monkeypatch.setattr("maekit.inference.prediction.stream", interrupting)
    files = [record(tmp_path / name, seconds) for name, seconds in (("a.h5", 20), ("b.h5", 60), ("c.h5", 20))]
    with pytest.raises(StoppedError, match="after 42 rows, of which those of 1 recordings are complete") as stopped:
        predict_many(heart_run, files, tmp_path / "out")
    assert stopped.value.exit_code == 143
    names = {path.name for path in (tmp_path / "out").glob("*.csv")}
    assert names == {"a_person_predicted.csv", "b_person_predicted.partial.csv"}


def test_what_makes_no_sense_for_many_is_named(heart_run: Path, tmp_path: Path) -> None:
    one, two = record(tmp_path / "a.h5", 20), record(tmp_path / "b.h5", 20)
    (tmp_path / "empty").mkdir()
    for arguments, word in (
        ([one, two, "--to", tmp_path / "x.csv"], "expected a folder"),
        ([one, two, "--picture", "x.png"], "--picture"),
        ([tmp_path / "empty"], "without recordings"),
        ([one, two, "--smoothing", 2], "odd"),
        ([record(tmp_path / "c.h5", 20, 0, "p", "q"), "--to", tmp_path / "x.csv"], "a folder with --to"),
    ):
        done = CliRunner().invoke(app, ["predict", str(heart_run), *map(str, arguments)])
        assert isinstance(done.exception, UserError), arguments
        assert word in str(done.exception)
    assert not (tmp_path / "x.csv").exists()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b", "A", "a/b"]), st.sampled_from(["x", "X", "b_x", "a_b_x", "x_p_predicted"])
        ),
        min_size=1,
        unique=True,
    ),
    st.lists(st.sampled_from(["/", "/p", "/p/q", "/p_q", "/P"]), min_size=1, unique=True),
)
def test_no_two_names_are_one(files: list[tuple[str, str]], records: list[str]) -> None:
    root = Path("/nowhere")
    inputs = [root / folder / f"{stem}.{ending}" for folder, stem in files for ending in ("csv", "h5")]
    names = PredictionNames(root, inputs)
    places = [names.place(file, path) for file in inputs for path in records]
    assert len({str(place).casefold() for place in places}) == len(places)
    assert not {str(place).casefold() for place in places} & {str(file).casefold() for file in inputs}
    assert all(place.parent == root and place.suffix == ".csv" for place in places)
    assert "nowhere" not in "".join(place.name for place in places if len(files) == 1)


def test_folders_are_searched_for_what_the_spec_reads(tmp_path: Path) -> None:
    for name in ("a.csv", "sub/b.csv", "sub/c.H5", ".hidden/d.h5", ".e.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = "name: s\nfiles: '*.h5'\nsignal: {path: x, axes: [time], rate_hz: 20}\n"
    (tmp_path / "plain.yaml").write_text(text)
    convert = "convert: {record: '(?P<record>.+)[.]csv', streams: {x: {files: '**/*.csv', columns: [x]}}}\n"
    (tmp_path / "tables.yaml").write_text(text + convert)
    for spec, wanted in (("plain", ["sub/c.H5"]), ("tables", ["a.csv", "sub/b.csv", "sub/c.H5"])):
        found = find_recording_files([tmp_path], load_spec(str(tmp_path / f"{spec}.yaml")))
        assert [path.relative_to(tmp_path).as_posix() for path in found] == wanted
    shutil.rmtree(tmp_path / "sub")
    with pytest.raises(UserError, match="without recordings"):
        find_recording_files([tmp_path], load_spec(str(tmp_path / "plain.yaml")))
