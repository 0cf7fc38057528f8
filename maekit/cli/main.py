"""The command line: `maekit VERB ...`. Everything heavy is imported inside a command, so that help is instant."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from maekit import __version__
from maekit.cli.console import VerbGroup, VisibleFormatter, err, out
from maekit.cli.data import data_app
from maekit.cli.failures import CLOSED_PIPE, report_failure
from maekit.cli.machine import bench, doctor
from maekit.cli.predict import predict
from maekit.cli.recipe import recipe_app
from maekit.cli.runs import compare, embed, evaluate, reconstruct, report
from maekit.cli.signals import TerminatedError, exit_on_signals
from maekit.cli.study import study, sweep
from maekit.cli.train import demo, finetune, pretrain, probe
from maekit.cli.weights import export_weights, import_weights
from maekit.errors import UserError

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Pretrain masked autoencoders on radar maps, heart signals, spectrograms, images, or a modality of your own.",
)
app.add_typer(recipe_app, name="recipe")
app.add_typer(data_app, name="data")
for verb in (pretrain, finetune, probe, study, sweep, predict, evaluate, embed, reconstruct, report, compare):
    app.command()(verb)
app.command("import")(import_weights)
app.command("export")(export_weights)
app.command()(bench)
app.command()(demo)
app.command()(doctor)


def _print_version(asked: bool) -> None:
    if asked:
        out.print(f"maekit {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    plugin: Annotated[
        list[Path] | None, typer.Option(help="Python file that registers plug-ins; may be repeated.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print more, and the traceback of an internal error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # printed by its callback
    _check_working_folder()
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    if plugin:
        from maekit import plugins

        for path in plugin:
            plugins.load_file(path)


def _check_working_folder() -> None:
    """Refuse a working folder that is gone, in which libraries fail in ways of their own.

    Raises:
        UserError: see above.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise UserError(
            f"the working folder cannot be used ({error.strerror})", hint="Was it removed or moved? `cd` to another."
        ) from error


def main() -> None:
    """Entry point.

    Exit codes: 0 done, 1 a bug, 2 a mistake that the user can correct, 3 loss or gradients not finite, 4 a comparison that is
    not met, 130 Ctrl-C, 129 SIGHUP, 141 whoever read the output has closed it, 143 SIGTERM.
    """
    exit_on_signals()
    try:
        code = app(prog_name="maekit", standalone_mode=False)
    except TerminatedError as error:
        err.print(f"stopped by {error.signal.name}")
        raise
    except SystemExit as ended:
        # rich and typer end with code 1, which is that of a bug.
        if isinstance(ended.__context__, BrokenPipeError):
            sys.exit(CLOSED_PIPE)
        raise
    except Exception as error:
        sys.exit(report_failure(error))
    sys.exit(code or 0)
