"""What did pretraining buy? The same labels and the same held-out groups, for every way to spend them.

For each point of a grid, seed and fold: pretrain without labels, then fine-tune and linearly probe from the pretrained and
from random weights; beside them other recipes from scratch, a linear model on the raw input, the adapter's no-learning
estimators and a constant. A sweep is the same without fine-tuning. What was computed before is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.build.models import object_similarity
from maekit.config.shipped import find_recipe
from maekit.config.sweep import Swept, grid, parse_over
from maekit.errors import UserError
from maekit.report.figures import agreement
from maekit.report.html import write_report
from maekit.studies import page as study_page
from maekit.studies.figures import curves
from maekit.studies.jobs import Job, Result, Tell, read, run_jobs
from maekit.studies.plan import Opened, PointPlan
from maekit.studies.results import Kind, PointResult, Study, best
from maekit.studies.scoring import Predictions, Scored, concatenate_folds, followed, scored
from maekit.studies.scoring_objects import scored_objects
from maekit.tracking import check_ahead
from maekit.training.environment import describe_environment

if TYPE_CHECKING:
    from maekit.build.experiment import Experiment
    from maekit.config.load import LoadedRecipe
    from maekit.config.sweep import Point

REGRESSION = ["mae", "rmse", "mape", "within", "r", "bias", "lower", "upper"]
CLASSIFICATION = ["accuracy", "balanced_accuracy"]
DETECTION = ["ap", "ar", "ap50", "ap_counted", "ar_counted"]
KINDS: dict[str, Kind] = {
    "pretrained": "trained",
    "scratch": "trained",
    "compare": "trained",
    "probe": "linear",
    "random_probe": "linear",
    "raw": "linear",
    "shallow": "linear",
    "estimators": "unlearned",
    "constant": "unlearned",
    "ceiling": "ceiling",
}
FOLLOWED = ", followed"
COMPARED = (
    ("pretrained, fine-tuned", "from scratch, fine-tuned"),
    ("pretrained, linear probe", "random weights, linear probe"),
)
"""Pairs of arms whose difference is what pretraining bought."""


@dataclass(frozen=True)
class Plan:
    """What a study computes.

    Attributes:
        loaded: the labelled recipe.
        folder: of the cells.
        swept, points: the grid.
        cells: all of them, those needed first, each once.
        experiment: the data of the first point.
        notes: what a reader must know.
        probing: a sweep.
        chosen: the point whose values are those of the recipe; the last where none is.
        rounds: for each point and seed, of each fold the cells that have predictions, by kind.
    """

    loaded: LoadedRecipe
    folder: Path
    swept: tuple[Swept, ...]
    points: list[Point]
    cells: list[Job]
    rounds: list[list[list[list[Job]]]]
    experiment: Experiment
    notes: list[str]
    probing: bool
    chosen: int


def study(
    recipe: str | Path,
    *,
    over: Sequence[str] = (),
    compare: Sequence[str] = (),
    smoothing: int = 1,
    track_s: float | None = None,
    seeds: int = 3,
    jobs: int = 1,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    tell: Tell = lambda line: None,
) -> Study:
    """Run every arm of a fine-tuning recipe that has `init`, and write `study.html`, `.json` and `.csv` into `runs/NAME`.

    Args:
        recipe, over, compare, seeds, overrides, runs, device: see `plan`.
        smoothing, track_s, jobs, tell: see `measure`.

    Raises:
        UserError: as `plan` and `measure`.
    """
    planned = plan(recipe, over=over, compare=compare, overrides=overrides, seeds=seeds, runs=runs, device=device)
    result, predictions = measure(planned, smoothing=smoothing, track_s=track_s, jobs=jobs, tell=tell)
    write(result, predictions, planned)
    return result


def sweep(
    recipe: str | Path,
    *,
    over: Sequence[str],
    seeds: int = 3,
    jobs: int = 1,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    tell: Tell = lambda line: None,
) -> Study:
    """Pretrain and probe at each point of a grid, and write `sweep.html`, `.json`, `.csv` and the curves into `runs/NAME`.

    Args:
        recipe, over, seeds, overrides, runs, device: see `plan`; optimizer and schedule are the pretraining's.
        jobs, tell: see `measure`.

    Raises:
        UserError: as `plan` and `measure`.
    """
    planned = plan(recipe, over=over, overrides=overrides, seeds=seeds, probing=True, runs=runs, device=device)
    result, predictions = measure(planned, jobs=jobs, tell=tell)
    for i, picture in enumerate(curves(result)):
        (planned.folder.parent / f"sweep{i or ''}.svg").write_text(picture.svg)
    write(result, predictions, planned)
    return result


def write(result: Study, predictions: Sequence[dict[str, Predictions]], planned: Plan) -> Path:
    """Page and files beside the cells; the figures of agreement are of the chosen point and the first seed."""
    import torch

    pictures = []
    if not planned.experiment.source.classes:
        methods = result.points[result.chosen].of("trained", "linear", "unlearned")
        names = [best(methods, result.metrics[0]).name, *(name for pair in COMPARED for name in pair[:1])]
        for name in [name for name in dict.fromkeys(names) if name in predictions[result.chosen]][:2]:
            found = predictions[result.chosen][name]
            picture = agreement(found.output, found.label, result.unit)
            pictures.append(replace(picture, caption=f"{name}, first seed. {picture.caption}"))
    folder = planned.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.kind}.json").write_text(study_page.as_json(result))
    (folder / f"{result.kind}.csv").write_text(study_page.as_csv(result))
    page = study_page.content(result, pictures, planned.loaded.yaml(), describe_environment(torch.device("cpu")))
    return write_report(page, folder / f"{result.kind}.html")


def plan(
    recipe: str | Path,
    *,
    over: Sequence[str] = (),
    compare: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: int = 3,
    probing: bool = False,
    runs: Path = Path("runs"),
    device: str | None = None,
) -> Plan:
    """Every cell of a study or (`probing`) of a sweep, without computing any.

    Args:
        recipe: for the labelled task; `init.recipe` is its pretraining.
        over: `key=a,b,c`, see `maekit.config.sweep`.
        compare: other labelled recipes, trained from scratch on the same samples.
        overrides: as on the command line; each goes to the recipes that have it, `init.KEY` to the pretraining.
        seeds: how many; a seed decides weights, order, masks and which labels are used.
        probing: leave out everything that trains on labels.
        runs: each run is a folder below `runs/NAME`.
        device: as for training.

    Raises:
        UserError: a recipe without `init`, keys that do not exist, data that do not fit.
    """
    swept = parse_over(over)
    points = grid(swept)
    opened = Opened()
    path = find_recipe(str(recipe))
    cells: dict[str, Job] = {}
    made = [
        PointPlan(
            path, point, opened, cells, overrides=overrides, others=compare, probing=probing, runs=runs, device=device
        )
        for point in points
    ]
    rounds = []
    for one in made:
        rounds.append([[one.cells(seed, fold, of=seeds) for fold in range(one.folds)] for seed in range(seeds)])
    notes = list(dict.fromkeys(note for one in made for note in one.notes))
    first, chosen = made[0], next((i for i, one in enumerate(made) if one.stands()), len(made) - 1)
    return Plan(
        first.loaded,
        runs / first.loaded.recipe.name / "cells",
        swept,
        points,
        list(cells.values()),
        rounds,
        first.experiment,
        notes,
        probing,
        chosen,
    )


def measure(
    planned: Plan, *, smoothing: int = 1, track_s: float | None = None, jobs: int = 1, tell: Tell = lambda line: None
) -> tuple[Study, list[dict[str, Predictions]]]:
    """Compute what is missing, and put it together.

    Args:
        planned: see `plan`.
        smoothing: also show each arm with a running median of so many windows.
        track_s: also show each arm as followed along recordings, with so many seconds ahead; see `maekit.tracking`.
        jobs: parallel processes.
        tell: called with a line before every part.

    Returns:
        What was found, and for each point the first seed's predictions by arm.

    Raises:
        UserError: smoothing or tracking that does not fit, and whatever pretraining and fine-tuning raise.
    """
    experiment = planned.experiment
    if smoothing % 2 == 0:
        raise UserError("no window in the middle", location="--smoothing", value=smoothing, expected="an odd number")
    if smoothing > 1:
        _check_goes_on("--smoothing", smoothing, experiment, "positions")
    if track_s is not None:
        check_ahead(track_s)
        _check_goes_on("--track", track_s, experiment, "window_s")
    run_jobs(planned.folder, planned.cells, jobs=jobs, tell=tell)
    names = experiment.source.classes
    classes, objects = len(names) if names else None, experiment.source.objects is not None
    within = float(planned.loaded.recipe.task.options.get("within", 5.0))
    points, kept, notes = [], [], list(planned.notes)
    for point, seeds in zip(planned.points, planned.rounds, strict=True):
        arms_of: dict[str, Scored]
        if objects:
            arms_of, samples = _objects(planned, seeds)
        else:
            predictions = _predictions(planned.folder, seeds, smoothing, track_s, within)
            arms_of = {
                name: scored(name, kind, found, within=within, classes=classes)
                for name, (kind, found) in predictions.items()
            }
            samples = len(next(iter(predictions.values()))[1][0].index)
            kept.append({name: found[0] for name, (_, found) in predictions.items()})
        named = [(one + end, other + end) for end in ("", FOLLOWED) for one, other in COMPARED]
        pairs = [(arms_of[one], arms_of[other]) for one, other in named if one in arms_of and other in arms_of]
        arms = [one.arm() for one in arms_of.values()]
        points.append(PointResult(point.labelled(), arms, [one.less(other) for one, other in pairs], samples))
        if track_s is not None and not any(name.endswith(FOLLOWED) for name in arms_of):
            notes.append(
                f"Nothing is followed{f' at {point}' if point.swept else ''}: too few labels to know how they move."
            )
    unit = experiment.spec.label.unit if experiment.spec.label else ""
    result = Study(
        planned.loaded.recipe.name,
        "sweep" if planned.probing else "study",
        points,
        planned.chosen,
        [*DETECTION, *(f"ap_{name}" for name in names or ())] if objects else CLASSIFICATION if classes else REGRESSION,
        unit,
        within,
        len(planned.rounds[0]),
        len(planned.rounds[0][0]),
        notes,
    )
    return result, kept


def _objects(planned: Plan, seeds: list[list[list[Job]]]) -> tuple[dict[str, Scored], int]:
    """Each arm that every seed has, and how many samples there are."""
    similarity, classes = object_similarity(planned.experiment), planned.experiment.source.classes or ("object",)
    found: dict[str, tuple[Kind, list[list[Result]]]] = {}
    for folds in seeds:
        for i, cell in enumerate(folds[0]):
            results = [read(planned.folder, fold[i].name) for fold in folds]
            for name in results[0]["arms"]:
                found.setdefault(name, (KINDS[cell.kind], []))[1].append(results)
    samples = sum(len(result["index"]) for result in next(iter(found.values()))[1][0])
    arms = {
        name: scored_objects(name, kind, per_seed, classes=classes, similarity=similarity)
        for name, (kind, per_seed) in found.items()
        if len(per_seed) == len(seeds)
    }
    return arms, samples


def _predictions(
    folder: Path, seeds: list[list[list[Job]]], smoothing: int, track_s: float | None, within: float
) -> dict[str, tuple[Kind, list[Predictions]]]:
    """Kind, and predictions of each seed, by arm; the constant stands in for what is not there."""
    found: dict[str, tuple[Any, list[Predictions]]] = {}
    for folds in seeds:
        results = [[(cell.kind, read(folder, cell.name)) for cell in fold] for fold in folds]
        arms: dict[str, tuple[str, Predictions]] = {}
        for i, (kind, first) in enumerate(results[0]):
            for name in first["arms"]:
                arms[name] = kind, concatenate_folds([fold[i][1] for fold in results], name)
        constant = next(one for kind, one in arms.values() if kind == "constant")
        paces = [found["pace"] for fold in results for kind, found in fold if kind == "constant" and found["pace"]]
        along: dict[str, tuple[str, Predictions]] = {}
        for i, (kind, first) in enumerate(results[0]):
            for name in first["arms"] if kind not in ("constant", "ceiling") else ():
                if smoothing > 1:
                    along[f"{name}, median of {smoothing}"] = kind, arms[name][1].smoothed(smoothing)
                if track_s is not None and len(paces) == len(results):
                    told = [
                        followed(fold[i][1], name, pace, track_s, within / 2)
                        for fold, pace in zip(results, paces, strict=True)
                    ]
                    along[name + FOLLOWED] = kind, concatenate_folds(told, name)
        for name, (kind, one) in (arms | along).items():
            found.setdefault(name, (KINDS[kind], []))[1].append(one.filled(constant))
    return {name: arm for name, arm in found.items() if len(arm[1]) == len(seeds)}  # what not every seed has is no arm


def _check_goes_on(option: str, value: float, experiment: Experiment, needed: str) -> None:
    """Whether there are values of windows that follow each other: of recordings (`positions`), in time (`window_s`)."""
    if experiment.source.classes or getattr(experiment.source, needed, None) is None:
        raise UserError(
            "nothing that goes on along recordings",
            location=option,
            value=f"{value:g} with {experiment.spec.name}",
            expected="values of windows of recordings" + (" in time" if needed == "window_s" else ""),
        )
