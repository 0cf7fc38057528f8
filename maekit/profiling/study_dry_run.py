"""A dry run of a study or sweep: dry runs of some of its trainings, and an estimate for all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from maekit.build.prepare import RANDOM
from maekit.config.load import load_recipe
from maekit.profiling.dry_run import DryRun, dry_run
from maekit.report.quantities import duration
from maekit.studies import methods
from maekit.studies.jobs import missing_jobs
from maekit.studies.plan import TRAININGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.studies.jobs import Job
    from maekit.studies.study import StudyPlan

MAX_TIMED = 6
"""Trainings of a study that are timed; the others are assumed to take their mean."""


def dry_run_study(planned: StudyPlan, *, jobs: int = 1, device: str | None = None) -> list[DryRun]:
    """Dry runs of some trainings of a study or sweep that are still to do, and one result for all of them together.

    Args:
        planned: the study.
        jobs: parallel processes.
        device: as for training, or as for `dry_run`, where some time nothing.

    Raises:
        UserError: as `dry_run`.
    """
    remaining = missing_jobs(planned.folder, planned.jobs)
    trainings = [job for job in remaining if job.function in TRAININGS]
    groups = _by_duration(trainings)
    timed = groups[:: max(len(groups) // MAX_TIMED, 1)]
    results = [_dry_run_training(group[0], device) for group in timed]
    pretrainings = sum(job.function is methods.pretrain_job for job in trainings)
    folds, seeds = len(planned.predicting[0][0]), len(planned.predicting[0])
    facts = [
        (
            "trainings",
            f"{pretrainings} pretrainings and {len(trainings) - pretrainings} with labels to do: "
            f"{len(planned.points)} point(s) x {seeds} seeds x {folds} folds, each only once",
        ),
        (
            "other jobs",
            f"{len(remaining) - len(trainings)} probes, estimates and constants to do; "
            f"{len(planned.jobs) - len(remaining)} of {len(planned.jobs)} jobs are done",
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


def _dry_run_training(job: Job, device: str | None) -> DryRun:
    """A dry run of one training, from random weights, since the pretraining may not have been run."""
    arguments = job.arguments
    loaded = load_recipe(arguments["recipe"], [*arguments["overrides"], f"name={arguments['run']}"])
    start = None if job.function is methods.pretrain_job else RANDOM
    return dry_run(loaded, start, runs=arguments["runs"], device=device)


def _by_duration(trainings: Sequence[Job]) -> list[list[Job]]:
    """Group trainings that take the same time: those that differ in seed and fold alone."""
    groups: dict[str, list[Job]] = {}
    for job in trainings:
        parts = job.name.rsplit("-", 1)[0].split("/")
        method = "/".join(part for part in parts if not re.fullmatch(r"seed\d+(_fold\d+)?", part))
        groups.setdefault(f"{job.arguments['recipe']}: {method}", []).append(job)
    return list(groups.values())
