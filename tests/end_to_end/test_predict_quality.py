"""Estimates of `maekit predict` only where something can be seen: an empty room, motion, any unit; smoothing, and following along a recording."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chest_recordings import RATE, chest, read, record
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.heart import quality
from maekit.build import training_stats
from maekit.errors import UserError
from maekit.inference.predict import predict
from maekit.runs.evaluate import predictions
from maekit.studies.scoring import tracked as tracked_in_study
from maekit.tasks.label_kinds.estimates import Estimate
from maekit.tasks.label_kinds.value_estimates import smoothed, tracked
from maekit.tracking import Tracker

if TYPE_CHECKING:
    pass


def test_an_empty_room_and_motion_have_no_estimate(heart_run: Path, tmp_path: Path) -> None:
    """Phase noise alone, and a body that moves, get a reason; the same chest at rest gets values."""
    stats = training_stats.read(heart_run)
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
        rows[name] = read(predict(heart_run, path, tmp_path / f"{name}.csv").location)
    assert all(row["valid"] == "1" and 20 < float(row["bpm"]) < 200 for row in rows["still"])
    assert all(row["valid"] == "0" and row["bpm"] == "" for row in rows["empty"] + rows["frozen"])
    assert all("nobody there" in row["reason"] for row in rows["empty"])
    for row in rows["moved"]:
        hit = float(row["start_s"]) < 33 and float(row["stop_s"]) > 32.5
        assert ("motion" in row["reason"]) == hit, row


@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0, 1e3])
def test_the_same_windows_have_estimates_in_any_unit(heart_run: Path, tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([chest(30, RATE), 0.01 * rng.standard_normal(1000), chest(20, RATE, seed=2)])
    values[500:] += 80 * np.clip((np.arange(len(values) - 500) - 100) / 50, 0, 1)
    gates = []
    for factor in (1.0, scale):
        path = record(tmp_path / f"{factor}.h5", factor * values, RATE)
        rows = read(predict(heart_run, path, tmp_path / f"{factor}.csv").location)
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


def test_following_equals_that_of_a_study(sure_run: Path, cohort: Path, tmp_path: Path) -> None:
    known = training_stats.read(sure_run)
    assert known is not None
    assert known.label_dynamics is not None
    _, rows = predictions(sure_run, side="test")
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
    found = predict(sure_run, cohort / "vital_signs.h5", tmp_path / "out.csv", **given)
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


def test_what_cannot_be_followed_is_named(heart_run: Path, sure_run: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "a.h5", chest(30, RATE), RATE)
    with pytest.raises(UserError, match="does not say how uncertain"):
        predict(heart_run, path, tmp_path / "no.csv", track_s=10)
    known = training_stats.read(sure_run)
    assert known is not None
    before = (sure_run / training_stats.FILE).read_text()
    training_stats.write(sure_run, replace(known, label_dynamics=None))  # as an earlier version wrote it
    try:
        with pytest.raises(UserError, match="how fast the labels"):
            predict(sure_run, path, tmp_path / "no.csv", track_s=10)
    finally:
        (sure_run / training_stats.FILE).write_text(before)
    assert not (tmp_path / "no.csv").exists()
