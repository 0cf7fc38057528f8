"""`maekit predict` of a detection run: the objects of every frame, equal to evaluation, in constant memory, and pictures of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import h5py
import numpy as np
import pytest
from blobs import DETECTION, PICTURE, SPEC, write
from PIL import Image

from maekit.adapters.radar.drawing import draw_maps, drawn_at
from maekit.build import training_stats
from maekit.data.sample import Axis
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.predict import predict
from maekit.inference.prediction import PredictResult
from maekit.runs.evaluate import predictions
from maekit.runs.report import report
from maekit.runs.train import finetune
from maekit.training.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.data.sample import Sample

FRAMES = 24
LOWEST = 0.001
SHORT = ["schedule.epochs=2", "optimizer.base_lr=1.6e-2", f"task.score_threshold={LOWEST}"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drive 1 has no picture; drive 3, the test split, says how often it was measured, and has lost frames."""
    recipe = write(tmp_path_factory.mktemp("blobs"), frames=FRAMES, without_picture=(1,))
    with h5py.File(recipe.parent / "blobs.h5", "a") as file:
        file["drive3"].attrs["frame_rate_hz"] = 4.0
        file["drive3"]["frame"] = np.arange(FRAMES) + 7 + 2 * (np.arange(FRAMES) > 9)
        for drive in range(4):
            pictures = np.random.default_rng(drive).integers(0, 256, (FRAMES, 6, 9, 3), dtype=np.uint8)
            file[f"drive{drive}"]["camera"] = pictures
    camera = "  camera: {path: camera, axes: [frame, height, width, channel], channels: [red, green, blue]}\n"
    (recipe.parent / "blobs.yaml").write_text(SPEC.replace("group:", f"{camera}group:"))
    return recipe


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    overrides = [DETECTION, "name=found", *SHORT]
    return finetune(recipe, "random", overrides=overrides, runs=recipe.parent / "runs").folder


@pytest.fixture(scope="module")
def together(recipe: Path) -> Path:
    """A run that also reads a picture."""
    overrides = [DETECTION, f"auxiliary={{picture: {PICTURE}}}", "name=together", *SHORT]
    return finetune(recipe, "random", overrides=overrides, runs=recipe.parent / "runs").folder


def found(run: Path, recipe: Path, to: Path, *, drawn: bool = False, **options: Any) -> PredictResult:
    """Where nothing is `drawn`, that takes no time."""
    given: dict[str, Any] = {"record": "drive3", "score_threshold": LOWEST, **options}
    undrawn = (
        nullcontext() if drawn else mock.patch("maekit.tasks.label_kinds.detections.make_drawings", return_value=[])
    )
    with undrawn:
        return predict(run, given.pop("file", recipe.parent / "blobs.h5"), to, **given)


def frames(to: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads(to.read_text())
    assert document["complete"] is True
    return document["frames"]


def same_as_evaluation(run: Path, told: list[dict[str, Any]]) -> None:
    _, rows = predictions(run, side="test")
    assert len(told) == len(rows["detections"]) == FRAMES
    assert sum(len(frame["detections"]) for frame in told) > FRAMES
    for frame, wanted in zip(told, rows["detections"].astype(float), strict=True):
        wanted = wanted[np.isfinite(wanted).all(-1)]
        names = [("person", "car")[int(kind)] for kind in wanted[:, 2]]
        assert [one["class"] for one in frame["detections"]] == names
        got = np.array(
            [[one[name] for name in ("range_m", "azimuth_deg", "score", "x_m", "y_m")] for one in frame["detections"]]
        )
        angle = np.deg2rad(wanted[:, 1])
        places = wanted[:, :1] * np.stack([np.sin(angle), np.cos(angle)], -1)
        np.testing.assert_allclose(got.reshape(-1, 5), np.c_[wanted[:, [0, 1, 3]], places], rtol=1e-3, atol=1e-4)


def test_equals_evaluation(run: Path, recipe: Path, tmp_path: Path) -> None:
    outcome = found(run, recipe, tmp_path / "out.json")
    told = frames(outcome.location)
    same_as_evaluation(run, told)
    assert outcome.rows == FRAMES
    total = sum(len(frame["detections"]) for frame in told)
    assert any(f" {total} objects " in line for line in outcome.summary)
    facts = json.loads(outcome.location.read_text())
    assert facts["units"] == {"range": "m", "azimuth": "deg"}
    assert facts["record"] == "/drive3"
    assert len(facts["weights_sha256"]) == 64
    # Frames that were lost take their time too.
    assert [frame["frame"] for frame in told] == list(range(FRAMES))
    assert [frame["frame_number"] for frame in told[8:12]] == [15, 16, 19, 20]
    assert [frame["time_s"] for frame in told[8:12]] == [2.0, 2.25, 3.0, 3.25]


def test_a_table_has_the_same_and_fewer_where_surer_is_asked_for(run: Path, recipe: Path, tmp_path: Path) -> None:
    found(run, recipe, tmp_path / "all.json")
    told = [one for frame in frames(tmp_path / "all.json") for one in frame["detections"]]
    limit = float(np.median([one["score"] for one in told]))
    for lowest in (LOWEST, limit):
        found(run, recipe, tmp_path / "out.csv", score_threshold=lowest, overwrite=True)
        with (tmp_path / "out.csv").open() as file:
            rows = list(csv.DictReader(file))
        wanted = [one for one in told if one["score"] >= lowest - 1e-6]
        assert abs(len(rows) - len(wanted)) <= 1  # the limit itself is rounded in the document
        assert list(rows[0])[:3] == ["frame", "frame_number", "time_s"]
        assert list(rows[0])[3:] == ["range_m", "azimuth_deg", "x_m", "y_m", "class", "score"]
    assert len(rows) < len(told)
    # Of a recording without a rate and numbers, neither is made up.
    found(run, recipe, tmp_path / "other.csv", record="drive0")
    assert (tmp_path / "other.csv").read_text().startswith("frame,range_m,")


def test_signals_beside_are_read_and_may_be_lacking(together: Path, recipe: Path, tmp_path: Path) -> None:
    """With them it is what evaluation says; without, the blank that training has seen, and somebody is told."""
    outcome = found(together, recipe, tmp_path / "with.json")
    same_as_evaluation(together, frames(outcome.location))
    assert not outcome.lacking
    with h5py.File(recipe.parent / "blobs.h5") as file, h5py.File(tmp_path / "alone.h5", "w") as other:
        other.create_group("drive3")["map"] = file["drive3/map"][:]
    outcome = found(together, recipe, tmp_path / "without.json", file=tmp_path / "alone.h5", record=None)
    assert outcome.lacking == ("picture",)
    assert any("picture" in line and "left out" in line for line in outcome.lines())
    assert frames(tmp_path / "without.json") != frames(tmp_path / "with.json")


def test_needs_no_training_data(together: Path, recipe: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "data_spec.yaml", training_stats.FILE):
        (moved / name).write_text((together / name).read_text().replace(str(recipe.parent), "/nowhere"))
    (moved / "checkpoints").symlink_to(together / "checkpoints")
    for folder, name in ((together, "here.csv"), (moved, "there.csv")):
        found(folder, recipe, tmp_path / name)
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "there.csv").read_text()
    stated = json.loads((moved / training_stats.FILE).read_text())
    del stated["auxiliary"]  # as an earlier version wrote it
    (moved / training_stats.FILE).write_text(json.dumps(stated))
    with pytest.raises(UserError, match="no such folder"):
        found(moved, recipe, tmp_path / "third.csv")


def test_clips_are_looked_at_in_every_frame(recipe: Path, tmp_path: Path) -> None:
    """Windows of three frames in training follow each other; here one ends at every frame, with that frame's objects."""
    overrides = [
        DETECTION,
        "data.window={axis: frame, length: 3}",
        "adapter.patch=[3,4,4]",
        "training.batch_size=16",
        "name=clips",
        *SHORT,
    ]
    run = finetune(recipe, "random", overrides=overrides, runs=tmp_path).folder
    found(run, recipe, tmp_path / "out.json")
    told = frames(tmp_path / "out.json")
    assert [frame["frame"] for frame in told] == list(range(2, FRAMES))
    _, rows = predictions(run, side="test")
    for frame, wanted in zip(told[::3], rows["detections"], strict=True):
        score = [one["score"] for one in frame["detections"]]
        np.testing.assert_allclose(score, wanted[np.isfinite(wanted[:, -1]), -1], rtol=1e-3)
    found(run, recipe, tmp_path / "slow.json", hop_s=0.5)
    assert frames(tmp_path / "slow.json") == told[::2]


def test_pictures(run: Path, recipe: Path, tmp_path: Path) -> None:
    """One frame as SVG and PNG, all of them as GIF, of which no more are drawn than there is room for."""
    wanted = [tmp_path / name for name in ("one.svg", "one.png", "all.gif")]
    module = "maekit.tasks.label_kinds.detection_pictures"
    with mock.patch(f"{module}.MOST_FRAMES", 3), mock.patch(f"{module}.FOR_COLOURS", 2):
        outcome = found(run, recipe, tmp_path / "out.csv", pictures=wanted, frame=5, drawn=True)
    text = wanted[0].read_text()
    for word in (
        "truth",
        "detection, with score",
        "person",
        "azimuth [deg]",
        "ahead [m]",
        "camera",
        "frame 5 (number 12), 1.25 s",
    ):
        assert f">{word}" in text or f"{word}<" in text, word
    with Image.open(wanted[1]) as one, Image.open(wanted[2]) as all_:
        assert one.width > all_.width > 500
        assert getattr(all_, "n_frames", 1) == 3
        assert all_.info["duration"] == pytest.approx(2000, abs=10)  # every eighth frame of four in a second
    assert any("every 8th of 24 frames" in line for line in outcome.pictures)
    found(run, recipe, tmp_path / "plain.csv", record="drive0", drawn=True)
    assert (tmp_path / "plain.svg").exists()
    assert not list(tmp_path.glob(".*"))


def test_memory_does_not_grow(run: Path, recipe: Path, tmp_path: Path) -> None:
    """Eight times as many frames take as much (with pieces of 64 KiB, so that both have several); drawn are so many frames and no more."""
    peaks = []
    with h5py.File(recipe.parent / "blobs.h5") as file:
        maps, objects = np.tile(file["drive3/map"], (3, 1, 1)), np.tile(file["drive3/objects"], (3, 1, 1))
    for name, times in (("warm", 1), ("short", 1), ("long", 8)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as other:
            record = other.create_group("drive")
            record.create_dataset("map", data=np.tile(maps, (times, 1, 1)), chunks=(1, *maps.shape[1:]))
            record["objects"] = np.tile(objects, (times, 1, 1))
            record["objects"].attrs["columns"] = ["range", "azimuth", "class", "range_extent", "azimuth_extent"]
        with mock.patch("maekit.data.stream.PIECE_BYTES", 2**16):
            tracemalloc.start()
            outcome = found(run, recipe, tmp_path / f"{name}.csv", file=tmp_path / f"{name}.h5", record=None)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert outcome.rows == times * 3 * FRAMES
    assert peaks[2] < 1.1 * peaks[1] + 2**18


def test_boxes_have_extents_with_units(recipe: Path, tmp_path: Path) -> None:
    overrides = ["task={name: detection, boxes: true}", "name=boxes", *SHORT]
    run = finetune(recipe, "random", overrides=overrides, runs=tmp_path).folder
    found(run, recipe, tmp_path / "out.csv", score_threshold=0)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["range_extent_m"]) > 0 and float(row["azimuth_extent_deg"]) > 0 for row in rows)


def test_what_makes_no_sense_is_named(run: Path, recipe: Path, tmp_path: Path) -> None:
    """Each with a word on what is right; nothing is written."""
    small = tmp_path / "small.h5"
    with h5py.File(small, "w") as file:
        file.create_group("drive")["map"] = np.zeros((5, 16, 16), dtype=np.float32)
    coarse = tmp_path / "coarse.yaml"
    coarse.write_text((recipe.parent / "blobs.yaml").read_text().replace("{step: 1, start: 1", "{step: 2, start: 1"))
    wrong: list[tuple[dict[str, object], str]] = [
        ({"track_s": 10.0}, "--track"),
        ({"smoothing": 5}, "--smoothing"),
        ({"uncertain_above": 5.0}, "--uncertain-above"),
        ({"score_threshold": 1.0}, "--score-threshold"),
        ({"record": "drive9"}, "Did you mean"),
        ({"record": None}, "several recordings"),
        ({"record": "drive0", "hop_s": 0.5}, "frame_rate_hz"),
        ({"file": small, "record": None}, "32 along range"),
        ({"spec": str(coarse)}, "other axes"),
        ({"to": tmp_path / "out.h5"}, "csv or .json"),
        ({"pictures": [tmp_path / "out.pdf"]}, "svg or .png or .gif"),
        ({"pictures": [tmp_path / "no" / "out.png"]}, "no such folder"),
        ({"pictures": [tmp_path / "a.png", tmp_path / "a.png"]}, "one file for two"),
        ({"frame": FRAMES}, "0 to 23"),
        ({"frame": 1, "pictures": [tmp_path / "a.gif"]}, "shows all frames"),
    ]
    for given, word in wrong:
        with pytest.raises(UserError, match=word):
            found(run, recipe, **({"to": tmp_path / "out.csv"} | given))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"small.h5", "coarse.yaml"}


def test_a_signal_stops_between_frames(
    run: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found until then is there, as a whole document that says that it is not complete."""

    def interrupting(*arguments: Any) -> Iterator[tuple[int, Sample]]:
        for i, one in enumerate(stream(*arguments)):
            if i == 10:
                os.kill(os.getpid(), signal.SIGINT)
            yield one

    monkeypatch.setattr("maekit.inference.prediction.stream", interrupting)
    with pytest.raises(StoppedError, match="11 frames"):
        found(run, recipe, tmp_path / "out.json")
    document = json.loads((tmp_path / "out.partial.json").read_text())
    assert document["complete"] is False
    assert len(document["frames"]) == 11


def test_frames_that_were_not_measured_have_a_reason(run: Path, recipe: Path, tmp_path: Path) -> None:
    with h5py.File(recipe.parent / "blobs.h5") as file, h5py.File(tmp_path / "torn.h5", "w") as other:
        maps = file["drive3/map"][:]
        maps[3] = np.nan
        other.create_group("drive3")["map"] = maps
    outcome = found(run, recipe, tmp_path / "out.json", file=tmp_path / "torn.h5", record=None)
    told = frames(tmp_path / "out.json")
    assert told[3]["detections"] == []
    assert "100% of the window are missing" in told[3]["reason"]
    assert "reason" not in told[4]
    assert outcome.valid == FRAMES - 1


def test_report_of_a_detection_run(run: Path) -> None:
    with mock.patch("maekit.tasks.label_kinds.object_report.SAMPLES", 1):
        page = report(run).read_text()
    for word in (
        "Objects found on the test split",
        "Precision against recall",
        "AP50",
        "Bird's-eye view",
        "truth",
        "camera",
    ):
        assert word in page, word
    metrics, _ = predictions(run, side="test")
    assert f"AP {metrics['ap']:.3f} on the test split" in page


@pytest.mark.parametrize("swapped", [False, True])
def test_marks_stand_on_the_cells_of_their_coordinates(swapped: bool) -> None:
    """Also where bins are even in the sine of the angle, whichever axis comes first."""
    from matplotlib.figure import Figure

    axes = [Axis("range", 6, "m", 0.5, 2.0), Axis("azimuth", 8, "deg", 0.25, -1.0, "sine")]
    values = np.arange(48.0).reshape(1, 6, 8)
    if swapped:
        axes, values = axes[::-1], values.swapaxes(1, 2)
    panel = Figure().subplots()
    draw_maps(panel, values, axes, unit="dB")
    image = panel.images[0]
    left, right, bottom, top = image.get_extent()
    shown = image.get_array()
    for cell in np.ndindex(*values.shape[1:]):
        where = np.array([axis.points()[i] for axis, i in zip(axes, cell, strict=True)])
        x, y = drawn_at(axes, where)
        row, column = int((y - bottom) / (top - bottom) * 6), int((x - left) / (right - left) * 8)
        assert shown is not None
        assert shown[row, column] == values[0][cell]
    ticks = panel.xaxis  # range goes upward wherever it stands
    angles = [float(text.get_text()) for text in ticks.get_ticklabels()]
    assert len(angles) > 3
    np.testing.assert_allclose(np.sin(np.deg2rad(angles)), ticks.get_ticklocs())
