"""Verbs that train: `maekit pretrain`, `finetune`, `probe` and `demo`. Everything heavy is imported inside a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maekit.cli.console import (
    Device,
    DryRun,
    From,
    RecipeArgument,
    Runs,
    Sets,
    check_choice,
    print_facts,
    print_table,
    show,
    tell,
)
from maekit.cli.progress import ProgressBar

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe

Resume = Annotated[
    str, typer.Option(help="auto: continue from the newest checkpoint; never: refuse a folder that has one.")
]


def pretrain(
    recipe: RecipeArgument,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    resume: Resume = "auto",
    dry_run: DryRun = False,
) -> None:
    """Pretrain (or train a tokenizer) without labels, or continue an interrupted run; then write its report."""
    from maekit import api
    from maekit.build.prepare import recipe_without_labels

    if dry_run:
        _print_plan(recipe_without_labels(recipe, set_ or []), None, runs, device)
        return
    with ProgressBar() as bar:
        outcome = api.pretrain(
            recipe, overrides=set_ or [], runs=runs, device=device, resume=_resume(resume), watch=bar.update
        )
    _write_report(outcome, device)


def finetune(
    recipe: RecipeArgument,
    from_: From,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    resume: Resume = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train a labelled task from a pretrained encoder; then write its report."""
    from maekit import api
    from maekit.build.prepare import recipe_with_labels

    if dry_run:
        _print_plan(recipe_with_labels(recipe, set_ or []), from_, runs, device)
        return
    with ProgressBar() as bar:
        outcome = api.finetune(
            recipe, from_, overrides=set_ or [], runs=runs, device=device, resume=_resume(resume), watch=bar.update
        )
    _write_report(outcome, device)


def probe(recipe: RecipeArgument, from_: From, set_: Sets = None, device: Device = None) -> None:
    """Fit a linear model to frozen features, and show it beside one on the raw input (RECIPE: the labelled task)."""
    from maekit.runs.probe import probe_table

    print_table(probe_table(recipe, from_, overrides=set_ or [], device=device))


def demo(
    runs: Runs = Path("runs/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes; the numbers mean little then.")
    ] = False,
) -> None:
    """Simulate radar vital signs, pretrain, fine-tune with few labels, and compare on unseen people."""
    from maekit.cli.demo import demo as run_demo

    table, page = run_demo(runs, quick=quick, tell=tell)
    print_table(table)
    show(f"report: {page}")


def _resume(value: str) -> Any:
    return check_choice("--resume", value, ("auto", "never"))


def _write_report(outcome: Any, device: str | None) -> None:
    from maekit.runs.report import report

    if outcome.first:
        show(f"run: {outcome.folder}")
        show(f"report: {report(outcome.folder, device=device)}")


def _print_plan(loaded: LoadedRecipe, start: str | None, runs: Path, device: str | None) -> None:
    from maekit.profiling.dry_run import dry_run

    planned = dry_run(loaded, start, runs=runs, device=device)
    print_facts(planned.facts, planned.title, planned.first)
