"""What did pretraining buy? The same labels and the same held-out groups, for every way to spend them.

For each point of a grid, seed and fold: pretrain without labels, then fine-tune and linearly probe from the pretrained and
from random weights; beside them other recipes from scratch, a linear model on the raw input, the adapter's estimators, which
learn nothing, and a constant. A sweep is the same without fine-tuning. What was computed before is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.build.parts import label_kind_of
from maekit.config.shipped import find_recipe
from maekit.config.sweep import Swept, grid, parse_sweep
from maekit.files import write_text
from maekit.report.html import write_report
from maekit.studies import page
from maekit.studies.figures import curves
from maekit.studies.jobs import Job, Report, no_report
from maekit.studies.measure import FINE_TUNED, measure
from maekit.studies.opened_data import OpenedData
from maekit.studies.plan import PointPlan
from maekit.studies.results import Study
from maekit.training.environment import describe_environment

if TYPE_CHECKING:
    from maekit.build.experiment import Experiment
    from maekit.config.load import LoadedRecipe
    from maekit.config.sweep import GridPoint
    from maekit.studies.scoring import Predictions


@dataclass(frozen=True)
class StudyPlan:
    """What a study computes.

    Attributes:
        loaded: the labelled recipe.
        folder: of the results of jobs, `runs/NAME/jobs`.
        swept, points: the grid.
        jobs: all of them, each once, after those that it needs.
        predicting: for each point, seed and fold the jobs that have predictions; in every fold the same kinds in one order.
        experiment: the data of the first point.
        notes: what a reader must know.
        probing: a sweep.
        chosen: index of the point whose values are those of the recipe; of the last where there is none.
    """

    loaded: LoadedRecipe
    folder: Path
    swept: tuple[Swept, ...]
    points: list[GridPoint]
    jobs: list[Job]
    predicting: list[list[list[list[Job]]]]
    experiment: Experiment
    notes: list[str]
    probing: bool
    chosen: int


def study(
    recipe: str | Path,
    *,
    sweep: Sequence[str] = (),
    compare: Sequence[str] = (),
    smoothing: int = 1,
    track_s: float | None = None,
    seeds: int = 3,
    jobs: int = 1,
    scheduler: str | None = None,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    report: Report = no_report,
) -> Study:
    """Run every method on a fine-tuning recipe that has `init`, and write `study.html`, `.json` and `.csv` into `runs/NAME`.

    Args:
        recipe: for the labelled task; `init.recipe` is its pretraining.
        sweep: keys and the values they take, `key=a,b,c`.
        compare: other labelled recipes, trained from scratch on the same samples.
        smoothing: also show each method with a running median of so many windows.
        track_s: also show each method as followed along recordings, with so many seconds ahead.
        seeds: how many.
        jobs: parallel processes on this machine.
        scheduler: address of a dask scheduler whose workers compute instead.
        overrides: `key=value`; `init.KEY` goes to the pretraining.
        runs: folder of all runs; the workers of a scheduler must see it under the same path.
        device: as for training.
        report: called with lines of progress.

    Raises:
        UserError: as `plan` and `measure`.
    """
    planned = plan(recipe, sweep=sweep, compare=compare, overrides=overrides, seeds=seeds, runs=runs, device=device)
    result, predictions = measure(
        planned, smoothing=smoothing, track_s=track_s, jobs=jobs, scheduler=scheduler, report=report
    )
    write(result, predictions, planned)
    return result


def sweep(
    recipe: str | Path,
    *,
    sweep: Sequence[str],
    seeds: int = 3,
    jobs: int = 1,
    scheduler: str | None = None,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    device: str | None = None,
    report: Report = no_report,
) -> Study:
    """Pretrain and probe at each point of a grid, and write `sweep.html`, `.json`, `.csv` and the curves into `runs/NAME`.

    Args:
        recipe: for the labelled task; `init.recipe` is its pretraining.
        sweep: keys and the values they take, `key=a,b,c`; optimizer and schedule are the pretraining's.
        seeds: how many.
        jobs: parallel processes on this machine.
        scheduler: address of a dask scheduler whose workers compute instead.
        overrides: `key=value`; `init.KEY` goes to the pretraining.
        runs: folder of all runs; the workers of a scheduler must see it under the same path.
        device: as for training.
        report: called with lines of progress.

    Raises:
        UserError: as `plan` and `measure`.
    """
    planned = plan(recipe, sweep=sweep, overrides=overrides, seeds=seeds, probing=True, runs=runs, device=device)
    result, predictions = measure(planned, jobs=jobs, scheduler=scheduler, report=report)
    for i, picture in enumerate(curves(result)):
        write_text(planned.folder.parent / f"sweep{i or ''}.svg", picture.svg)
    write(result, predictions, planned)
    return result


def plan(
    recipe: str | Path,
    *,
    sweep: Sequence[str] = (),
    compare: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: int = 3,
    probing: bool = False,
    runs: Path = Path("runs"),
    device: str | None = None,
) -> StudyPlan:
    """Every job of a study or (`probing`) of a sweep, without computing any.

    Args:
        recipe: for the labelled task; `init.recipe` is its pretraining.
        sweep: `key=a,b,c`, see `maekit.config.sweep`.
        compare: other labelled recipes, trained from scratch on the same samples.
        overrides: as on the command line; each goes to the recipes that have it, `init.KEY` to the pretraining.
        seeds: how many; a seed decides weights, order, masks and which labels are used.
        probing: leave out everything that trains on labels.
        runs: each run is a folder below `runs/NAME`.
        device: as for training; jobs on one machine share it.

    Raises:
        UserError: a recipe without `init`, keys that do not exist, data that do not fit.
    """
    swept = parse_sweep(sweep)
    points = grid(swept)
    path, data, all_jobs = find_recipe(str(recipe)), OpenedData(), dict[str, Job]()
    options: dict[str, Any] = {"overrides": overrides, "compare": compare, "probing": probing}
    planned = [PointPlan(path, point, data, all_jobs, **options, runs=runs, device=device) for point in points]
    predicting = [
        [[point.predicting_jobs(seed, fold, seeds=seeds) for fold in range(point.folds)] for seed in range(seeds)]
        for point in planned
    ]
    first = planned[0]
    return StudyPlan(
        loaded=first.loaded,
        folder=runs / first.loaded.recipe.name / "jobs",
        swept=swept,
        points=points,
        jobs=list(all_jobs.values()),
        predicting=predicting,
        experiment=first.experiment,
        notes=list(dict.fromkeys(note for point in planned for note in point.notes)),
        probing=probing,
        chosen=next((i for i, point in enumerate(planned) if point.is_recipe_itself()), len(planned) - 1),
    )


def write(result: Study, predictions: Sequence[dict[str, Predictions]], planned: StudyPlan) -> Path:
    """Write page and files beside the results of jobs; figures of predictions are of the chosen point and the first seed."""
    import torch

    pictures, labels = [], label_kind_of(planned.experiment)
    competing = result.points[result.chosen].of("trained", "linear", "no learning")
    names = [result.best(competing, result.metrics[0]).name, *(pair[0] for pair in FINE_TUNED)]
    for name in [name for name in dict.fromkeys(names) if name in predictions[result.chosen]][:2]:
        of_seed = predictions[result.chosen][name]
        for picture in labels.figures(of_seed.output, of_seed.label):
            pictures.append(replace(picture, caption=f"{name}, first seed. {picture.caption}"))
    folder = planned.folder.parent
    write_text(folder / f"{result.kind}.json", page.as_json(result))
    write_text(folder / f"{result.kind}.csv", page.as_csv(result))
    content = page.content(result, pictures, planned.loaded.yaml(), describe_environment(torch.device("cpu")))
    return write_report(content, folder / f"{result.kind}.html")
