"""`maekit predict`: estimates along a recording, in constant memory, equal to evaluation, none where nothing can be seen."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.heart import quality
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
from maekit.studies.scoring import tracked as tracked_in_study
from maekit.tasks.label_kinds.estimates import Estimate, EstimateOutput
from maekit.tasks.label_kinds.recording_output import PredictOptions, TrainedRun
from maekit.tasks.label_kinds.value_estimates import smoothed, tracked
from maekit.tasks.regression import Regression
from maekit.tracking import Tracker
from maekit.training.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from maekit.data.sample import Sample

RATE = 50.0


@pytest.fixture(scope="module")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression}\n")
    return finetune(recipe, "random", runs=folder).folder


@pytest.fixture(scope="module")
def sure(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says how sure it is, and something else of every window."""
    folder = tmp_path_factory.mktemp("sure")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression, bins: 30}\n")
    return finetune(recipe, "random", runs=folder, overrides=["optimizer.base_lr=0.05", "schedule.epochs=6"]).folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def chest(seconds: float, rate_hz: float, seed: int = 0) -> np.ndarray:
    """Breathing, a beat and phase noise, in mm."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = 0.005 * np.random.default_rng(seed).standard_normal(len(time))
    return 3 * np.sin(2 * np.pi * 0.25 * time) + 0.2 * np.sin(2 * np.pi * 1.2 * time) + noise


def record(path: Path, values: np.ndarray, rate_hz: float, name: str = "person_000") -> Path:
    """A recording as the simulator lays it out, without labels."""
    with h5py.File(path, "w") as file:
        group = file.create_group(name)
        group.create_dataset("displacement", data=values.astype(np.float32), chunks=(1024,))
        group.attrs["rate_hz"] = rate_hz
    return path


def test_equals_evaluation(run: Path, cohort: Path, tmp_path: Path) -> None:
    """The same windows, one stream and one by one, with labels and without, give the same numbers."""
    found = predict(run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_001", hop_s=5, gate=False)
    _, wanted = predictions(run, side="test")
    rows = read(found.location)
    assert found.rows == len(rows) == len(wanted["output"]) == 5
    np.testing.assert_allclose([float(row["bpm"]) for row in rows], wanted["output"], rtol=1e-5)
    assert [float(row["start_s"]) for row in rows] == [0, 5, 10, 15, 20]
    assert [float(row["time_s"]) for row in rows] == [5, 10, 15, 20, 25]
    assert ">label<" in found.location.with_suffix(".svg").read_text()


def test_needs_no_training_data(run: Path, tmp_path: Path, cohort: Path) -> None:
    """A run that was moved away from its data works as before; one without what it was trained on asks for them."""
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "data_spec.yaml", training_stats.FILE):
        text = (run / name).read_text()
        (moved / name).write_text(text.replace(str(cohort), "/nowhere"))
    (moved / "checkpoints").symlink_to(run / "checkpoints")
    for folder, name in ((run, "here.csv"), (moved, "there.csv")):
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


def test_memory_does_not_grow(run: Path, tmp_path: Path) -> None:
    """Six hours take as much as a quarter of an hour (with pieces of 64 KiB, so that both have several), whose digest is of less."""
    from unittest import mock

    peaks = []
    quarter = chest(900, RATE)
    for name, times in (("warm", 1), ("short", 1), ("long", 24)):
        path = record(tmp_path / f"{name}.h5", np.tile(quarter, times), RATE)
        with mock.patch("maekit.data.stream.PIECE_BYTES", 2**16):
            tracemalloc.start()
            found = predict(run, path, tmp_path / f"{name}.csv", hop_s=60)
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


def test_a_table_is_read_by_the_rules_of_the_data_spec(run: Path, tmp_path: Path) -> None:
    values = chest(30, RATE).astype(np.float32)
    rows = "".join(f"{i / RATE:.2f},{value!r}\n" for i, value in enumerate(values.tolist()))
    (tmp_path / "new one.csv").write_text(f"s,mm\n{rows}")
    from_hdf5 = read(predict(run, record(tmp_path / "same.h5", values, RATE), tmp_path / "a.csv").location)
    with pytest.raises(UserError, match=r"not an HDF5 file, and the data spec has no rules.*--spec"):
        predict(run, tmp_path / "new one.csv", tmp_path / "b.csv")
    spec = yaml.safe_load((run / "data_spec.yaml").read_text())
    spec["signal"]["rate_hz"] = {"attribute": "rate_hz"}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec) + CONVERT)
    found = predict(run, tmp_path / "new one.csv", tmp_path / "b.csv", spec=str(tmp_path / "spec.yaml"))
    assert read(found.location) == from_hdf5
    (tmp_path / "torn.csv").write_text("s,mm\n0,x\n")
    with pytest.raises(UserError, match=r"torn\.csv"):
        predict(run, tmp_path / "torn.csv", tmp_path / "c.csv", spec=str(tmp_path / "spec.yaml"))


def test_a_recording_that_the_run_has_seen_is_named(run: Path, cohort: Path, tmp_path: Path) -> None:
    sides = {}
    with h5py.File(cohort / "vital_signs.h5") as file:
        names = list(file)
        values = file[names[0]]["displacement"][()]
    for name in names:
        result = predict(run, cohort / "vital_signs.h5", tmp_path / f"{name}.csv", record=name)
        sides[name] = result.side
        assert any("in the training" in line for line in result.lines()) == (result.side == "train")
    assert sides["person_001"] == "test"
    assert "train" in sides.values()
    copy = record(tmp_path / "copy.h5", values, RATE, "somebody")
    assert predict(run, copy, tmp_path / "copy.csv").side == sides[names[0]]
    assert predict(run, record(tmp_path / "new.h5", values + 1, RATE), tmp_path / "new.csv").side == ""


def test_an_empty_room_and_motion_have_no_estimate(run: Path, tmp_path: Path) -> None:
    """Phase noise alone, and a body that moves, get a reason; the same chest at rest gets values."""
    stats = training_stats.read(run)
    assert stats is not None
    (limits := dict(stats.limits)).pop("motion")
    assert limits  # the simulator's rate is high enough to tell an empty room
    rng = np.random.default_rng(1)
    still = chest(60, RATE)
    moved = still.copy()
    moved[1500:] += 80 * np.clip((np.arange(1500) - 100) / 50, 0, 1)
    scenes = {"still": still, "empty": 0.01 * rng.standard_normal(3000), "moved": moved, "frozen": np.zeros(3000)}
    rows = {}
    for name, values in scenes.items():
        path = record(tmp_path / f"{name}.h5", values, RATE)
        rows[name] = read(predict(run, path, tmp_path / f"{name}.csv").location)
    assert all(row["valid"] == "1" and 20 < float(row["bpm"]) < 200 for row in rows["still"])
    assert all(row["valid"] == "0" and row["bpm"] == "" for row in rows["empty"] + rows["frozen"])
    assert all("nobody there" in row["reason"] for row in rows["empty"])
    for row in rows["moved"]:
        hit = float(row["start_s"]) < 33 and float(row["stop_s"]) > 32.5
        assert ("motion" in row["reason"]) == hit, row


@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0, 1e3])
def test_the_same_windows_have_estimates_in_any_unit(run: Path, tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([chest(30, RATE), 0.01 * rng.standard_normal(1000), chest(20, RATE, seed=2)])
    values[500:] += 80 * np.clip((np.arange(len(values) - 500) - 100) / 50, 0, 1)
    gates = []
    for factor in (1.0, scale):
        path = record(tmp_path / f"{factor}.h5", factor * values, RATE)
        rows = read(predict(run, path, tmp_path / f"{factor}.csv").location)
        gates.append([(row["valid"], row["reason"]) for row in rows])
    assert gates[0] == gates[1]
    assert {valid for valid, _ in gates[0]} == {"0", "1"}


@settings(deadline=None, max_examples=50)
@given(scale=st.floats(1e-3, 1e3), rate=st.sampled_from([25.0, 50.0, 100.0, 200.0]))
def test_presence_does_not_depend_on_gain(scale: float, rate: float) -> None:
    alive, noise = chest(10, rate), np.random.default_rng(0).standard_normal(round(10 * rate))
    assert quality.body_over_noise_db(scale * alive, rate) > 10 > 0 > quality.body_over_noise_db(scale * noise, rate)
    jump = alive + 80 * (np.arange(len(alive)) > len(alive) // 2)
    assert quality.relative_move(scale * jump, rate) == pytest.approx(quality.relative_move(jump, rate))
    assert quality.relative_move(scale * alive, rate) == quality.ORDINARY_MOVE < 0.5 * quality.relative_move(jump, rate)


def test_spikes_are_no_motion() -> None:
    x = chest(10, RATE)
    spiked = x.copy()
    spiked[[100, 300]] += 50
    assert quality.relative_move(spiked, RATE) == pytest.approx(quality.relative_move(x, RATE), rel=0.05)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.none(), st.floats(0, 200)), max_size=20), st.sampled_from([1, 3, 5, 9]))
def test_smoothing_is_a_median_of_what_there_is(values: list[float | None], width: int) -> None:
    rows = [
        Estimate(i, i + 1, np.nan if v is None else v, np.nan, "none" if v is None else "")
        for i, v in enumerate(values)
    ]
    found = list(smoothed(iter(rows), width))
    assert [row.reason for row in found] == [row.reason for row in rows]
    for i, row in enumerate(found):
        around = [v for v in values[max(0, i - width // 2) : i + width // 2 + 1] if v is not None]
        assert np.isnan(row.value) if row.reason else row.value == np.median(around)


def test_following_equals_that_of_a_study(sure: Path, cohort: Path, tmp_path: Path) -> None:
    known = training_stats.read(sure)
    assert known is not None
    assert known.label_dynamics is not None
    _, rows = predictions(sure, side="test")
    count = len(rows["output"])
    result = {
        "methods": {"net": rows["output"].tolist()},
        "distribution": {
            "net": {"values": rows["values"].tolist(), "log_probability": rows["log_probability"].tolist()}
        },
        "position": [[0, 5 * i] for i in range(count)],
    }
    study = tracked_in_study(result, "net", asdict(known.label_dynamics), 10.0, 1.0)
    given: dict[str, Any] = {"record": "person_001", "hop_s": 5, "gate": False, "track_s": 10.0}
    found = predict(sure, cohort / "vital_signs.h5", tmp_path / "out.csv", **given)
    told = read(found.location)
    np.testing.assert_allclose([float(row["bpm"]) for row in told], study["methods"]["net"], rtol=1e-4)
    np.testing.assert_allclose([float(row["uncertainty"]) for row in told], study["uncertainty"]["net"], rtol=1e-3)
    assert np.abs(np.array(study["methods"]["net"]) - rows["output"]).max() > 0.01, "following changes something"
    # A window without an estimate keeps its reason, and those around it go on.
    several = [
        Estimate(i, i + 1, 70.0, 1.0, "" if i != 3 else "motion", rows["log_probability"][0] if i != 3 else None)
        for i in range(6)
    ]
    out = list(tracked(iter(several), Tracker(rows["values"], 1.0, 1.0, 2.0)))
    assert [row.reason for row in out] == ["", "", "", "motion", "", ""]
    assert out[3].value == 70.0
    assert all(row.log_probability is None for row in out if not row.reason)


def test_what_cannot_be_followed_is_named(run: Path, sure: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "a.h5", chest(30, RATE), RATE)
    with pytest.raises(UserError, match="does not say how uncertain"):
        predict(run, path, tmp_path / "no.csv", track_s=10)
    known = training_stats.read(sure)
    assert known is not None
    before = (sure / training_stats.FILE).read_text()
    training_stats.write(sure, replace(known, label_dynamics=None))  # as an earlier version wrote it
    try:
        with pytest.raises(UserError, match="how fast the labels"):
            predict(sure, path, tmp_path / "no.csv", track_s=10)
    finally:
        (sure / training_stats.FILE).write_text(before)
    assert not (tmp_path / "no.csv").exists()


def test_hdf5_says_where_it_comes_from(run: Path, cohort: Path, tmp_path: Path) -> None:
    out = predict(run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_003", smoothing=3).location
    found = predict(run, cohort / "vital_signs.h5", tmp_path / "same.h5", record="person_003", smoothing=3)
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


def test_json_has_the_rows_of_the_table(run: Path, cohort: Path, tmp_path: Path) -> None:
    table = read(predict(run, cohort / "vital_signs.h5", tmp_path / "out.csv", record="person_003").location)
    document = json.loads(
        predict(run, cohort / "vital_signs.h5", tmp_path / "document.json", record="person_003").location.read_text()
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


def test_wrong_recordings_are_named(run: Path, cohort: Path, tmp_path: Path) -> None:
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
            predict(run, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out.csv").exists()


def test_a_signal_stops_between_rows(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: what was estimated until then is there, in columns of one length, and marked incomplete."""

    def interrupting(*arguments: Any) -> Iterator[tuple[int, Sample]]:
        for i, found in enumerate(stream(*arguments)):
            if i == 100:
                os.kill(os.getpid(), signal.SIGINT)
            yield found

    monkeypatch.setattr("maekit.inference.prediction.stream", interrupting)
    path = record(tmp_path / "long.h5", chest(300, RATE), RATE)
    with pytest.raises(StoppedError, match="101 rows") as stopped:
        predict(run, path, tmp_path / "out.h5")
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "out.h5").exists()
    with h5py.File(tmp_path / "out.partial.h5") as file:
        assert {len(file[name]) for name in file} == {101}
        assert not file.attrs["complete"]


def test_uncertainty_is_written_and_can_rule_out(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path / "a.h5", chest(30, RATE), RATE)
    with pytest.raises(UserError, match="does not say how uncertain"):
        predict(run, path, tmp_path / "no.csv", uncertain_above=5)

    value_alone = Regression.predictions

    def more(self: Regression, output: Tensor) -> dict[str, Tensor]:
        count = len(output)
        flat = torch.zeros(count, 161)
        return value_alone(self, output) | {"uncertainty": torch.arange(count).float(), "log_probability": flat}

    monkeypatch.setattr(Regression, "predictions", more)
    monkeypatch.setattr(Regression, "values", np.linspace(40, 140, 161))
    rows = read(predict(run, path, tmp_path / "out.csv", uncertain_above=5).location)
    assert [row["uncertainty"] for row in rows] == [str(i) for i in range(21)]
    assert [row["reason"] for row in rows] == [""] * 6 + ["uncertain"] * 15
    assert [row["bpm"] == "" for row in rows] == [False] * 6 + [True] * 15
    assert "standard deviation" in (tmp_path / "out.svg").read_text()


def test_another_rate_is_resampled_and_another_signal_refused(run: Path, tmp_path: Path) -> None:
    """The adapter brings windows to its own rate; channels or units that differ are no signal of this run."""
    at_50, at_100 = (
        read(predict(run, record(tmp_path / f"{rate}.h5", chest(60, rate), rate), tmp_path / f"{rate}.csv").location)
        for rate in (50.0, 100.0)
    )
    assert [row["time_s"] for row in at_50] == [row["time_s"] for row in at_100]
    np.testing.assert_allclose([float(r["bpm"]) for r in at_50], [float(r["bpm"]) for r in at_100], atol=0.5)
    spec = tmp_path / "metres.yaml"
    spec.write_text(
        "name: m\nfiles: '*'\nrecords: /*\nsignal: {path: displacement, axes: [time], unit: m, rate_hz: {attribute: rate_hz}}\n"
    )
    with pytest.raises(UserError, match="another signal"):
        predict(run, tmp_path / "50.0.h5", tmp_path / "out.csv", spec=str(spec))
    with pytest.raises(UserError, match="shorter than a window"):
        predict(run, record(tmp_path / "short.h5", chest(5, 500), 500), tmp_path / "out.csv")


def test_much_faster_than_real_time(run: Path, tmp_path: Path) -> None:
    """In processor time, the run's opening and the picture included.

    Alone on a core it is more than 200 times real time; on a machine with ten such processes a second of work was seen to
    take three.
    """
    path = record(tmp_path / "a.h5", chest(600, RATE), RATE)
    predict(run, path, tmp_path / "warm.csv")
    begun = time.process_time()
    predict(run, path, tmp_path / "out.csv")
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
