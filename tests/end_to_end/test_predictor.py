"""`maekit.Predictor`: the estimates of `predict`, however samples are cut, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import TINY

from maekit import Predictor
from maekit.errors import UserError
from maekit.inference.predict import predict
from maekit.runs.train import finetune
from maekit.tasks.label_kinds.estimates import Estimate

RATE = 50.0


@pytest.fixture(scope="module")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that says how sure it is."""
    folder = tmp_path_factory.mktemp("sure")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)) + "task: {name: regression, bins: 30}\n")
    return finetune(recipe, "random", runs=folder, overrides=["schedule.epochs=1"]).folder


def chest(seconds: float) -> np.ndarray:
    """Breathing and a beat in mm, with a gap and a person who moves."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = 0.005 * np.random.default_rng(0).standard_normal(len(time))
    x = 3 * np.sin(2 * np.pi * 0.25 * time) + 0.2 * np.sin(2 * np.pi * 1.2 * time) + noise
    x[1000:1300] = np.nan
    x[2200:] += 80 * np.clip((np.arange(len(x) - 2200) - 100) / 50, 0, 1)
    return x.astype(np.float32)


def in_pieces(predictor: Predictor, samples: np.ndarray, cuts: np.ndarray) -> list[Estimate]:
    found = [row for piece in np.split(samples, cuts) for row in predictor.push(piece)]
    return found + predictor.finish()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"hop_s": 0.47, "track_s": 3.0, "smoothing": 3, "uncertain_above": 40.0},
    {"hop_s": 13.0, "gate": False},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_predict_however_samples_are_cut(run: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    samples = chest(70)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("person")
        group["displacement"] = samples
        group.attrs["rate_hz"] = RATE
    found = predict(run, tmp_path / "a.h5", tmp_path / "out.h5", **options)
    with h5py.File(found.location) as file:
        wanted = {name: file[name].asstr()[()] if name == "reason" else file[name][()] for name in file}
    predictor = Predictor(run, **options)
    rng = np.random.default_rng(1)
    for count in (0, 5, 200):
        rows = in_pieces(predictor, samples, np.sort(rng.integers(0, len(samples) + 1, count)))
        assert [row.reason for row in rows] == wanted["reason"].tolist()
        columns = {"time_s": [row.time_s for row in rows], "bpm": [row.value for row in rows]}
        columns["uncertainty"] = [row.confidence for row in rows]
        for name, values in columns.items():
            np.testing.assert_allclose(np.array(values, dtype=float), wanted[name], rtol=1e-4, err_msg=name)
    assert len({row.reason for row in rows}) > 1 or not options.get("gate", True)


def test_estimates_come_with_the_stated_latency(run: Path) -> None:
    predictor = Predictor(run, hop_s=1.0, track_s=2.5, smoothing=3, gate=False)
    assert predictor.latency.window_s == 10
    assert predictor.latency.hop_s == 1
    assert predictor.latency.lag_s == 4  # the third window later is the first beyond 2.5 s, and one is smoothed over
    samples = chest(20)
    first = None
    for i in range(len(samples)):
        if rows := predictor.push(samples[i : i + 1]):
            first = rows[0]
            break
    assert first is not None
    assert (i + 1) / RATE - first.time_s == pytest.approx(predictor.latency.total_s)
    assert predictor.compute_s > 0
    assert predictor.real_time_factor > 0


def test_validity_is_that_of_missing_samples_and_reset_forgets(run: Path) -> None:
    samples, predictor = chest(40), Predictor(run)
    wanted = in_pieces(predictor, samples, np.array([700]))
    measured = np.isfinite(samples)
    predictor.push(samples[:900])
    predictor.reset()
    found = predictor.push(np.where(measured, samples, 5e3), measured) + predictor.finish()
    assert [row.reason for row in found] == [row.reason for row in wanted]
    assert [row.value for row in found if not row.reason] == pytest.approx([r.value for r in wanted if not r.reason])


def test_memory_does_not_grow(run: Path) -> None:
    predictor, piece = Predictor(run, hop_s=10.0, track_s=20.0), chest(10)
    for _ in range(8):
        predictor.push(piece)
    tracemalloc.start()
    predictor.push(piece)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(30):
        predictor.push(piece)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10 * piece.nbytes


@pytest.mark.parametrize(
    ("samples", "valid", "word"),
    [
        (np.zeros((1, 50)), None, "another shape"),
        ([[1.0], [1.0, 2.0]], None, "no array"),
        (np.zeros(50, complex), None, "real numbers"),
        (["a", "b"], None, "real numbers"),
        (np.zeros(50), np.ones(49, bool), "not a mask"),
        (np.zeros(50), np.ones(50), "not a mask"),
        (np.full(50, 1e300), None, "beyond the range"),
    ],
)
def test_wrong_samples_are_named_and_change_nothing(run: Path, samples: Any, valid: Any, word: str) -> None:
    predictor, good = Predictor(run), chest(11)
    predictor.push(good[:300])
    with pytest.raises(UserError, match=word):
        predictor.push(samples, valid)
    assert len(predictor.push(good[300:])) == 2


def test_wrong_options_are_named(run: Path) -> None:
    for options, word in (({"hop_s": 0.0}, "hop_s"), ({"rate_hz": -1.0}, "rate_hz"), ({"smoothing": 2}, "odd")):
        with pytest.raises(UserError, match=word):
            Predictor(run, **options)  # type: ignore[arg-type]
