"""Where the command line speaks, and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or a name from `maekit recipe list`.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value; may be repeated.")
]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU where there is one.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say steps, memory and time, and stop; --device meta measures nothing.")
]


def print_table(table: Any) -> None:
    """A `maekit.report.content.Table`."""
    from maekit.report.terminal import render_table

    out.print(render_table(table))


def print_facts(facts: list[tuple[str, str]], title: str, first: bool) -> None:
    """Names and values, by the first of all processes."""
    from rich.table import Table

    if not first:
        return
    if title:
        out.print(f"[bold]{escape(title)}[/]")
    rows = Table.grid(padding=(0, 2))
    for name, value in facts:
        rows.add_row(escape(name), escape(value))
    out.print(rows)
