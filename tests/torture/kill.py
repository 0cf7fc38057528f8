"""Runs a command in a forked process and kills it, at a moment or at a system call of its writes."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fuzz.worker import run_command

CALLS = [
    "write",
    "pwrite64",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "fsync",
    "fdatasync",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "ftruncate",
    "link",
    "symlink",
]
"""System calls at which a command can be killed: just before the call is made."""

LIMIT_S = 120.0


def start(command: list[str], work: Path) -> tuple[int, int]:
    """Fork a process that runs a command in `work` once a byte is written to the pipe.

    Returns:
        Process id, and the end of the pipe to write to.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        return child, writing
    code = 1
    try:
        os.setpgid(0, 0)
        os.close(writing)
        os.read(reading, 1)
        code = run_command(command, work)[0]
    finally:
        os._exit(code)


def go(writing: int) -> None:
    """Let the process begin."""
    os.write(writing, b"x")
    os.close(writing)


def finish(child: int) -> int:
    """Exit code of a process, or minus the signal that ended it."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _kill_group(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.003)
    _kill_group(child)
    os.waitpid(child, 0)
    raise TimeoutError(f"a command did not end within {LIMIT_S:g} s")


def _kill_group(child: int) -> None:
    with suppress(OSError):
        os.killpg(child, signal.SIGKILL)


def run(command: list[str], work: Path) -> int:
    """Run a command undisturbed; its exit code."""
    child, writing = start(command, work)
    go(writing)
    return finish(child)


def kill_at_moment(command: list[str], work: Path, seconds: float) -> bool:
    """Kill a command that long after its start; whether it was still running."""
    child, writing = start(command, work)
    go(writing)
    time.sleep(seconds)
    _kill_group(child)
    return finish(child) == -signal.SIGKILL


def can_trace() -> bool:
    """Whether strace is there and may attach to a process."""
    if shutil.which("strace") is None:
        return False
    child, writing = start([], Path("/tmp"))
    tracer = _attach(child, ["-e", "trace=none"])
    os.kill(child, signal.SIGKILL)
    os.close(writing)
    os.waitpid(child, 0)
    if tracer is not None:
        tracer.wait()
    return tracer is not None


def _attach(child: int, options: list[str]) -> subprocess.Popen[str] | None:
    """Attach strace to a process that waits; None if it may not."""
    tracer = subprocess.Popen(["strace", "-p", str(child), *options], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    for line in tracer.stderr:
        if "attached" in line:
            return tracer
    return None


def count_calls(command: list[str], work: Path, log: Path) -> Counter[str]:
    """How often an undisturbed command makes each of CALLS; only calls on files that it may write are counted for `openat`."""
    child, writing = start(command, work)
    tracer = _attach(child, ["-o", str(log), "-e", f"trace={','.join(CALLS)}"])
    go(writing)
    code = finish(child)
    if tracer is not None:
        tracer.wait()
    if code:
        raise RuntimeError(f"{command} ends with {code}")
    names = re.findall(r"^(\w+)\(", log.read_text(errors="replace"), re.MULTILINE)
    return Counter(name for name in names if name in CALLS)


def draw_call(rng: random.Random, counts: Counter[str]) -> tuple[str, int]:
    """A system call and which of them: each call as likely as its kind, kinds alike, so that rare renames are hit."""
    name = rng.choice(sorted(counts))
    return name, rng.randrange(counts[name]) + 1


def kill_at_call(command: list[str], work: Path, call: str, number: int) -> bool:
    """Kill a command at the given call; whether it came that far."""
    child, writing = start(command, work)
    tracer = _attach(
        child, ["-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    )
    go(writing)
    code = finish(child)
    if tracer is not None:
        tracer.wait()
    return code == -signal.SIGKILL
