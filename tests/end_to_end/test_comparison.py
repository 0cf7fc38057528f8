"""`maekit compare`: verdicts, what stands in for what, and what a mistake gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maekit.config.load import load_recipe
from maekit.config.shipped import list_recipes
from maekit.errors import UserError
from maekit.runs.compare import compare
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain

RECIPE = """\
name: {name}
adapter: image
data: {{spec: images_cifar10}}
schedule: {{epochs: 10}}
task: {task}
"""
REFERENCE = "reference: {metrics: {METRICS}, tolerance: {TOLERANCE}, source: a paper}\n"


def run_folder(
    folder: Path,
    *,
    task: str = "pretraining",
    metrics: str = "",
    tolerance: str = "",
    epochs: int = 10,
    start: Path | None = None,
    **values: list[float],
) -> Path:
    """A run as training leaves it, without weights; `values` are the metrics of its validations."""
    folder.mkdir()
    reference = REFERENCE.replace("METRICS", metrics).replace("TOLERANCE", tolerance) if metrics else ""
    (folder / "recipe.yaml").write_text(RECIPE.format(name=folder.name, task=task) + reference)
    count = max(map(len, values.values()), default=1)
    rows: list[dict[str, Any]] = [{"kind": "train", "step": 1, "epoch": 0.1, "loss": 3.0}]
    rows += [
        {"kind": "validation", "step": i, "epoch": epochs * (i + 1) / count, **{k: v[i] for k, v in values.items()}}
        for i in range(count)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "environment.json").write_text(json.dumps({"started from": str(start)} if start else {}))
    return folder


def cells(run: Path, **options: Any) -> tuple[dict[str, list[Any]], bool, str]:
    result = compare(run, **options)
    return {row[0]: row[1:] for row in result.table.rows}, result.met, result.table.note


@pytest.mark.parametrize(
    ("ours", "verdict", "met"),
    [(0.856, "within", True), (0.852, "within", True), (0.8519, "below", False), (0.87, "above", True)],
)
def test_verdicts(ours: float, verdict: str, met: bool, tmp_path: Path) -> None:
    run = run_folder(
        tmp_path / "run",
        task="classification",
        metrics="accuracy: 0.854",
        tolerance="accuracy: 0.002",
        accuracy=[0.9, ours],
        loss=[1.0, 0.7],
    )
    rows, said, note = cells(run)
    assert rows["accuracy"] == [str(ours), "0.9", "0.854 ± 0.002", f"{ours - 0.854:+.4f}", verdict]
    assert said is met
    assert "10 of 10 epochs" in note
    assert "a paper" in note


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    for ours, verdict, met in ((0.3, "below", True), (0.5, "above", False)):
        run = run_folder(tmp_path / verdict, metrics="loss: 0.4", tolerance="loss: 0.01", loss=[0.2, ours])
        rows, said, _ = cells(run)
        assert rows["loss"][1] == "0.2", "the best loss is the lowest"
        assert (rows["loss"][-1], said) == (verdict, met)


def test_an_unfinished_run_is_not_met(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", metrics="loss: 0.4", tolerance="loss: 0.1", epochs=4, loss=[0.4])
    rows, met, note = cells(run)
    assert rows["loss"][-1] == "within"
    assert not met
    assert "4 of 10 epochs: NOT FINISHED" in note


def test_pretraining_is_judged_by_what_was_built_on_it(tmp_path: Path) -> None:
    metrics, tolerance = "finetuned: 0.85, linear: 0.735", "finetuned: 0.003, linear: 0.01"
    base = run_folder(tmp_path / "base", metrics=metrics, tolerance=tolerance, loss=[0.4])
    rows, met, note = cells(base)
    assert rows["finetuned"] == ["not measured", "", "0.85 ± 0.003", "", "not measured"]
    assert not met
    assert f"maekit compare {base} --finetuned RUN --linear RUN" in note
    tuned = run_folder(
        tmp_path / "tuned",
        task="classification",
        start=base,
        accuracy=[0.852],
        metrics="accuracy: 0.9",
        tolerance="accuracy: 0.1",
    )
    frozen = "{name: classification, tune: frozen}"
    probe = run_folder(tmp_path / "probe", task=frozen, start=base / "checkpoints/step-000000001", accuracy=[0.7])
    rows, met, note = cells(base, finetuned=tuned, linear=probe)
    assert (rows["finetuned"][-1], rows["linear"][-1], met) == ("within", "below", False)
    assert "which is not this run" not in note
    # From the other end: what a run started from says more than its own recipe.
    rows, met, note = cells(tuned)
    assert (rows["finetuned"][2], met) == ("0.85 ± 0.003", True)
    assert "pretraining it started from" in note
    assert cells(probe)[0]["linear"][-1] == "below"
    other = run_folder(tmp_path / "other", task="classification", start=tmp_path / "elsewhere", accuracy=[0.85])
    assert "which is not this run" in cells(base, finetuned=other, linear=probe)[2]
    for options, message in (
        ({"finetuned": probe}, "not the kind of run"),
        ({"linear": tuned}, "not the kind of run"),
        ({"linear": base}, "task pretraining"),
        ({"linear": tmp_path / "prob"}, "Did you mean 'probe'"),
    ):
        with pytest.raises(UserError, match=message):
            compare(base, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no 'finetuned'"):
        compare(tuned, finetuned=probe)
    with pytest.raises(UserError, match="names no reference"):
        compare(other)


def test_a_reference_is_of_one_recipe_alone(tmp_path: Path) -> None:
    reference = REFERENCE.replace("METRICS", "loss: 1.0").replace("TOLERANCE", "loss: 0.1")
    (tmp_path / "base.yaml").write_text(RECIPE.format(name="base", task="pretraining") + reference)
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nname: child\nmodel: {mask_ratio: 0.5}\n")
    assert load_recipe(tmp_path / "base.yaml", ["data.root=/data"]).recipe.reference is not None
    child = load_recipe(tmp_path / "child.yaml")
    assert child.recipe.reference is None
    assert not [keys for keys in child.origins if keys[:1] == ("reference",)]
    for wrong, message in (
        ("{metrics: {a: 1}, tolerance: {b: 1}, source: x}", "'b' is none of the metrics a"),
        ("{metrics: {}, source: x}", "metrics"),
        ("{metrics: {a: 1}}", "source is missing"),
        ("{metrics: {a: high}, source: x}", "number"),
        ("{metrics: {a: 1}, tolerance: {a: -1}, source: x}", "greater than or equal to 0"),
        ("{metric: {a: 1}, source: x}", "Did you mean 'metrics'"),
    ):
        (tmp_path / "wrong.yaml").write_text(f"extends: base.yaml\nreference: {wrong}\n")
        with pytest.raises(UserError, match=message):
            load_recipe(tmp_path / "wrong.yaml")


def test_a_real_run_from_the_command_line(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text() + "reference: {metrics: {loss: 1.0}, tolerance: {loss: 5.0}, source: a guess}\n")
    base = pretrain(tiny, runs=tmp_path).folder
    tuned = finetune(
        tiny,
        base,
        runs=tmp_path,
        overrides=["task=regression", "name=tuned", "reference={metrics: {mae: 0}, source: x}"],
    ).folder
    assert json.loads((tuned / "environment.json").read_text())["started from"] == str(base)
    assert compare(base).met
    assert not compare(tuned).met
    evaluated = compare(tuned, split="test", overrides=["training.batch_size=8"])
    assert evaluated.table.rows[0][1] != compare(tuned).table.rows[0][1]
    assert "evaluated on the test split" in evaluated.table.note
    done = subprocess.run(
        [sys.executable, "-m", "maekit", "compare", str(tuned)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "above" in done.stdout
    with pytest.raises(UserError, match="Did you mean 'tuned'"):
        compare(tmp_path / "tunde")
    assert "beside its reference" in report(base).read_text()


def test_deep_folders_are_counted_until_named() -> None:
    assert all(isinstance(found, Path) for name, found in list_recipes().items() if name.startswith("heart_rate"))
    with pytest.raises(UserError, match="Did you mean 'heart_rate'"):
        list_recipes("hart_rate")
