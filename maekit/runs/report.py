"""From a run folder to its report page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maekit.build.experiment import Experiment
from maekit.build.open_run import open_run
from maekit.build.weights import lacks_decoder
from maekit.report import figures
from maekit.report.content import Content, Picture, Table
from maekit.report.html import write_report
from maekit.runs import baselines, report_objects
from maekit.runs.compare import comparison_or_none
from maekit.runs.evaluate import predictions
from maekit.runs.reconstruct import pictures, undrawable
from maekit.tasks.detection import Detection
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.tokenizing import Tokenizing
from maekit.training.run import Run

PICTURES = 3


def report(run: Path, *, overrides: Sequence[str] = (), device: str | None = None, extra: Sequence[Table] = ()) -> Path:
    """Write `report.html` into a run folder.

    Args:
        run: the folder.
        overrides: where the data are now, say.
        device: evaluation runs there.
        extra: tables to put first.

    Raises:
        UserError: no run there.
    """
    experiment, task = open_run(run, overrides=overrides)
    rows = Run(run).rows()
    shown: list[Picture] = []
    tables = list(extra)
    if isinstance(task, Pretraining):
        verdict, good = pretraining_verdict(rows, task.model.target.average_of)
        if lacks_decoder(run):
            verdict += " There are no pictures: the weights that this run was made of lack a decoder."
        elif why := undrawable(task):
            verdict += f" There are no pictures: {why}."
        else:
            shown = pictures(experiment, task, PICTURES)
    elif isinstance(task, Tokenizing):
        verdict, good = pretraining_verdict(rows)
        used = next((row for row in reversed(rows) if "codes_used" in row), None)
        if used:
            verdict += f" {used['codes_used']:.0f} of {task.tokenizer.vocabulary} codes in use (perplexity {used['perplexity']:.0f})."
    elif isinstance(task, Detection):
        verdict, more, shown = report_objects.of_detection(run, experiment, task, overrides, device)
        good, tables = None, [*tables, *more]
    else:
        verdict, good, tables, shown = _labelled(run, experiment, [*tables], overrides, device)
    if (comparison := comparison_or_none(run)) is not None:
        tables.append(comparison)
    content = Content(
        title=experiment.recipe.name,
        verdict=verdict,
        good=good,
        curves=figures.curves(rows),
        pictures_title="Reconstructions" if isinstance(task, Pretraining) else "Predictions",
        pictures=shown,
        tables=tables,
        recipe=(run / "recipe.yaml").read_text(),
        environment=json.loads((run / "environment.json").read_text()),
    )
    return write_report(content, run / "report.html")


def pretraining_verdict(rows: Sequence[dict[str, Any]], average: str = "the mean patch") -> tuple[str, bool | None]:
    """One sentence: is the loss better than what needs no learning? `average`: of the target, in words."""
    measured = [row for row in rows if row["kind"] == "validation"] or [
        row for row in rows if "loss_mean_patch" in row or "partner_rank" in row
    ]
    if not measured:
        return "Nothing was measured yet.", None
    last = measured[-1]
    names = {"loss_mean_patch": average, "loss_interpolation": "interpolation from visible patches"}
    trivial = {label: last[name] for name, label in names.items() if name in last}
    told = _of_signals_together(last)
    if not trivial:
        return told.strip() or f"The loss is {last['loss']:.3f}; there is nothing to compare it with.", None
    best = min(trivial, key=lambda label: trivial[label])
    beats = last["loss"] < trivial[best]
    others = ", ".join(f"{label} {value:.3f}" for label, value in trivial.items())
    where = (
        "on the validation split"
        if last["kind"] == "validation"
        else "on a training batch (there is no validation split)"
    )
    verb = "beats" if beats else "does NOT beat"
    return f"The loss of {last['loss']:.3f} {where} {verb} the trivial predictors ({others}).{told}", beats


def _of_signals_together(row: dict[str, Any]) -> str:
    """Sentences on what only pretraining on several signals measures."""
    told = ""
    if left := {name.removeprefix("together_"): row[name] for name in row if name.startswith("together_")}:
        told += f" With all signals seen the loss of each is: {', '.join(f'{name} {value:.3f}' for name, value in left.items())}."
    if "partner_rank" in row:
        told += (
            f" The other signal of the same moment is likelier than {1 - row['partner_rank']:.0%} of those of other moments (chance: 50%), and "
            f"the likeliest of all for {row['partner_first']:.1%}."
        )
    return told


def _labelled(
    run: Path, experiment: Experiment, tables: list[Table], overrides: Sequence[str], device: str | None
) -> tuple[str, bool | None, list[Table], list[Picture]]:
    side = "test" if len(experiment.split["test"]) else "validation"
    if not len(experiment.split[side]):
        return "There is no test or validation split to judge this run by.", None, tables, []
    metrics, found = predictions(run, side=side, overrides=overrides, device=device, alone=True)
    output, label = found["output"], found["label"]
    wanted = baselines.shown_metrics(experiment)
    rows: list[list[Any]] = [["this run", *(metrics[name] for name in wanted)]]
    truth = experiment.labels[experiment.split[side]]
    best: dict[str, float] = {}
    if side == "test":
        for name, values in baselines.without_learning(experiment).items():
            score = baselines.score(experiment, values, truth)
            rows.append([name, *(score[metric] for metric in wanted)])
            best[name] = score[wanted[0]]
    unit = experiment.spec.label.unit if experiment.spec.label else ""
    tables.append(
        Table(f"Metrics on the {side} split", ["", *wanted], rows, f"{len(label)} samples of groups never trained on.")
    )
    if experiment.source.classes:
        counts = np.zeros((len(experiment.source.classes),) * 2, dtype=np.int64)
        np.add.at(counts, (label, output.argmax(1)), 1)
        picture = figures.confusion(counts, experiment.source.classes)
        good = all(metrics["accuracy"] > value for value in best.values()) if best else None
    else:
        picture = figures.agreement(output, label, unit)
        good = all(metrics["mae"] < value for value in best.values()) if best else None
    words = {True: "beats", False: "does NOT beat", None: "was not compared with"}[good]
    return (
        f"{wanted[0]} {metrics[wanted[0]]:.3f} {unit} on the {side} split: {words} the predictors without learning.",
        good,
        tables,
        [picture],
    )
