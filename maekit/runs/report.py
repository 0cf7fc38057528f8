"""From a run folder to its report page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maekit import files
from maekit.build.open_run import open_run
from maekit.build.parts import label_kind_of
from maekit.build.weights import lacks_decoder
from maekit.report import figures
from maekit.report.content import Page, Table
from maekit.report.html import write_report
from maekit.runs.compare import comparison_or_none
from maekit.runs.evaluate import predictions
from maekit.runs.reconstruct import pictures as reconstructions
from maekit.runs.reconstruct import undrawable
from maekit.tasks.label_kinds.base import ReportSection
from maekit.tasks.verdict import Verdict
from maekit.training.device import find_device
from maekit.training.run import Run

if TYPE_CHECKING:
    from maekit.build.experiment import Experiment
    from maekit.tasks.task import Task

RECONSTRUCTIONS = 3


def report(run: Path, *, overrides: Sequence[str] = (), device: str | None = None, extra: Sequence[Table] = ()) -> Path:
    """Write `report.html` into a run folder.

    Args:
        run: the folder.
        overrides: where the data are now, say.
        device: evaluation runs there.
        extra: tables to put first.

    Raises:
        UserError: no run there, or no such device.
    """
    find_device(device)  # also where nothing is evaluated
    experiment, task = open_run(run, overrides=overrides)
    rows = Run(run).rows()
    if task.needs_labels:
        section = _predictions(run, experiment, overrides, device)
    else:
        section = _training(run, experiment, task)
    tables = [*extra, *section.tables]
    if (comparison := comparison_or_none(run)) is not None:
        tables.append(comparison)
    content = Page(
        title=experiment.recipe.name,
        verdict=section.verdict.text,
        good=section.verdict.good,
        curves=figures.curves(rows),
        pictures_title="Predictions" if task.needs_labels else "Reconstructions",
        pictures=section.figures,
        tables=tables,
        recipe=(run / "recipe.yaml").read_text(),
        environment=files.read_json(run / "environment.json"),
    )
    return write_report(content, run / "report.html")


def _training(run: Path, experiment: Experiment, task: Task) -> ReportSection:
    """How training without labels went, and reconstructions where the task makes some."""
    text, good = task.summarize(Run(run).rows())
    if lacks_decoder(run):
        text += " There are no pictures: the weights that this run was made of lack a decoder."
    elif reason := undrawable(task):
        text += f" There are no pictures: {reason}."
    else:
        return ReportSection(Verdict(text, good), [], reconstructions(experiment, task, RECONSTRUCTIONS))
    return ReportSection(Verdict(text, good), [])


def _predictions(run: Path, experiment: Experiment, overrides: Sequence[str], device: str | None) -> ReportSection:
    """Predictions on the test split, or on validation where that is empty."""
    side = "test" if len(experiment.split["test"]) else "validation"
    if not len(experiment.split[side]):
        return ReportSection(Verdict("There is no test or validation split to judge this run by."), [])
    metrics, rows = predictions(run, side=side, overrides=overrides, device=device, alone=True)
    return label_kind_of(experiment).report(experiment, rows, metrics, side)
