"""Runs command lines on one mutated input inside a long-lived process, and says how they ended."""

from __future__ import annotations

import faulthandler
import functools
import hashlib
import logging
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from typer.main import get_command

from fuzz.kinds import KINDS, Command
from maekit import plugins
from maekit.cli import failures
from maekit.cli.main import app

MEMORY_BYTES = 4 << 30
"""Address space that a worker may use on top of what it has when it starts."""


@dataclass
class Result:
    """How the commands on one input ended.

    Args:
        outcomes: for each command `exit N`, with the class of the exception where there was one.
        problems: what must not happen; each is the kind of the problem and a signature that tells bugs apart.
    """

    outcomes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def serve(connection: Connection, corpus: Path, folder: Path, seed: int) -> None:
    """Answer (kind, index) with a Result, until None arrives."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with stacks_file(folder).open("w") as stacks:
        faulthandler.enable(stacks)
        faulthandler.register(signal.SIGUSR1, stacks)
        _serve(connection, corpus, folder, seed)


def stacks_file(folder: Path) -> Path:
    """Where a worker with this folder writes its stack when it crashes, or receives SIGUSR1."""
    return folder.with_suffix(".stacks")


def _serve(connection: Connection, corpus: Path, folder: Path, seed: int) -> None:
    os.setpgid(0, 0)  # so that whatever a command starts can be ended with this process
    limit = _address_space() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    plugins._installed = functools.cache(plugins._installed)  # reads the metadata of all packages
    while (request := connection.recv()) is not None:
        kind, index = request
        connection.send(try_input(kind, index, seed, corpus, folder))


def _address_space() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 64 << 30


def prepare(kind: str, index: int, seed: int, corpus: Path, job: Path) -> list[Command]:
    """Make the folder of a job: a mutated input, a target with other people's files, and more of them beside it.

    The input depends on the kind, the index and the seed alone.
    """
    shutil.rmtree(job, ignore_errors=True)
    for name in ("input", "target/theirs", "decoy", "tmp"):
        (job / name).mkdir(parents=True)
    for name in ("target/theirs.txt", "target/theirs/1.bin", "decoy/secret.h5", "decoy/notes.txt"):
        (job / name).write_bytes(b"not yours\n")
    return KINDS[kind](random.Random(f"{seed}:{kind}:{index}"), corpus, job)


def try_input(kind: str, index: int, seed: int, corpus: Path, job: Path) -> Result:
    """Make one input, run its commands, and look for tracebacks, changed files and leftovers."""
    commands = prepare(kind, index, seed, corpus, job)
    before, corpus_before = contents(job), _stats(corpus)
    result = Result()
    for command in commands:
        code, name, signature, text = run_command(command, job)
        result.outcomes.append(f"exit {code}" + (f" {name}" if name else ""))
        if signature:
            result.problems.append(("traceback", signature))
        elif "Traceback (most recent call last)" in text:
            result.problems.append(("traceback", "printed: " + text.strip().splitlines()[-1][:160]))
        elif re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text):
            result.problems.append(("control characters", " ".join(command[:2])))
    after = contents(job)
    created = [name for name in after if name not in before]
    touched = [name for name, content in before.items() if after.get(name) != content]
    touched += [name for name in created if not name.startswith(("target/", "tmp/"))]
    touched = [name for name in touched if not name.startswith("target/runs/")]
    if touched:
        result.problems.append(("touched", ", ".join(sorted(touched)[:3])))
    if _stats(corpus) != corpus_before:
        result.problems.append(("touched", "corpus"))
    leftovers = [
        name for name in created if "unfinished" in name or (name.startswith("tmp/") and "traceback" not in name)
    ]
    if leftovers:
        result.problems.append(("leftover", re.sub(r"\d+", "N", leftovers[0])))
    return result


@functools.cache
def _command_line() -> Any:
    """The command line as `maekit` makes it for each call; made once, since that takes longer than most commands."""
    return get_command(app)


def invoke(arguments: Command) -> int:
    """Run a command; its exit code, or an exception."""
    return _command_line().main(arguments, prog_name="maekit", standalone_mode=False) or 0


def run_command(arguments: Command, job: Path) -> tuple[int, str, str, str]:
    """Run a command as the command line would.

    Returns:
        Exit code, class of the exception if there was one, where a bug was raised, and what was printed.
    """
    os.chdir(job)
    tempfile.tempdir = str(job / "tmp")
    printed = job / "tmp" / "traceback-output.txt"
    name = signature = ""
    with Redirected(printed), warnings.catch_warnings():
        try:
            code = invoke(arguments)
        except Exception as error:
            name = type(error).__name__
            try:
                code = failures.report_failure(error)
            except Exception as second:
                code, error = failures.BUG, second
            if code == failures.BUG:
                signature = _signature(error)
                traceback.print_exception(error)
        except BaseException as error:
            code, name, signature = 1, type(error).__name__, _signature(error)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger().handlers.clear()  # they hold the file that output went to
    text = printed.read_bytes()[:200_000].decode("utf-8", "replace")
    return code, name, signature, text


def _signature(error: BaseException) -> str:
    """The class of an exception and the last lines of maekit that it went through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if re.search(r"/(maekit|adapters)/", frame.filename)
    ]
    place = " < ".join(f"{Path(frame.filename).name}:{frame.name}:{frame.lineno}" for frame in reversed(frames[-2:]))
    return f"{type(error).__name__} at {place or 'no line of maekit'}"


class Redirected:
    """Standard output and error of this process, and of libraries in C, go to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        self.handles, self.streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout = sys.stderr = self.file.open("w", encoding="utf-8", errors="surrogateescape", buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        sys.stdout.close()
        sys.stdout, sys.stderr = self.streams
        for number, handle in enumerate(self.handles, start=1):
            os.dup2(handle, number)
            os.close(handle)


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder by relative path; links are not followed."""
    found = {}
    for where, folders, names in os.walk(folder):
        for name in (*names, *folders):
            path = Path(where) / name
            content = os.fsencode(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else _read(path)
            found[path.relative_to(folder).as_posix()] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return found


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64 << 20)


def _stats(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
