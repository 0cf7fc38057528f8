"""Studies and sweeps: what depends on what, what is computed once, and what stands on the page."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.config.load import load_recipe
from maekit.config.routing import Routing, compared
from maekit.errors import UserError
from maekit.profiling.study_dry_run import dry_run_study
from maekit.studies import methods, page, study
from maekit.studies.measure import measure
from maekit.studies.plan import TRAININGS
from maekit.studies.results import Difference, Kind, Method, PointResult, Study
from maekit.tasks.label_kinds.classes import ClassLabels
from maekit.tasks.label_kinds.values import ValueLabels

if TYPE_CHECKING:
    from maekit.studies.jobs import Job

FOLDS = "data.split={folds: 2}"


@pytest.fixture
def labelled(tiny: Path) -> Path:
    """The tiny recipe with labels, which starts from the tiny pretraining."""
    path = tiny.parent / "labelled.yaml"
    path.write_text(
        "extends: tiny.yaml\nname: labelled\ntask: regression\ninit: {recipe: tiny.yaml}\nschedule: {epochs: 1}\n"
    )
    return path


def kinds(planned: study.StudyPlan) -> dict[str, int]:
    counted: dict[str, int] = {}
    for job in planned.jobs:
        counted[job.kind] = counted.get(job.kind, 0) + 1
    return counted


def trainings(jobs: list[Job]) -> list[dict[str, Any]]:
    """Arguments of each training."""
    return [job.arguments for job in jobs if job.function in TRAININGS]


def test_overrides_go_where_they_belong() -> None:
    settings = [
        "data.root=x",
        "model.mask_ratio=0.5",
        "model.encoder.width=8",
        "optimizer.base_lr=1e-3",
        "training.batch_size=4",
        "task.within=3",
        "data.label_fraction=0.1",
        "init.optimizer.base_lr=1e-2",
        "init.recipe=a.yaml",
        "adapter.rate_hz=20",
    ]
    studied = Routing(same_data=True)
    assert studied.pretraining(settings) == [
        "data.root=x",
        "model.mask_ratio=0.5",
        "model.encoder.width=8",
        "training.batch_size=4",
        "optimizer.base_lr=1e-2",
        "adapter.rate_hz=20",
    ]
    assert studied.labelled(settings) == [
        "data.root=x",
        "model.encoder.width=8",
        "optimizer.base_lr=1e-3",
        "training.batch_size=4",
        "task.within=3",
        "data.label_fraction=0.1",
        "init.recipe=a.yaml",
        "adapter.rate_hz=20",
    ]
    assert "data.root=x" not in Routing(same_data=False).pretraining(settings)
    swept = Routing(same_data=True, probing=True)
    assert "optimizer.base_lr=1e-3" in swept.pretraining(settings)
    assert "optimizer.base_lr=1e-3" not in swept.labelled(settings)
    assert compared(settings, same_adapter=True) == ["adapter.rate_hz=20"]
    assert compared(settings, same_adapter=False) == []


def test_one_pretraining_serves_all_label_fractions(labelled: Path) -> None:
    planned = study.plan(labelled, sweep=["label_fraction=0.3,1", "seconds=5,10"], seeds=2, overrides=[FOLDS])
    assert kinds(planned) == {
        "pretraining": 8,
        "pretrained": 16,
        "scratch": 16,
        "probe": 16,
        "random_probe": 16,
        "raw_input": 16,
        "constant": 16,
        "baselines": 4,
        "oracle": 4,
    }
    runs = [training["run"] for training in trainings(planned.jobs)]
    assert len(set(runs)) == len(runs)
    assert any(run.startswith("labelled/seconds-5/seed0_fold0/pretraining-") for run in runs)
    assert any(run.startswith("labelled/label_fraction-0.3_seconds-5/seed1_fold1/scratch-") for run in runs)


def test_a_sweep_shares_what_the_key_does_not_change(labelled: Path) -> None:
    swept = study.plan(labelled, sweep=["mask_ratio=0.3,0.5,0.75", "masking=random,span"], seeds=1, probing=True)
    assert kinds(swept) == {
        "pretraining": 6,
        "probe": 6,
        "random_probe": 1,
        "raw_input": 1,
        "baselines": 1,
        "oracle": 1,
        "constant": 1,
    }
    rates = study.plan(labelled, sweep=["base_lr=1e-3,1e-2"], seeds=1, probing=True)
    assert kinds(rates)["pretraining"] == 2
    whole = study.plan(labelled, sweep=["mask_ratio=0.3,0.5"], seeds=1)
    assert kinds(whole)["scratch"] == 1
    marks = [{job.digest for job in planned.jobs if job.kind == "pretraining"} for planned in (whole, swept)]
    assert marks[0] <= marks[1], "the recipe's own masking is one of those swept"


def test_an_edited_recipe_is_not_taken_as_done(labelled: Path, tiny: Path, cohort: Path) -> None:
    before = study.plan(labelled, seeds=1)
    again = study.plan(labelled, seeds=1, overrides=["training.log_every_steps=7", f"data.root={cohort}/."])
    assert [job.name for job in again.jobs] == [job.name for job in before.jobs]
    tiny.write_text(tiny.read_text().replace("mask_ratio: 0.5", "mask_ratio: 0.6"))
    edited = study.plan(labelled, seeds=1)
    changed = {a.kind for a, b in zip(before.jobs, edited.jobs, strict=True) if a.name != b.name}
    assert changed == {"pretraining", "pretrained", "scratch", "probe"}  # scratch: its recipe extends the edited one
    labelled.write_text(labelled.read_text() + "optimizer: {base_lr: 0.01}\n")
    tuned = study.plan(labelled, seeds=1)
    assert {a.kind for a, b in zip(edited.jobs, tuned.jobs, strict=True) if a.name != b.name} == {
        "pretrained",
        "scratch",
    }


def test_only_what_every_seed_could_follow_is_a_method(labelled: Path, tmp_path: Path) -> None:
    """Few labels may not say how they move in one seed; the page must not mix two seeds with three."""
    planned = study.plan(labelled, seeds=2, overrides=[FOLDS])
    for job in planned.jobs:  # pretrainings too, so that none is run
        (tmp_path / job.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{job.name}.json").write_text("{}")
    dynamics = {"window_s": 10.0, "drift": 1.0, "lowest": 60.0, "highest": 90.0}
    for seed, folds in enumerate(planned.predicting[0]):
        for fold, jobs in enumerate(folds):
            for job in jobs:
                path = tmp_path / f"{job.name}.json"
                known = (
                    {} if job.kind != "constant" else {"label_dynamics": None if (seed, fold) == (1, 0) else dynamics}
                )
                path.write_text(
                    json.dumps(
                        {
                            "index": [0, 1],
                            "label": [70.0, 71.0],
                            "groups": [f"g{fold}"],
                            "group": [0, 0],
                            "position": [[0, 0.0], [0, 10.0]],
                            "methods": {job.kind: [70.0, 80.0]},
                            **known,
                        }
                    )
                )
    found, _ = measure(replace(planned, folder=tmp_path), track_s=10.0)
    assert not [method.name for method in found.points[0].methods if method.name.endswith("followed")]
    assert "too few labels" in found.notes[-1]
    path = next(tmp_path.rglob("seed1_fold0/constant-*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label_dynamics": dynamics}))
    found, _ = measure(replace(planned, folder=tmp_path), track_s=10.0)
    assert {len(method.per_seed) for method in found.points[0].methods if method.name.endswith("followed")} == {2}
    assert not found.notes


def test_only_what_goes_on_in_time_is_followed(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, options in (("classes", {"track_s": 10.0}), ("rows", {"track_s": 10.0}), ("classes", {"smoothing": 3})):
        planned = study.plan(labelled, seeds=1, overrides=[FOLDS])
        source = SimpleNamespace(classes=None, objects=None, window_s=None, positions=np.zeros((3, 2)))
        experiment = replace(planned.experiment, source=source)  # type: ignore[arg-type]
        kind = ClassLabels(["a"]) if more == "classes" else ValueLabels()
        monkeypatch.setattr("maekit.studies.measure.label_kind_of", lambda _, kind=kind: kind)
        with pytest.raises(UserError, match="goes on along recordings"):
            measure(replace(planned, experiment=experiment), **options)  # type: ignore[arg-type]


def test_pretraining_never_sees_who_is_held_out(labelled: Path, tiny: Path) -> None:
    """Whatever split the pretraining recipe has of its own, in a study it has that of the labelled task."""
    tiny.write_text(tiny.read_text().replace("split: {validation: [p000], test: [p001]}", "split: {folds: 3, seed: 5}"))
    labelled.write_text(labelled.read_text() + "data: {split: {folds: leave_one_out}}\n")
    planned = study.plan(labelled, seeds=1)
    assert kinds(planned)["pretraining"] == 6
    for training in trainings(planned.jobs):
        assert any(setting.startswith('data.split={"folds": "leave_one_out"') for setting in training["overrides"])


def test_a_new_window_keeps_the_hop_of_the_data_spec(labelled: Path, tiny: Path) -> None:
    stated = "  window: {axis: time, seconds: 10, hop_seconds: 5}\n"
    assert stated in tiny.read_text()
    tiny.write_text(tiny.read_text().replace(stated, ""))
    planned = study.plan(labelled, sweep=["seconds=5,10"], seeds=1)
    spec = planned.experiment.spec.window
    assert spec is not None
    windows = [
        load_recipe(training["recipe"], training["overrides"]).recipe.data.window
        for training in trainings(planned.jobs)
    ]
    assert {(w.seconds, w.hop_seconds) for w in windows if w} == {(5, spec.hop_seconds), (10, spec.hop_seconds)}
    assert planned.points[planned.chosen].labelled() == {"seconds": spec.seconds}


@pytest.mark.parametrize(
    ("sweep", "chosen"),
    [
        ("mask_ratio=0.3,0.5,0.7", 1),
        ("masking=span,random", 1),
        ("init.epochs=1,2", 1),
        ("label_fraction=0.5,1", 1),
        ("base_lr=1,2", 1),
    ],
)
def test_the_recipe_as_it_stands_is_shown_in_full(labelled: Path, sweep: str, chosen: int) -> None:
    assert study.plan(labelled, sweep=[sweep], seeds=1).chosen == chosen


def test_mistakes(labelled: Path, tiny: Path) -> None:
    with pytest.raises(UserError, match=r"expected .*labelled\.yaml"):
        study.plan(tiny)
    with pytest.raises(UserError, match="--smoothing: no window in the middle"):
        study.study(labelled, smoothing=4)
    with pytest.raises(UserError, match="a task without labels"):
        study.plan(labelled, compare=[str(tiny)])
    with pytest.raises(UserError, match="no group is held out"):
        study.plan(labelled, overrides=["data.split={validation: [p000]}"])


def test_a_sweep_for_real(labelled: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found = study.sweep(labelled, sweep=["mask_ratio=0.3,0.75"], seeds=2, runs=tmp_path, report=told.append)
    assert len(told) == 2 * (2 + 2 + 3) + 2
    folder = tmp_path / "labelled"
    assert {"sweep.html", "sweep.json", "sweep.csv", "sweep.svg"} <= {path.name for path in folder.iterdir()}
    assert [point.values for point in found.points] == [{"mask_ratio": 0.3}, {"mask_ratio": 0.75}]
    one, other = (point.method("random weights, linear probe") for point in found.points)
    assert one is not None
    assert one == other, "what was not pretrained is one job for all points"
    page = (folder / "sweep.html").read_text()
    assert "Metrics along mask_ratio" in page
    rows = list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))
    assert {row["group"] for row in rows} == {"", "p001"}
    told.clear()
    again = study.sweep(labelled, sweep=["mask_ratio=0.3"], seeds=2, runs=tmp_path, report=told.append)
    assert not told
    assert again.points == found.points[:1]
    assert (
        study.sweep(labelled, sweep=["mask_ratio=0.3", "masking=random"], seeds=2, runs=tmp_path, report=told.append)
        .points[0]
        .methods
    )
    assert not told, "another grid finds what the same recipes have computed"
    plans = dry_run_study(
        study.plan(labelled, sweep=["mask_ratio=0.3"], seeds=2, probing=True, runs=tmp_path), device="meta"
    )
    assert plans[-1].facts[0][1].startswith("0 pretrainings and 0 with labels")


def test_a_killed_worker_changes_no_result(labelled: Path, tmp_path: Path) -> None:
    """Two workers, one of which is killed while it trains, against one process that is left alone."""
    options: dict[str, Any] = {"sweep": ["mask_ratio=0.3,0.75"], "seeds": 1, "overrides": ["schedule.epochs=30"]}
    alone = study.sweep(labelled, runs=tmp_path / "alone", **options)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(study.sweep, labelled, runs=tmp_path / "killed", jobs=2, **options)
        deadline = time.monotonic() + 120
        while not (checkpoints := list((tmp_path / "killed").rglob("pretraining-*/checkpoints/*"))):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run = checkpoints[0].parents[1]
        killed = int((run / ".lock").read_text())
        os.kill(killed, signal.SIGKILL)
        assert result.result().points == alone.points
    assert int((run / ".lock").read_text()) != killed, "the run was finished by another process"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_the_oracle_picks_and_chance_is_worse(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def candidates(self: HeartRateAdapter) -> dict[str, object]:
        return {
            "near": lambda sample: np.array([sample.label + 0.5, 200.0, np.nan]),
            "none": lambda sample: np.array([]),
        }

    monkeypatch.setattr(HeartRateAdapter, "candidates", candidates, raising=False)
    found = methods.oracle_job(recipe=labelled, overrides=())
    label = np.array(found["label"])
    np.testing.assert_allclose(np.array(found["methods"]["oracle: near"]) - label, 0.5, atol=1e-3)
    permuted = np.array(found["labels"]["oracle: near, labels permuted"])
    assert sorted(permuted) == pytest.approx(sorted(label), abs=1e-3)
    errors = np.abs(np.array(found["methods"]["oracle: near, labels permuted"]) - permuted)
    np.testing.assert_allclose(errors, np.abs(label + 0.5 - permuted), atol=1e-3)
    assert found["methods"]["oracle: none"] == [None] * len(label)
    assert json.loads(json.dumps(found)) == found


def made(mae: float, within: float, name: str, kind: Kind) -> Method:
    rows = [
        {"mae": mae + d, "rmse": mae, "mape": 5.0, "within": within, "r": 0.5, "bias": 0.0, "lower": -9.0, "upper": 9.0}
        for d in (-0.1, 0.1)
    ]
    return Method(rows, {"mae": (mae - 1, mae + 1), "within": None}, name, kind, {"p1": rows[0], "p2": rows[1]})


def made_study(*pretrained: float, kind: str = "study") -> Study:
    points = []
    for i, mae in enumerate(pretrained):
        tuned, scratch = (
            made(mae, 0.8, "pretrained, fine-tuned", "trained"),
            made(6.0, 0.6, "from scratch, fine-tuned", "trained"),
        )
        rows = [
            {name: one[name] - two[name] for name in one}
            for one, two in zip(tuned.per_seed, scratch.per_seed, strict=True)
        ]
        difference = Difference(rows, {"mae": (mae - 6.5, mae - 5.5), "within": None}, tuned.name, scratch.name)
        others = [
            made(7.0, 0.7, "peak", "no learning"),
            made(6.5, 0.5, "constant (median)", "no learning"),
            made(1.0, 1.0, "oracle: x", "oracle"),
        ]
        points.append(
            PointResult(
                {"seconds": 5 * (i + 1), "masking": "span"} if len(pretrained) > 1 else {},
                [tuned, scratch, *others],
                [difference],
                40,
            )
        )
    labels = ValueLabels(5, "bpm")
    return Study(
        recipe="r",
        kind=kind,
        points=points,
        chosen=0,
        metrics=list(labels.metrics),
        main_metrics=list(labels.main_metrics),
        lower_is_better=list(labels.lower_is_better),
        titles=dict(labels.metric_titles),
        units={"mae": "bpm"},
        seeds=2,
        folds=3,
        notes=["A note."],
    )


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    text, good = page.verdict(made_study(4.0))
    assert good
    assert "pretrained, fine-tuned is best, with mae 4.000 bpm (95 %: 3.000 to 5.000)" in text
    assert "Pretraining gains 2.000 bpm" in text
    assert "more than the variation between seeds and groups" in text
    assert text.endswith("A note.")
    text, good = page.verdict(made_study(6.8))
    assert not good
    assert "Pretraining loses 0.800 bpm" in text
    assert "No trained method beats all methods without training on mae and within at once." in text
    methods, bought, oracle = page.point_tables(made_study(4.0), made_study(4.0).points[0])
    assert "oracle: x" not in [row[0] for row in methods.rows]
    assert (0, methods.columns.index("mae [bpm]")) in methods.best
    assert bought.rows[0][1].startswith("-2.0")
    assert [row[0] for row in oracle.rows] == ["oracle: x"]
    groups = page.group_table(made_study(4.0), made_study(4.0).points[0])
    assert groups.columns == ["", "p1", "p2"]
    assert groups.best == {(0, 1), (0, 2)}, "the oracle is no method"


@pytest.mark.parametrize(("kind", "pictures"), [("study", 1), ("sweep", 1)])
def test_files_and_curves_of_a_grid(kind: str, pictures: int) -> None:
    found = made_study(4.0, 5.0, 6.0, kind=kind)
    if kind == "sweep":
        renamed = [
            Method(a.per_seed, a.intervals, "pretrained, linear probe" if i == 0 else a.name, a.kind, a.groups)
            for i, a in enumerate(found.points[0].methods)
        ]
        found = Study(**{**vars(found), "points": [PointResult(p.values, renamed, [], 40) for p in found.points]})
    content = page.content(found, [], "", {})
    assert len(content.pictures) == pictures
    assert len(content.pictures[0].panels) == 2
    assert "seconds" in content.pictures[0].alt
    rows = list(csv.DictReader(io.StringIO(page.as_csv(found))))
    assert len(rows) == 3 * 5 * 3
    assert rows[0]["mae"] == "4.0"
    assert rows[0]["mae_low"] == "3.0"
    assert rows[0]["seconds"] == "5"
    assert json.loads(page.as_json(found))["points"][1]["values"] == {"seconds": 10, "masking": "span"}
    tables = page.terminal_tables(found)
    titles = ["seconds 5, masking span", "seconds 10, masking span", "seconds 15, masking span"]
    if kind == "study":
        assert [table.columns[1:] for table in tables] == [titles] * 2
    else:
        assert [row[0] for row in tables[0].rows] == [*titles, "peak", "constant (median)"]
        assert tables[0].columns == ["", "mae [bpm]", "mae 95 % [bpm]", "within", "r"]
        assert tables[0].best
        assert page.verdict(found)[0].startswith("The linear probe is best at seconds 5")
