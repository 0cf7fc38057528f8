"""`maekit predict`: estimates along a recording, in constant memory, equal to evaluation, none where nothing can be seen."""

from __future__ import annotations

import json
import os
import signal
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from chest_recordings import RATE, chest, read, record
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.build import training_stats
from maekit.config.data_spec import DataSpec
from maekit.data.hdf5.recording import RecordingReader
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.predict import predict
from maekit.inference.writers import UnfinishedFile, check_place
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune
from maekit.tasks.label_kinds.estimates import Estimate, EstimateOutput
from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun
from maekit.tasks.regression import Regression
from maekit.training.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from maekit.data.sample import Sample


def test_equals_evaluation(heart_run: Path, cohort: Path, tmp_path: Path) -> None:
    """The same windows, one stream and one by one, with labels and without, give the same numbers."""
    found = predict(
        heart_run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_001", hop_s=5, gate=False
    )
    _, wanted = predictions(heart_run, side="test")
    rows = read(found.location)
    assert found.rows == len(rows) == len(wanted["output"]) == 5
    np.testing.assert_allclose([float(row["bpm"]) for row in rows], wanted["output"], rtol=1e-5)
    assert [float(row["start_s"]) for row in rows] == [0, 5, 10, 15, 20]
    assert [float(row["time_s"]) for row in rows] == [5, 10, 15, 20, 25]
    assert ">label<" in found.location.with_suffix(".svg").read_text()


def test_needs_no_training_data(heart_run: Path, tmp_path: Path, cohort: Path) -> None:
    """A run that was moved away from its data works as before; one without what it was trained on asks for them."""
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "data_spec.yaml", training_stats.FILE):
        text = (heart_run / name).read_text()
        (moved / name).write_text(text.replace(str(cohort), "/nowhere"))
    (moved / "checkpoints").symlink_to(heart_run / "checkpoints")
    for folder, name in ((heart_run, "here.csv"), (moved, "there.csv")):
        predict(folder, cohort / "vital_signs.h5", tmp_path / name, record="person_002")
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "there.csv").read_text()
    (moved / training_stats.FILE).unlink()
    with pytest.raises(UserError, match="no such folder"):
        predict(moved, cohort / "vital_signs.h5", tmp_path / "third.csv", record="person_002")


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(0, 120),
    length=st.integers(2, 30),
    hop=st.integers(1, 60),
    chunk=st.integers(1, 40),
    piece=st.integers(1, 400),
    time_first=st.booleans(),
)
def test_stream_reads_what_windows_are(
    rows: int, length: int, hop: int, chunk: int, piece: int, time_first: bool
) -> None:
    """Whatever chunks, pieces and hops, a window from the stream is that slice of the recording."""
    import tempfile
    from unittest import mock

    rows = max(rows, 1)
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    values[::7] = np.nan
    axes = ["time", "channel"] if time_first else ["channel", "time"]
    spec = DataSpec.model_validate(
        {
            "name": "x",
            "files": "*",
            "signal": {"path": "x", "axes": axes, "rate_hz": 10},
            "window": {"axis": "time", "length": length, "hop": hop, "pad": True},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.h5"
        chunks = (min(chunk, rows), 2)
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "x", data=values if time_first else values.T, chunks=chunks if time_first else chunks[::-1]
            )
        reader = RecordingReader(spec)
        with open_hdf5(path) as file, mock.patch("maekit.data.stream.PIECE_BYTES", piece):
            recording = reader.describe(file, path, "/")
            found = list(stream(reader, file, recording))
            starts = [start for start, _ in reader.windows(recording)]
    assert [start for start, _ in found] == starts
    for start, sample in found:
        wanted = np.full((length, 2), np.nan)
        part = values[start : start + length]
        wanted[: len(part)] = part
        np.testing.assert_array_equal(sample.signal, wanted.T)
        measured = np.ones(length, bool) if sample.valid is None else sample.valid
        np.testing.assert_array_equal(measured, np.isfinite(wanted).all(1))


def test_memory_does_not_grow(heart_run: Path, tmp_path: Path) -> None:
    """Six hours take as much as a quarter of an hour (with pieces of 64 KiB, so that both have several), whose digest is of less."""
    from unittest import mock

    peaks = []
    quarter = chest(900, RATE)
    for name, times in (("warm", 1), ("short", 1), ("long", 24)):
        path = record(tmp_path / f"{name}.h5", np.tile(quarter, times), RATE)
        with mock.patch("maekit.data.stream.PIECE_BYTES", 2**16):
            tracemalloc.start()
            found = predict(heart_run, path, tmp_path / f"{name}.csv", hop_s=60)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert found.rows == len(read(found.location))
    assert peaks[2] < 1.1 * peaks[1] + 2**19


CONVERT = """
convert:
  streams:
    displacement: {files: "people/*.csv", columns: [mm], time: s}
    ecg: {files: "ecg/*.csv", columns: [mv], time: s}
"""


def test_a_table_is_read_by_the_rules_of_the_data_spec(heart_run: Path, tmp_path: Path) -> None:
    values = chest(30, RATE).astype(np.float32)
    rows = "".join(f"{i / RATE:.2f},{value!r}\n" for i, value in enumerate(values.tolist()))
    (tmp_path / "new one.csv").write_text(f"s,mm\n{rows}")
    from_hdf5 = read(predict(heart_run, record(tmp_path / "same.h5", values, RATE), tmp_path / "a.csv").location)
    with pytest.raises(UserError, match=r"not an HDF5 file, and the data spec has no rules.*--spec"):
        predict(heart_run, tmp_path / "new one.csv", tmp_path / "b.csv")
    spec = yaml.safe_load((heart_run / "data_spec.yaml").read_text())
    spec["signal"]["rate_hz"] = {"attribute": "rate_hz"}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec) + CONVERT)
    found = predict(heart_run, tmp_path / "new one.csv", tmp_path / "b.csv", spec=str(tmp_path / "spec.yaml"))
    assert read(found.location) == from_hdf5
    (tmp_path / "torn.csv").write_text("s,mm\n0,x\n")
    with pytest.raises(UserError, match=r"torn\.csv"):
        predict(heart_run, tmp_path / "torn.csv", tmp_path / "c.csv", spec=str(tmp_path / "spec.yaml"))


def test_a_recording_that_the_run_has_seen_is_named(heart_run: Path, cohort: Path, tmp_path: Path) -> None:
    sides = {}
    with h5py.File(cohort / "vital_signs.h5") as file:
        names = list(file)
        values = file[names[0]]["displacement"][()]
    for name in names:
        result = predict(heart_run, cohort / "vital_signs.h5", tmp_path / f"{name}.csv", record=name)
        sides[name] = result.side
        assert any("in the training" in line for line in result.lines()) == (result.side == "train")
    assert sides["person_001"] == "test"
    assert "train" in sides.values()
    copy = record(tmp_path / "copy.h5", values, RATE, "somebody")
    assert predict(heart_run, copy, tmp_path / "copy.csv").side == sides[names[0]]
    assert predict(heart_run, record(tmp_path / "new.h5", values + 1, RATE), tmp_path / "new.csv").side == ""


def test_hdf5_says_where_it_comes_from(heart_run: Path, cohort: Path, tmp_path: Path) -> None:
    out = predict(heart_run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_003", smoothing=3).location
    found = predict(heart_run, cohort / "vital_signs.h5", tmp_path / "same.h5", record="person_003", smoothing=3)
    with h5py.File(found.location) as file:
        wanted = [float(row["bpm"] or "nan") for row in read(out)]
        np.testing.assert_allclose(file["bpm"][:], wanted, rtol=1e-5)
        assert {len(file[name]) for name in file} == {found.rows}
        assert file["reason"].asstr()[0] == read(out)[0]["reason"]
        attributes = dict(file.attrs)
    assert attributes["complete"]
    assert attributes["smoothing"] == 3
    assert attributes["record"] == "/person_003"
    assert len(attributes["weights_sha256"]) == 64
    assert not list(tmp_path.glob(".*"))


def test_json_has_the_rows_of_the_table(heart_run: Path, cohort: Path, tmp_path: Path) -> None:
    table = read(predict(heart_run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_003").location)
    document = json.loads(
        predict(
            heart_run, cohort / "vital_signs.h5", tmp_path / "document.json", record="person_003"
        ).location.read_text()
    )
    assert document["complete"]
    assert [list(row) for row in document["rows"]] == [list(row) for row in table]
    wanted = [float(row["bpm"]) if row["bpm"] else None for row in table]
    assert [row["bpm"] for row in document["rows"]] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("ending", ["csv", "h5"])
def test_rows_before_an_interruption_are_kept_beside_the_old_result(tmp_path: Path, ending: str) -> None:
    location, partial = tmp_path / f"out.{ending}", tmp_path / f"out.partial.{ending}"
    location.write_text("of yesterday")
    row = Estimate(0, 10, 70.0, 2.0)
    run: Any = TrainedRun(tmp_path, None, None, None)  # type: ignore[arg-type]
    output = EstimateOutput(run, PredictOptions(), names=("bpm", "uncertainty"), unit="bpm")

    def interrupted() -> None:
        with UnfinishedFile(location, output, {"run": "r"}) as unfinished:
            unfinished.add([row, row])
            assert not partial.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert caught.value.__notes__ == [f"What was predicted before is in {partial}."]
    assert location.read_text() == "of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {location.name, partial.name}
    if ending == "csv":
        assert [float(r["bpm"]) for r in read(partial)] == [70, 70]
    else:
        with h5py.File(partial) as file:
            assert file["bpm"][:].tolist() == [70, 70]
            assert not file.attrs["complete"]
    with pytest.raises(UserError, match="overwrite"):
        check_place(location, "--to", EstimateOutput.endings, overwrite=False)


def test_wrong_recordings_are_named(heart_run: Path, cohort: Path, tmp_path: Path) -> None:
    """What a person can give wrongly, each with a word on what is right; nothing is written."""
    good = record(tmp_path / "good.h5", chest(30, RATE), RATE)
    text = tmp_path / "a.csv"
    text.write_text("time,value\n0,1\n")
    pair = record(tmp_path / "pair.h5", chest(30, RATE), RATE)
    with h5py.File(pair, "a") as file:
        file.copy("person_000", "person_001")
    wrong: list[tuple[dict[str, object], str]] = [
        ({"file": text}, "maekit data convert"),
        ({"file": cohort / "vital_signs.h5"}, "--record"),
        ({"file": pair, "record": "person_002"}, "no such recording"),
        ({"smoothing": 2}, "odd"),
        ({"to": tmp_path / "out.txt"}, "ends in"),
        ({"to": tmp_path / "none" / "out.csv"}, "no such folder"),
        ({"to": good}, "overwrite"),
        ({"to": good, "overwrite": True}, "the recording itself"),
    ]
    for given_, word in wrong:
        arguments = {"file": good, "to": tmp_path / "out.csv"} | given_
        with pytest.raises(UserError, match=word):
            predict(heart_run, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out.csv").exists()


def test_a_signal_stops_between_rows(heart_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: what was estimated until then is there, in columns of one length, and marked incomplete."""

    def interrupting(*arguments: Any) -> Iterator[tuple[int, Sample]]:
        for i, found in enumerate(stream(*arguments)):
            if i == 100:
                os.kill(os.getpid(), signal.SIGINT)
            yield found

    monkeypatch.setattr("maekit.inference.prediction.stream", interrupting)
    path = record(tmp_path / "long.h5", chest(300, RATE), RATE)
    with pytest.raises(StoppedError, match="101 rows") as stopped:
        predict(heart_run, path, tmp_path / "out.h5")
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "out.h5").exists()
    with h5py.File(tmp_path / "out.partial.h5") as file:
        assert {len(file[name]) for name in file} == {101}
        assert not file.attrs["complete"]


def test_uncertainty_is_written_and_can_rule_out(
    heart_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path / "a.h5", chest(30, RATE), RATE)
    with pytest.raises(UserError, match="does not say how uncertain"):
        predict(heart_run, path, tmp_path / "no.csv", uncertain_above=5)

    value_alone = Regression.predictions

    def more(self: Regression, output: Tensor) -> dict[str, Tensor]:
        count = len(output)
        flat = torch.zeros(count, 161)
        return value_alone(self, output) | {"uncertainty": torch.arange(count).float(), "log_probability": flat}

    monkeypatch.setattr(Regression, "predictions", more)
    monkeypatch.setattr(Regression, "values", np.linspace(40, 140, 161))
    rows = read(predict(heart_run, path, tmp_path / "out.csv", uncertain_above=5).location)
    assert [row["uncertainty"] for row in rows] == [str(i) for i in range(21)]
    assert [row["reason"] for row in rows] == [""] * 6 + ["uncertain"] * 15
    assert [row["bpm"] == "" for row in rows] == [False] * 6 + [True] * 15
    assert "standard deviation" in (tmp_path / "out.svg").read_text()


def test_another_rate_is_resampled_and_another_signal_refused(heart_run: Path, tmp_path: Path) -> None:
    """The adapter brings windows to its own rate; channels or units that differ are no signal of this run."""
    at_50, at_100 = (
        read(
            predict(
                heart_run, record(tmp_path / f"{rate}.h5", chest(60, rate), rate), tmp_path / f"{rate}.csv"
            ).location
        )
        for rate in (50.0, 100.0)
    )
    assert [row["time_s"] for row in at_50] == [row["time_s"] for row in at_100]
    np.testing.assert_allclose([float(r["bpm"]) for r in at_50], [float(r["bpm"]) for r in at_100], atol=0.5)
    spec = tmp_path / "metres.yaml"
    spec.write_text(
        "name: m\nfiles: '*'\nrecords: /*\nsignal: {path: displacement, axes: [time], unit: m, rate_hz: {attribute: rate_hz}}\n"
    )
    with pytest.raises(UserError, match="another signal"):
        predict(heart_run, tmp_path / "50.0.h5", tmp_path / "out.csv", spec=str(spec))
    with pytest.raises(UserError, match="shorter than a window"):
        predict(heart_run, record(tmp_path / "short.h5", chest(5, 500), 500), tmp_path / "out.csv")


def test_much_faster_than_real_time(heart_run: Path, tmp_path: Path) -> None:
    """In processor time, the run's opening and the picture included.

    Alone on a core it is more than 200 times real time; on a machine with ten such processes a second of work was seen to
    take three.
    """
    path = record(tmp_path / "a.h5", chest(600, RATE), RATE)
    predict(heart_run, path, tmp_path / "warm.csv")
    begun = time.process_time()
    predict(heart_run, path, tmp_path / "out.csv")
    assert 600 / (time.process_time() - begun) > 50


def test_classes_have_names_and_probabilities(tmp_path: Path) -> None:
    """A run that tells spoken words apart, say: the class for every second, and how probable it is."""
    rng = np.random.default_rng(0)
    for name, level in (("a", 1.0), ("b", 5.0), ("c", 1.0), ("d", 5.0)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = (level * rng.standard_normal(1000)).astype(np.float32)
            file["state"] = np.array(["calm" if level == 1 else "busy"] * 1000, dtype="S")
    (tmp_path / "spec.yaml").write_text(
        "name: s\nfiles: '*.h5'\nsignal: {path: x, axes: [time], rate_hz: 20}\ngroup: {file: .+}\n"
        "label: {path: state, classes: [calm, busy]}\nwindow: {axis: time, length: 100}\n"
    )
    (tmp_path / "recipe.yaml").write_text(
        "name: states\nadapter: {name: heart_rate, patch_s: 0.5}\n"
        "data: {spec: spec.yaml, root: ROOT, split: {train: [a, b], validation: [c, d]}}\n"
        "model: {encoder: {width: 16, depth: 1, heads: 2}}\ntask: {name: classification}\n"
        "optimizer: {base_lr: 0.1}\nschedule: {epochs: 10, warmup_epochs: 1}\ntraining: {batch_size: 4}\n".replace(
            "ROOT", str(tmp_path)
        )
    )
    folder = finetune(tmp_path / "recipe.yaml", "random", runs=tmp_path / "runs").folder
    found = predict(folder, tmp_path / "d.h5", tmp_path / "out.csv", hop_s=5, gate=False)
    _, wanted = predictions(folder, side="validation")
    probabilities = torch.from_numpy(wanted["output"][10:]).softmax(1)
    rows = read(found.location)
    assert [row["class"] for row in rows] == [("calm", "busy")[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probabilities.amax(1), rtol=1e-4)
    assert predict(folder, tmp_path / "d.h5", tmp_path / "out.h5", overwrite=True).rows == 46
