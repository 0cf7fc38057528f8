"""Faults that come from outside a run (killed workers, full disks, edited and damaged files) end as plain errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BROKEN_STEP = """
import sys
from pathlib import Path
from maekit.runs.train import pretrain
from maekit.training.loop import Trainer
def fail(self, result, batch): raise KeyError("inside")
Trainer.check_finite = fail
pretrain(sys.argv[1], runs=Path(sys.argv[2]), overrides=["training.workers=2"])
"""


def start(*arguments: object, code: str | None = None) -> subprocess.Popen[str]:
    """Start a command in a process of its own; `code` replaces `-m maekit`."""
    program = ["-m", "maekit"] if code is None else ["-c", code]
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def finish(process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    """Exit code and stderr; a process that does not end in time is killed and fails the test."""
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the process did not end within {seconds} s")
    return process.returncode, errors


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_killed_data_worker_ends_the_run(tiny: Path, tmp_path: Path) -> None:
    endless = ["--set", "schedule.epochs=100000", "--set", "training.workers=2"]
    process = start("pretrain", tiny, "--runs", tmp_path / "runs", *endless)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [pid for pid in children(process.pid) if b"walk.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    code, errors = finish(process, 20)
    assert code == 2, errors
    assert errors.count("error") == 1, errors
    assert "error training.workers: a data worker ended" in errors.splitlines()[-1]


def test_an_uncaught_exception_ends_a_process_that_has_workers(tiny: Path, tmp_path: Path) -> None:
    code, errors = finish(start(tiny, tmp_path, code=BROKEN_STEP), 40)
    assert code == 1
    assert errors.splitlines()[-1] == "KeyError: 'inside'"


@pytest.mark.parametrize("room", [100, 60_000])
def test_files_that_cannot_be_written_are_a_plain_error(tiny: Path, tmp_path: Path, room: int) -> None:
    """The system refuses files over a size, as a full disk does: those of checkpoints at first, then all."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
    command = ["pretrain", tiny, "--runs", tmp_path / "runs"]
    code, errors = finish(start(*command, code=limited + "import maekit.cli.main as main; main.main()"), 60)
    assert code == 2, errors
    assert "cannot be read or written (File too large)" in errors.splitlines()[-1]
    assert str(tmp_path / "runs" / "tiny") in errors.splitlines()[-1]
    assert not list((tmp_path / "runs").rglob(".unfinished*"))
    assert finish(start(*command), 60)[0] == 0
