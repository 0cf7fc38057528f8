"""From the plan of a study to its result: compute what is missing, and score the predictions of each method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.build.parts import label_kind_of
from maekit.errors import UserError
from maekit.studies.jobs import Report, no_report, read_result, run_jobs
from maekit.studies.results import Kind, PointResult, Study
from maekit.studies.scoring import Predictions, concatenate_folds, scored, tracked
from maekit.tracking import check_lag

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.build.experiment import Experiment
    from maekit.studies.jobs import Job
    from maekit.studies.study import StudyPlan
    from maekit.tasks.label_kinds.base import LabelKind

KINDS: dict[str, Kind] = {
    "pretrained": "trained",
    "scratch": "trained",
    "compare": "trained",
    "probe": "linear",
    "random_probe": "linear",
    "raw_input": "linear",
    "learned_baselines": "linear",
    "baselines": "no learning",
    "constant": "no learning",
    "oracle": "oracle",
}
"""Kind of the methods of each kind of job."""
FOLLOWED = ", followed"
FINE_TUNED = (
    ("pretrained, fine-tuned", "from scratch, fine-tuned"),
    ("pretrained, linear probe", "random weights, linear probe"),
)
"""Pairs of methods whose difference is what pretraining bought."""


def measure(
    planned: StudyPlan,
    *,
    smoothing: int = 1,
    track_s: float | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Report = no_report,
) -> tuple[Study, list[dict[str, Predictions]]]:
    """Compute what is missing, and score it.

    Args:
        planned: see `maekit.studies.study.plan`.
        smoothing: also show each method with a running median of so many windows.
        track_s: also show each method as followed along recordings, with so many seconds ahead; see `maekit.tracking`.
        jobs: parallel processes on this machine.
        scheduler: address of a dask scheduler whose workers compute instead.
        report: called with a line of progress for every job.

    Returns:
        The result, and for each point the predictions of the first seed by method.

    Raises:
        UserError: smoothing or tracking that does not fit, and whatever jobs raise.
    """
    experiment, labels = planned.experiment, label_kind_of(planned.experiment)
    _check_along_recordings(experiment, labels, smoothing, track_s)
    run_jobs(planned.folder, planned.jobs, processes=jobs, scheduler=scheduler, report=report)
    points, first_seed, notes = [], [], list(planned.notes)
    for point, seeds in zip(planned.points, planned.predicting, strict=True):
        predictions = _predictions(planned.folder, seeds, smoothing, track_s, labels)
        scores = {name: scored(name, kind, per_seed, labels) for name, (kind, per_seed) in predictions.items()}
        samples = len(next(iter(predictions.values()))[1][0].index)
        first_seed.append({name: per_seed[0] for name, (_, per_seed) in predictions.items()})
        pairs = [(one + end, other + end) for end in ("", FOLLOWED) for one, other in FINE_TUNED]
        differences = [scores[a].less(scores[b]) for a, b in pairs if a in scores and b in scores]
        points.append(
            PointResult(point.labelled(), [score.method() for score in scores.values()], differences, samples)
        )
        if track_s is not None and not any(name.endswith(FOLLOWED) for name in scores):
            notes.append(
                f"Nothing is followed{f' at {point}' if point.swept else ''}: too few labels to know how they move."
            )
    result = Study(
        recipe=planned.loaded.recipe.name,
        kind="sweep" if planned.probing else "study",
        points=points,
        chosen=planned.chosen,
        metrics=list(labels.metrics),
        main_metrics=list(labels.main_metrics),
        lower_is_better=sorted(labels.lower_is_better),
        titles=dict(labels.metric_titles),
        units={metric: labels.unit_of(metric) for metric in labels.metrics},
        seeds=len(planned.predicting[0]),
        folds=len(planned.predicting[0][0]),
        notes=notes,
    )
    return result, first_seed


def _predictions(
    folder: Path, seeds: list[list[list[Job]]], smoothing: int, track_s: float | None, labels: LabelKind
) -> dict[str, tuple[Kind, list[Predictions]]]:
    """Kind, and predictions of each seed, by method; the constant stands in for what is not there."""
    predictions: dict[str, tuple[Kind, list[Predictions]]] = {}
    for folds in seeds:
        results = [[(job.kind, read_result(folder, job.name)) for job in fold] for fold in folds]
        methods: dict[str, tuple[str, Predictions]] = {}
        for i, (kind, first) in enumerate(results[0]):
            for name in first["methods"]:
                methods[name] = kind, concatenate_folds([fold[i][1] for fold in results], name, labels)
        constant = next(method for kind, method in methods.values() if kind == "constant")
        dynamics = [result["label_dynamics"] for fold in results for kind, result in fold if kind == "constant"]
        along: dict[str, tuple[str, Predictions]] = {}
        for i, (kind, first) in enumerate(results[0]):
            for name in first["methods"] if kind not in ("constant", "oracle") else ():
                if smoothing > 1:
                    along[f"{name}, median of {smoothing}"] = kind, methods[name][1].smoothed(smoothing)
                if track_s is not None and all(dynamics):
                    followed = [
                        tracked(fold[i][1], name, of_fold, track_s, labels.assumed_std)
                        for fold, of_fold in zip(results, dynamics, strict=True)
                    ]
                    along[name + FOLLOWED] = kind, concatenate_folds(followed, name, labels)
        for name, (kind, method) in (methods | along).items():
            predictions.setdefault(name, (KINDS[kind], []))[1].append(method.filled(constant, labels))
    # A method that some seeds lack would be averaged over fewer of them than the others.
    return {name: (kind, per_seed) for name, (kind, per_seed) in predictions.items() if len(per_seed) == len(seeds)}


def _check_along_recordings(experiment: Experiment, labels: LabelKind, smoothing: int, track_s: float | None) -> None:
    """Refuse smoothing and tracking of labels that are not values of windows that follow each other."""
    if smoothing % 2 == 0:
        raise UserError("no window in the middle", location="--smoothing", value=smoothing, expected="an odd number")
    if track_s is not None:
        check_lag(track_s)
    checks = (
        ("--smoothing", smoothing, smoothing > 1, "positions"),
        ("--track", track_s, track_s is not None, "window_s"),
    )
    for option, value, asked, needed in checks:
        if asked and (not labels.is_continuous or getattr(experiment.source, needed, None) is None):
            raise UserError(
                "nothing that goes on along recordings",
                location=option,
                value=f"{value:g} with {experiment.spec.name}",
                expected="values of windows of recordings" + (" in time" if needed == "window_s" else ""),
            )
