"""A disk that can be made to fill: a file system in memory, mounted over a folder, with a limit on bytes and on files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

MOST_BYTES, MOST_FILES = 256 << 20, 100_000
"""Limits of a disk with room."""
PAGE_BYTES = 4096
"""Bytes in which room is given."""


def can_mount() -> bool:
    """Whether this process may mount file systems, which mostly needs root."""
    with tempfile.TemporaryDirectory() as folder, suppress(OSError, subprocess.CalledProcessError):
        mount(Path(folder))
        unmount(Path(folder))
        return True
    return False


def mount(folder: Path) -> None:
    """Put an empty disk with room over a folder."""
    _run("mount", "-t", "tmpfs", "-o", f"size={MOST_BYTES},nr_inodes={MOST_FILES}", "tmpfs", str(folder))


def unmount(folder: Path) -> None:
    """Remove the disk over a folder, with what is on it; nothing happens where there is none."""
    if os.path.ismount(folder):
        _run("umount", "--lazy", str(folder))


def limit(folder: Path, spare_bytes: int, spare_files: int) -> None:
    """Leave so much room on a disk; bytes are rounded up to pages."""
    state = os.statvfs(folder)
    size = (state.f_blocks - state.f_bfree) * state.f_frsize + spare_bytes
    files = state.f_files - state.f_ffree + spare_files
    # A limit of 0 would mean none.
    _run("mount", "-o", f"remount,size={max(1, size)},nr_inodes={max(1, files)}", str(folder))


def lift(folder: Path) -> None:
    """Make room again."""
    _run("mount", "-o", f"remount,size={MOST_BYTES},nr_inodes={MOST_FILES}", str(folder))


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
