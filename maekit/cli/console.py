"""Output of the command line, and arguments that several commands take."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.segment import Segment
from typer.core import TyperGroup

from maekit.errors import UserError, nearest
from maekit.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maekit.report.content import Table


class SafeConsole(Console):
    """A console on which text from files and users is shown as it is: without emoji names, and with control characters escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, emoji=False, **options)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Render without control characters other than line breaks and those that styles are made of."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, keep="\n"), segment.style)


class VisibleFormatter(logging.Formatter):
    """Formats messages of the log without control characters other than line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one message."""
        return visible(super().format(record), keep="\n")


out = SafeConsole()
err = SafeConsole(stderr=True)

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or a name from `maekit recipe list`.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, e.g. runs/heart_rate/demo_pretrain.")]
From = Annotated[str, typer.Option("--from", help="A pretraining run, a checkpoint, or `random`.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value; may be repeated.")
]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default a GPU if there is one.")]
Axes = Annotated[
    list[str] | None,
    typer.Option("--axis", metavar="NAME=LENGTH", help="Points along an axis of random samples; may be repeated."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print steps, memory and time, and stop. --device meta times nothing; --device h100 or h200 says what fits "
        "and what is the limit on such a GPU, which need not be here.",
    ),
]


class VerbGroup(TyperGroup):
    """A group of commands that names the nearest command for one that it does not have."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with.

        Raises:
            UserError: no such command.
        """
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            verbs = self.list_commands(ctx)
            raise UserError(
                "no such command",
                location=ctx.command_path,
                value=args[0],
                expected="one of " + ", ".join(verbs),
                hint=nearest(args[0], verbs),
            )
        return super().resolve_command(ctx, args)


def check_choice(option: str, value: str, choices: Sequence[str]) -> Any:
    """Return `value` if it is one of the choices of a command-line option.

    Raises:
        UserError: it is not.
    """
    if value not in choices:
        raise UserError(
            "no such choice", location=option, value=value, expected=" or ".join(choices), hint=nearest(value, choices)
        )
    return value


def read_lengths(arguments: Sequence[str]) -> dict[str, int]:
    """Read `NAME=LENGTH` as typed on the command line.

    Raises:
        UserError: something else.
    """
    lengths = {}
    for text in arguments:
        name, _, length = text.partition("=")
        if not name or not length.isdecimal() or int(length) < 1:
            raise UserError(
                "not a length of an axis", location="--axis", value=text, expected="NAME=NUMBER, e.g. time=500"
            )
        lengths[name] = int(length)
    return lengths


def is_first_process() -> bool:
    """Whether this is the process that prints, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def tell(line: str) -> None:
    """Print a line of progress; line breaks in it are escaped."""
    err.print(escape(visible(line)))


def show(line: str) -> None:
    """Print a line of the result; line breaks in it are escaped."""
    out.print(escape(visible(line)))


def print_table(table: Table) -> None:
    """Print a table of results."""
    from maekit.report.terminal import render_table

    out.print(render_table(table))


def print_facts(facts: Sequence[tuple[str, str]], title: str, first: bool) -> None:
    """Print names and values in two columns, in the first of all processes."""
    from rich.table import Table

    if not first:
        return
    if title:
        out.print(f"[bold]{escape(visible(title))}[/]")
    rows = Table.grid(padding=(0, 2))
    for name, value in facts:
        rows.add_row(escape(visible(name)), escape(visible(value, keep="\n")))
    out.print(rows)
