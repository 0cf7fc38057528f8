"""`maekit study` and `maekit sweep`. Everything heavy is imported inside a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maekit.cli.console import Device, DryRun, RecipeArgument, Runs, Sets, print_facts, print_table, show, tell

if TYPE_CHECKING:
    from maekit.studies.results import Study
    from maekit.studies.study import StudyPlan

Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=A,B,C",
        help="Go through these values of a key (its end is enough: mask_ratio); may be repeated.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many; a seed decides weights, order, masks and labels used.")]
Jobs = Annotated[int, typer.Option(min=1, help="Parallel processes; they share the cores, and one GPU.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Compute on the workers of this dask scheduler, e.g. tcp://HOST:8786. They must see the folders of runs and "
        "data under the same paths, and have one thread each (`dask worker --nthreads 1`).",
    ),
]


def study(
    recipe: RecipeArgument,
    sweep: Sweep = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPE", help="Another labelled recipe, trained from scratch; may be repeated."),
    ] = None,
    smoothing: Annotated[
        int, typer.Option(min=1, metavar="N", help="Also show a running median of N windows within a recording.")
    ] = 1,
    track: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Also follow each value along its recording, with what comes until so much later.",
        ),
    ] = None,
    seeds: Seeds = 3,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Compare pretraining with training from scratch, probes and baselines, over seeds and folds (RECIPE: the labelled task).

    Continues where it stopped. `--set init.KEY=VALUE` is for the pretraining.
    """
    from maekit.studies import study as studies

    if dry_run:
        _print_dry_run(
            studies.plan(
                recipe, sweep=sweep or [], compare=compare or [], overrides=set_ or [], seeds=seeds, runs=runs
            ),
            jobs,
            device,
        )
        return
    _print_study(
        studies.study(
            recipe,
            sweep=sweep or [],
            compare=compare or [],
            smoothing=smoothing,
            track_s=track,
            seeds=seeds,
            jobs=jobs,
            scheduler=scheduler,
            overrides=set_ or [],
            runs=runs,
            device=device,
            report=tell,
        ),
        runs,
    )


def sweep(
    recipe: RecipeArgument,
    sweep: Sweep = None,
    seeds: Seeds = 3,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Pretrain and linearly probe for each value of any keys, and draw the curve (RECIPE: the labelled task).

    Continues where it stopped, and uses what a study has pretrained.
    """
    from maekit.errors import UserError
    from maekit.studies import study as studies

    if not sweep:
        raise UserError(
            "nothing to sweep", location="--sweep", expected="a key and its values, e.g. mask_ratio=0.3,0.5,0.75"
        )
    if dry_run:
        _print_dry_run(
            studies.plan(recipe, sweep=sweep, overrides=set_ or [], seeds=seeds, probing=True, runs=runs), jobs, device
        )
        return
    _print_study(
        studies.sweep(
            recipe,
            sweep=sweep,
            seeds=seeds,
            jobs=jobs,
            scheduler=scheduler,
            overrides=set_ or [],
            runs=runs,
            device=device,
            report=tell,
        ),
        runs,
    )


def _print_dry_run(planned: StudyPlan, jobs: int, device: str | None) -> None:
    from maekit.profiling.study_dry_run import dry_run_study

    for result in dry_run_study(planned, jobs=jobs, device=device):
        print_facts(result.facts, result.title, result.first)


def _print_study(result: Study, runs: Path) -> None:
    from maekit.studies.page import terminal_tables

    for table in terminal_tables(result):
        print_table(table)
    show(f"report: {runs / result.recipe / f'{result.kind}.html'}")
