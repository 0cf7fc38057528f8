"""A dry run of a study or sweep: dry runs of some of its trainings, and an estimate for all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from maekit.build.prepare import RANDOM
from maekit.config.load import load_recipe
from maekit.profiling.dry_run import DryRun, dry_run
from maekit.report.quantities import duration
from maekit.studies import methods
from maekit.studies.jobs import is_done

if TYPE_CHECKING:
    from maekit.studies import study

MAX_TIMED = 6
"""Trainings of a study that are timed; the others are assumed to take their mean."""


def dry_run_study(planned: study.Plan, *, jobs: int = 1, device: str | None = None) -> list[DryRun]:
    """Dry runs of some trainings of a study or sweep that are still to do, and one result for all of them together.

    Raises:
        UserError: as `dry_run`.
    """
    remaining = [cell for cell in planned.cells if not is_done(planned.folder, cell.name)]
    computes: dict[str, object] = {cell.name: cell.compute for cell in remaining}
    trainings = {name: compute for name, compute in computes.items() if isinstance(compute, methods.Training)}
    groups = _by_duration(trainings)
    timed = list(groups.values())[:: max(len(groups) // MAX_TIMED, 1)]
    results = []
    for training, *_ in timed:
        start = None if isinstance(training, methods.Pretraining) else RANDOM
        loaded = load_recipe(training.recipe, training.named)
        results.append(dry_run(loaded, start, runs=training.runs, device=device))
    pretrainings = sum(isinstance(training, methods.Pretraining) for training in trainings.values())
    folds, seeds = len(planned.rounds[0][0]), len(planned.rounds[0])
    facts = [
        (
            "trainings",
            f"{pretrainings} pretrainings and {len(trainings) - pretrainings} with labels to do: "
            f"{len(planned.points)} point(s) x {seeds} seeds x {folds} folds, each only once",
        ),
        (
            "other jobs",
            f"{len(remaining) - len(trainings)} probes, estimates and constants to do; "
            f"{len(planned.cells) - len(remaining)} of {len(planned.cells)} jobs are done",
        ),
    ]
    total = None
    measured = [(len(group), result.seconds) for group, result in zip(timed, results, strict=True)]
    if all(seconds is not None for _, seconds in measured):
        count = sum(number for number, _ in measured)
        mean = sum(number * (seconds or 0.0) for number, seconds in measured) / count if count else 0.0
        total = mean * len(trainings) / jobs
        processes = f" in {jobs} processes, if the machine has cores for them" if jobs > 1 else ""
        facts.append(("time", f"about {duration(total)}{processes}; probes and checkpoints come on top"))
    title = f"{planned.loaded.recipe.name}: the {'sweep' if planned.probing else 'study'}"
    return [*results, DryRun(title, facts, total, results[0].first if results else True)]


def _by_duration(trainings: dict[str, methods.Training]) -> dict[str, list[methods.Training]]:
    """Group trainings that take the same time: those that differ in seed and fold alone."""
    groups: dict[str, list[methods.Training]] = {}
    for name, training in trainings.items():
        parts = name.rsplit("-", 1)[0].split("/")
        method = "/".join(part for part in parts if not re.fullmatch(r"seed\d+(_fold\d+)?", part))
        groups.setdefault(f"{training.recipe}: {method}", []).append(training)
    return groups
