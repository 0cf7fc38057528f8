"""What a command that ends with an exception prints, and its exit code."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from rich.markup import escape

from maekit import files
from maekit.cli.console import err
from maekit.errors import UserError, nearest
from maekit.escaping import visible

BUG, MISTAKE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141


def report_failure(error: Exception) -> int:
    """Print one paragraph about an exception and return the exit code.

    Mistakes of the user have code 2, runs that stopped early the code that the exception carries, everything else code 1:
    it is a bug, whose traceback goes to a file, or with `--verbose` to the terminal. Where nothing can be printed, since
    standard error is on a full disk, that is the mistake.
    """
    try:
        return _report(error)
    except OSError:
        return MISTAKE


def _report(error: Exception) -> int:
    if hasattr(error, "format_message"):  # of click, in whichever package typer has it
        return _report_usage(error)
    if isinstance(error, typer.Abort):  # Ctrl-C, for typer before 0.13
        return INTERRUPTED
    code = getattr(error, "exit_code", None)
    if code is not None:
        err.print(escape(" ".join([str(error), *_notes(error)])))
        return int(code)
    mistake = _as_user_error(error)
    if mistake is None:
        return _report_bug(error)
    if mistake is not error and logging.getLogger().isEnabledFor(logging.INFO):
        err.print(escape("".join(traceback.format_exception(error))))
    err.print(f"[red]error[/] {escape(' '.join([str(mistake), *_notes(error)]))}")
    return MISTAKE


def _notes(error: BaseException) -> Sequence[str]:
    """What was added to an exception on its way, e.g. where a part of the result is."""
    return getattr(error, "__notes__", ())


def _as_user_error(error: Exception) -> UserError | None:
    """What a person can do about an exception of the system or of a library; None for a bug.

    Libraries raise RuntimeError for failures that are no bugs; their messages are all that tells these apart.
    """
    text = str(error)
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return files.describe(error)
    if _is_out_of_memory(error, text):
        size = re.search(r"allocate ([\d.]+ \w+)", text)
        return UserError(
            "not enough memory" + (f" for {size[1]}" if size else ""),
            hint="Give it more memory. In training, lower training.batch_size or set training.micro_batch; `--dry-run` "
            "estimates what a recipe needs.",
        )
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return UserError(
            f"a data worker ended unexpectedly ({text.splitlines()[0].strip().rstrip('.')})",
            location="training.workers",
            hint="Often the system kills it for want of memory: use fewer workers, then run the same command again.",
        )
    return None


def _is_out_of_memory(error: Exception, text: str) -> bool:
    """Whether memory ran out; libraries raise it as RuntimeError, and the system's loader as ImportError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ImportError) and any(sign in text for sign in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = (
    "can't allocate memory",
    "annot allocate memory",
    "failed to map segment",
    "Storage size calculation overflowed",
    "can't start new thread",
    "could not create a primitive",
)


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
    summary = visible(f"{type(error).__name__}: {error}".splitlines()[0])
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
