"""`maekit study` and `maekit sweep`. Everything heavy is imported inside a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from maekit.cli.console import Device, DryRun, RecipeArgument, Runs, Sets, err, out, print_facts, print_table

if TYPE_CHECKING:
    from maekit.studies.results import Study
    from maekit.studies.study import Plan

Over = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=A,B,C",
        help="Go through these values of a key (its end is enough: mask_ratio); may be repeated.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many; a seed decides weights, order, masks and labels used.")]
Jobs = Annotated[int, typer.Option(min=1, help="Parallel processes; they share the cores.")]


def study(
    recipe: RecipeArgument,
    over: Over = None,
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
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Pretrained against scratch, probes, no learning and a constant, over seeds and folds (RECIPE: the labelled task).

    Goes on where it stopped. `--set init.KEY=VALUE` is for the pretraining.
    """
    from maekit.studies import study as studies

    if dry_run:
        _say(
            studies.plan(recipe, over=over or [], compare=compare or [], overrides=set_ or [], seeds=seeds, runs=runs),
            jobs,
            device,
        )
        return
    _show(
        studies.study(
            recipe,
            over=over or [],
            compare=compare or [],
            smoothing=smoothing,
            track_s=track,
            seeds=seeds,
            jobs=jobs,
            overrides=set_ or [],
            runs=runs,
            device=device,
            tell=_tell,
        ),
        runs,
    )


def sweep(
    recipe: RecipeArgument,
    over: Over = None,
    seeds: Seeds = 3,
    jobs: Jobs = 1,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Pretrain and linearly probe for each value of any keys, and draw the curve (RECIPE: the labelled task).

    Goes on where it stopped, and takes what a study has pretrained.
    """
    from maekit.errors import UserError
    from maekit.studies import study as studies

    if not over:
        raise UserError(
            "nothing to sweep", location="--sweep", expected="a key and its values, e.g. mask_ratio=0.3,0.5,0.75"
        )
    if dry_run:
        _say(studies.plan(recipe, over=over, overrides=set_ or [], seeds=seeds, probing=True, runs=runs), jobs, device)
        return
    _show(
        studies.sweep(
            recipe, over=over, seeds=seeds, jobs=jobs, overrides=set_ or [], runs=runs, device=device, tell=_tell
        ),
        runs,
    )


def _tell(line: str) -> None:
    err.print(escape(line))


def _say(planned: Plan, jobs: int, device: str | None) -> None:
    from maekit.profiling.study_dry_run import dry_run_study

    for plan in dry_run_study(planned, jobs=jobs, device=device):
        print_facts(plan.facts, plan.title, plan.first)


def _show(found: Study, runs: Path) -> None:
    from maekit.studies.page import terminal_tables

    for table in terminal_tables(found):
        print_table(table)
    out.print(f"report: {escape(str(runs / found.recipe / f'{found.kind}.html'))}")
