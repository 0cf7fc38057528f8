"""Verbs on finished runs: `maekit evaluate`, `embed`, `reconstruct`, `report`, `compare`. Everything heavy is imported inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from maekit.cli.console import Device, RunArgument, Sets, check_choice, is_first_process, out, print_table, show

NOT_MET = 4
"""Exit code of a comparison whose reference is not met."""


def evaluate(
    run: RunArgument,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; by default test, or validation if there is no test.")
    ] = None,
    set_: Sets = None,
    device: Device = None,
) -> None:
    """Print the metrics of a run on one split, as JSON."""
    from maekit import api

    metrics = api.evaluate(run, side=split, overrides=set_ or [], device=device)
    if is_first_process():
        out.print_json(json.dumps(metrics))


def embed(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="HDF5 file to write.")],
    pooling: Annotated[str, typer.Option(help="mean (of the patches) or class (token).")] = "mean",
    set_: Sets = None,
    device: Device = None,
) -> None:
    """Write the features of every sample to an HDF5 file; nothing is masked."""
    from maekit import api

    file = api.embed(run, output, pooling=pooling, overrides=set_ or [], device=device)
    show(f"features in {file}")


def reconstruct(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 4,
    statistics: Annotated[
        str,
        typer.Option(help="What a normalised prediction is scaled back with: neighbours, or true (leaks the answer)."),
    ] = "neighbours",
    set_: Sets = None,
) -> None:
    """Draw original, masked and reconstructed samples of a pretraining run."""
    from maekit import api

    check_choice("--statistics", statistics, ("neighbours", "true"))
    for path, caption in api.reconstruct(run, output, count=count, statistics=statistics, overrides=set_ or []):
        show(f"{path}: {caption}")


def report(run: RunArgument, set_: Sets = None, device: Device = None) -> None:
    """Write the report page of a run again."""
    from maekit.runs.report import report as write_report

    show(f"report: {write_report(run, overrides=set_ or [], device=device)}")


def compare(
    run: RunArgument,
    finetuned: Annotated[Path | None, typer.Option(help="For a pretraining run: the run fine-tuned from it.")] = None,
    linear: Annotated[
        Path | None, typer.Option(help="For a pretraining run: the linear probe of it (`tune: frozen`).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Evaluate on this split now; by default the last validation counts.")
    ] = None,
    set_: Sets = None,
    device: Device = None,
) -> None:
    """Compare a run with the reference in its recipe. Exit code 4: worse, not finished, or not measured."""
    from maekit.runs.compare import compare as compare_run

    result = compare_run(run, finetuned=finetuned, linear=linear, split=split, overrides=set_ or [], device=device)
    print_table(result.table)
    if not result.met:
        raise typer.Exit(NOT_MET)
