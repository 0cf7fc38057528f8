"""What a command that ends with an exception prints, and its exit code."""

from __future__ import annotations

import logging
import sys
import tempfile
import traceback
from typing import Any

import typer
from rich.markup import escape

from maekit.cli.console import err
from maekit.errors import UserError, nearest

BUG, MISTAKE, INTERRUPTED = 1, 2, 130


def report_failure(error: Exception) -> int:
    """Print one paragraph about an exception and return the exit code.

    Mistakes of the user have code 2, runs that stopped early the code that the exception carries, everything else code 1:
    it is a bug, whose traceback goes to a file, or with `--verbose` to the terminal.
    """
    if hasattr(error, "format_message"):  # of click, in whichever package typer has it
        return _report_usage(error)
    if isinstance(error, typer.Abort):  # Ctrl-C, for typer before 0.13
        return INTERRUPTED
    code = getattr(error, "exit_code", None)
    if code is not None:
        err.print(escape(str(error)))
        return int(code)
    if isinstance(error, OSError) and error.strerror and not isinstance(error, UserError):
        verbose = logging.getLogger().isEnabledFor(logging.INFO)
        if verbose:
            err.print(escape(traceback.format_exc()))
        error = UserError(f"cannot be read or written ({error.strerror})", location=str(error.filename or ""))
    if isinstance(error, UserError):
        err.print(f"[red]error[/] {escape(str(error))}")
        return MISTAKE
    return _report_bug(error)


def _report_usage(error: Any) -> int:
    """A mistake on the command line that typer found."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return MISTAKE
    command = error.ctx.command if error.ctx else None
    option = getattr(error, "option_name", None)
    help_line = f"See `{error.ctx.command_path} --help`." if error.ctx else ""
    if option is not None and command is not None:
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        shown = UserError("no such option", location=option, hint=nearest(option, options) or help_line)
    else:
        message = error.format_message().rstrip(".")
        shown = UserError(message[:1].lower() + message[1:], hint=help_line)
    err.print(f"[red]error[/] {escape(str(shown))}")
    return MISTAKE


def _report_bug(error: Exception) -> int:
    text = "".join(traceback.format_exception(error))
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    if logging.getLogger().isEnabledFor(logging.INFO):
        err.print(escape(text))
        place = "the traceback above"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="maekit-traceback-", suffix=".txt", delete=False) as file:
            file.write(f"{' '.join(sys.argv)}\n\n{text}")
        place = f"the traceback in {file.name} (or run again with `maekit --verbose ...`)"
    err.print(
        f"[red]internal error[/] {escape(summary)}. This is a bug in maekit: please report it with {escape(place)}."
    )
    return BUG
