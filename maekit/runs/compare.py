"""A run beside the reference that its recipe names: ours, the reference, the difference, a verdict.

A pretraining recipe's reference is mostly of what was built on it: `finetuned` and `linear` are accuracies of the runs
that started from it. Those find it too, so that comparing such a run compares it with what its pretraining was known for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit import plugins
from maekit.build.prepare import RANDOM
from maekit.config.load import load_recipe
from maekit.errors import UserError, nearest
from maekit.report.content import Table
from maekit.runs.evaluate import evaluate
from maekit.training.run import Run

if TYPE_CHECKING:
    from maekit.config.schema import PublishedReference, Recipe
    from maekit.tasks.label_kinds.base import LabelKind

DOWNSTREAM = {"finetuned": ("full", "partial"), "linear": ("frozen",)}
"""Metrics of a pretraining recipe's reference, and the `tune` of the runs that give them."""
ACCURACY = "accuracy"
"""The metric of those runs."""
UNMEASURED = "not measured"


@dataclass(frozen=True)
class Comparison:
    """What `maekit compare` prints; `met`: trained to the end, and nothing worse than the reference or missing."""

    table: Table
    met: bool


@dataclass(frozen=True)
class _Measured:
    """Last and best value of each metric of a run, where they were measured, and how far the run got."""

    last: dict[str, float]
    best: dict[str, float]
    where: str
    epochs: float
    planned: int


def compare(
    run: Path,
    *,
    finetuned: Path | None = None,
    linear: Path | None = None,
    split: str | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> Comparison:
    """Put a run beside its recipe's reference.

    Args:
        run: the folder.
        finetuned: a run fine-tuned from it, for a pretraining run whose reference has this metric.
        linear: a linear probe of it, likewise.
        split: evaluate on this side now; by default the last validation of the run counts.
        overrides: for that evaluation.
        device: for that evaluation.

    Raises:
        UserError: no run, no reference, or a run that cannot give the metric.
    """
    recipe = _recipe(run)
    given = {"finetuned": finetuned, "linear": linear}
    reference, source, renamed = _reference(recipe, run)
    downstream = [metric for metric in reference.metrics if metric in DOWNSTREAM and metric not in renamed]
    for metric, path in given.items():
        if path is not None and metric not in downstream:
            raise UserError(
                f"the reference of this run has no {metric!r} to compare with",
                location=f"--{metric}",
                value=str(path),
                expected=", ".join(f"--{m}" for m in downstream) or "no option of this kind for this run",
            )
    own = _measured(run, recipe, split, overrides, device)
    complete = own.epochs >= own.planned
    notes = [_progress("this run", own)]
    rows: list[list[Any]] = []
    met = complete
    for metric, stated in reference.metrics.items():
        tolerance = reference.tolerance.get(metric, 0.0)
        path = given.get(metric)
        found, name = own, renamed.get(metric, metric)
        if metric in downstream:
            if path is None:
                rows.append([metric, UNMEASURED, "", _with(stated, tolerance), "", UNMEASURED])
                met = False
                continue
            other = _recipe(path)
            _gives(metric, path, other)
            found, name = _measured(path, other, split, overrides, device), ACCURACY
            notes.append(_progress(str(path), found))
            met &= found.epochs >= found.planned
            if (start := _start(path)) is not None and start.resolve() != run.resolve():
                notes.append(f"{path} says that it started from {start}, which is not this run.")
        if name not in found.last:
            rows.append([metric, UNMEASURED, "", _with(stated, tolerance), "", UNMEASURED])
            met = False
            continue
        ours = found.last[name]
        best = found.best.get(name)
        verdict, worse = _verdict(_lower_is_better(metric, recipe), ours - stated, tolerance)
        met &= not worse
        rows.append(
            [
                metric,
                _number(ours),
                "" if best is None else _number(best),
                _with(stated, tolerance),
                f"{ours - stated:+.4f}",
                verdict,
            ]
        )
    missing = [metric for metric in downstream if given[metric] is None]
    if missing:
        ways = " ".join(f"--{metric} RUN" for metric in missing)
        notes.append(f"{' and '.join(missing)}: train from this run, then `maekit compare {run} {ways}`.")
    notes += [f"Ours: {own.where}.", f"Reference: {source}."]
    columns = ["", "ours", "best", "reference", "difference", "verdict"]
    return Comparison(Table(f"{recipe.name} beside its reference", columns, rows, " ".join(notes)), met)


def comparison_or_none(run: Path) -> Table | None:
    """For the report: the table of what the run has measured already; None where its recipe names no reference."""
    if _recipe(run).reference is None and _inherited(_recipe(run), run) is None:
        return None
    return compare(run).table


def _recipe(run: Path) -> Recipe:
    stated = run / "recipe.yaml"
    if not stated.is_file():
        near = [path.parent.name for path in run.parent.glob("*/recipe.yaml")] if run.parent.is_dir() else []
        raise UserError(
            "no run here",
            location=str(run),
            expected="the folder of a run, with recipe.yaml and metrics.jsonl",
            hint=nearest(run.name, near) or "Runs stand below --runs (default `runs`), by the recipe's name.",
        )
    return load_recipe(stated).recipe


def _reference(recipe: Recipe, run: Path) -> tuple[PublishedReference, str, dict[str, str]]:
    """The reference, its source in words, and which of its metrics are this run's own under another name."""
    inherited = _inherited(recipe, run)
    if inherited is not None:
        reference, metric, start = inherited
        only = reference.model_copy(update={"metrics": {metric: reference.metrics[metric]}})
        return only, f"{reference.source} (of the pretraining it started from, {start})", {metric: ACCURACY}
    if recipe.reference is None:
        raise UserError(
            "its recipe names no reference",
            location=str(run / "recipe.yaml"),
            value=recipe.name,
            expected="`reference: {metrics: {accuracy: 0.85}, tolerance: {accuracy: 0.002}, source: ...}`",
            hint="A reference belongs to one recipe and is not taken over with `extends`.",
        )
    return recipe.reference, recipe.reference.source, {}


def _inherited(recipe: Recipe, run: Path) -> tuple[PublishedReference, str, Path] | None:
    """What the run that this one started from is known for, when it was this kind of run."""
    start, tune = _start(run), recipe.task.options.get("tune", "full")
    metric = next((name for name, tunes in DOWNSTREAM.items() if tune in tunes), "")
    if start is None or tune == "partial" or not (start / "recipe.yaml").is_file():
        return None
    reference = load_recipe(start / "recipe.yaml").recipe.reference
    return (reference, metric, start) if reference is not None and metric in reference.metrics else None


def _start(run: Path) -> Path | None:
    """The run that a labelled run started from, if it was one and is still there."""
    try:
        start = json.loads((run / "environment.json").read_text()).get("started from")
    except (OSError, ValueError):
        return None
    if not isinstance(start, str) or start == RANDOM:
        return None
    path = Path(start)
    return path.parents[1] if path.parent.name == "checkpoints" else path


def _gives(metric: str, run: Path, recipe: Recipe) -> None:
    tune = recipe.task.options.get("tune", "full")
    kind = _label_kind(recipe)
    has_accuracy = kind is not None and ACCURACY in kind.metric_names
    if not has_accuracy or tune not in DOWNSTREAM[metric]:
        raise UserError(
            "not the kind of run that this option takes",
            location=f"--{metric}",
            value=f"{run}: task {recipe.task.name}" + (f", tune {tune}" if has_accuracy else ""),
            expected=f"a task that measures {ACCURACY}, with tune " + " or ".join(DOWNSTREAM[metric]),
        )


def _measured(run: Path, recipe: Recipe, split: str | None, overrides: Sequence[str], device: str | None) -> _Measured:
    rows = Run(run).rows()
    epochs = max((float(row["epoch"]) for row in rows), default=0.0)
    validations = [row for row in rows if row["kind"] == "validation"]
    names = {name for row in validations for name, value in row.items() if isinstance(value, float)} - {"epoch"}
    best = {
        name: (min if _lower_is_better(name, recipe) else max)(row[name] for row in validations if name in row)
        for name in names
    }
    if split is not None:
        return _Measured(
            evaluate(run, side=split, overrides=overrides, device=device),
            best,
            f"evaluated on the {split} split; best: of all validations",
            epochs,
            recipe.schedule.epochs,
        )
    last = {name: validations[-1][name] for name in names if name in validations[-1]} if validations else {}
    where = "the last validation; best: of all validations" if validations else "nothing was validated"
    return _Measured(last, best, where, epochs, recipe.schedule.epochs)


def _verdict(lower_is_better: bool, difference: float, tolerance: float) -> tuple[str, bool]:
    """The verdict in words, and whether the run is worse. A difference of rounding counts as none."""
    if abs(difference) <= tolerance + 1e-9:
        return "within", False
    above = difference > 0
    return "above" if above else "below", above == lower_is_better


def _lower_is_better(metric: str, recipe: Recipe) -> bool:
    kind = _label_kind(recipe)
    return metric.startswith("loss") or (kind is not None and metric in kind.lower_is_better)


def _label_kind(recipe: Recipe) -> type[LabelKind] | None:
    kind: type[LabelKind] | None = plugins.find("tasks", recipe.task.name).label_kind
    return kind


def _progress(what: str, found: _Measured) -> str:
    text = f"{what}: {found.epochs:.4g} of {found.planned} epochs"
    return (
        f"{text[0].upper()}{text[1:]}."
        if found.epochs >= found.planned
        else f"{text[0].upper()}{text[1:]}: NOT FINISHED."
    )


def _with(value: float, tolerance: float) -> str:
    return f"{_number(value)} ± {tolerance:g}"


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.4g}"
