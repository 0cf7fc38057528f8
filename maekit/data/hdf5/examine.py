"""Meets damaged HDF5 and MAT files in a child process first, since their libraries can crash or never return on them.

The child (`walk.py`) is started with the first file, told one file after another, and started again after a crash. A file is examined once in
a process, as long as its size and its time of change stay the same.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal, NamedTuple

from maekit.errors import UserError

_WALK = Path(__file__).with_name("walk.py")
_SECONDS = 3.0
_SECONDS_PER_MB = 0.3
_MAX_SECONDS = 600.0
"""Processor time to walk a file: of a small one, more for each megabyte, and of any."""
_PATIENCE = 20
"""Wall-clock time over processor time: a busy machine or a slow disk is no damage."""
DAMAGED_HINT = "Copy or convert the recording again."
_LOCKED = (11, 35)
"""EAGAIN on Linux and on macOS: another process holds the lock of the file."""
_NO_LOCKS = (37, 38, 45, 77, 95)
"""ENOLCK, ENOSYS and EOPNOTSUPP on Linux and on macOS."""


class _Answer(NamedTuple):
    """Problem of a file, None for one that can be opened, and the number of the operating system's error if there is one."""

    problem: str | None
    errno: int | None = None


Library = Literal["HDF5", "MAT"]
"""MAT is SciPy's reader of versions up to 7; newer files are HDF5."""
_Identity = tuple[str, Library, int, int, int]


class _Examiner:
    """The child process and its answers so far."""

    def __init__(self) -> None:
        self._answers: dict[_Identity, _Answer] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def answer(self, path: Path, library: Library) -> _Answer:
        """What is wrong with a file; None as the problem if nothing."""
        state = path.stat()
        identity = (str(path.resolve()), library, state.st_size, state.st_mtime_ns, state.st_ino)
        if identity not in self._answers:
            answer = self._ask(identity[0], library, state.st_size)
            if answer.errno in (*_LOCKED, *_NO_LOCKS):  # which the next moment may change
                return answer
            self._answers[identity] = answer
        return self._answers[identity]

    def close(self) -> None:
        """End the child, if this process started it."""
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _ask(self, path: str, library: Library, size: int) -> _Answer:
        seconds = min(_SECONDS + _SECONDS_PER_MB * size / 1e6, _MAX_SECONDS)
        request = json.dumps([path, library, seconds]).encode() + b"\n"
        for _ in range(2):  # a child that idled may end while it is written to
            child = self._start()
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(request)
                child.stdin.flush()
            except OSError:
                self.close()
                continue
            line = _read_line(child.stdout.fileno(), seconds * _PATIENCE)
            if line is None:
                self.close()
                return _Answer(f"the {library} library does not return within {seconds * _PATIENCE:.0f} s")
            if line.endswith(b"\n"):
                return _Answer(*json.loads(line))
            status = child.wait()
            self.close()
            if status == 0:
                continue
            if status == -signal.SIGPROF:
                return _Answer(f"the {library} library does not return within {seconds:.0f} s")
            name = signal.Signals(-status).name if status < 0 else f"exit {status}"
            return _Answer(f"the {library} library crashes ({name})")
        return _Answer("the process that looks at files first does not start")

    def _start(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # after a fork, the child is the parent's
            self._child, self._owner = None, os.getpid()
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", str(_WALK)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        return self._child


_examiner = _Examiner()
atexit.register(_examiner.close)


def examine(path: Path, location: str = "", library: Library = "HDF5") -> None:
    """Refuse an HDF5 file that the library cannot walk through in reasonable time and memory, or a MAT file on which SciPy crashes or hangs.

    Args:
        path: an existing file.
        location: how messages name the file; by default its path.
        library: that reads it.

    Raises:
        UserError: damaged, or open in another program.
    """
    problem, errno = _examiner.answer(path, library)
    if problem is None:
        return
    location = location or str(path)
    if "consistency flags" in problem or "already open for" in problem:
        raise UserError(
            "marked as open for writing",
            location=location,
            hint="Close it in the program that writes it. If that program crashed, remove the mark: "
            f"`h5clear --status {path}`.",
        )
    if errno in _LOCKED or "unable to lock file" in problem:
        if errno in _NO_LOCKS:
            raise UserError(
                "on a file system without locks, which the HDF5 library asks for",
                location=location,
                hint="Copy it to a local disk, or set HDF5_USE_FILE_LOCKING=FALSE in the environment.",
            )
        raise UserError(
            "open in another program, which may be writing it",
            location=location,
            expected="a file that nobody writes",
            hint="Close it there (a recorder, a notebook, a viewer), or copy the file when the recording has ended and give the copy.",
        )
    raise UserError(f"damaged or truncated {library} file ({problem})", location=location, hint=DAMAGED_HINT)


def examine_content(content: bytes, location: str, library: Library = "HDF5") -> None:
    """Like `examine`, for the bytes of a file that may be a member of an archive.

    Args:
        content: bytes of a file.
        location: the file that they were read from, or another name.
        library: that reads it.

    Raises:
        UserError: damaged.
    """
    path = Path(location)
    if path.is_file() and path.stat().st_size == len(content):
        examine(path, library=library)
        return
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        examine(Path(file.name), location, library)


def _read_line(handle: int, seconds: float) -> bytes | None:
    """A line from a pipe; what there is of it where the pipe ends; None where nothing comes in time."""
    line, end = b"", time.monotonic() + seconds
    while not line.endswith(b"\n"):
        if not select.select([handle], [], [], max(end - time.monotonic(), 0))[0]:
            return None
        if not (more := os.read(handle, 1 << 16)):
            return line
        line += more
    return line
