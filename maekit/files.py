"""Atomic writes: a file or a folder appears under its name whole, or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from maekit.errors import UserError

UNFINISHED = ".unfinished"
"""Ending of the names of partial files and folders, which start with a dot."""

_NUMBERS = count()
_NAME_BYTES = 200
"""Bytes of the target's name that enter the partial name, which may have 255 in all."""
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename)[:30] or "host"
_PARTIAL = re.compile(
    rf"\.(?P<target>[^/]+)\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>\d+)-\d+{re.escape(UNFINISHED)}", re.DOTALL
)
"""Names that `partial_path` makes."""
_ABANDONED_S = 7 * 24 * 3600.0
"""Age at which the partial file of another host is taken for a leftover: its processes cannot be asked for from here."""
_CLEANED: set[Path] = set()
"""Folders that this process has cleaned of leftovers."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write to, and rename what was written there to `target` when the block ends without an exception.

    The partial path lies in the folder of `target`, which is created, so that the rename stays on one file system.
    Everything written is flushed to the disk before the rename, and the folder after it, so that a power failure leaves
    either the old content or the new one. After an exception the partial file or folder is removed.

    Args:
        target: a file or a folder. A file there is replaced, through a symbolic link if it is one. A folder there is
            replaced only if it is empty.

    Yields:
        A path at which nothing exists. The block creates a file or a folder there.

    Raises:
        OSError: the folder cannot be written, the disk is full, or `target` is a folder that is not empty (checked
            before the block runs, so that no work is lost).
    """
    if target.is_symlink():
        target = target.resolve()
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(errno.EEXIST, "a folder that is not empty", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(target)
    try:
        yield partial
        put_in_place(partial, target)
    except BaseException as error:
        remove(partial)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(target)  # a write to a full disk names no file
        raise


def put_in_place(partial: Path, target: Path) -> None:
    """Flush a finished partial file or folder to the disk, and rename it to `target`, which is replaced."""
    _flush(partial)
    if target.is_dir() and not partial.is_dir():
        target.rmdir()
    partial.replace(target)
    flush_folder(target.parent)


def partial_path(target: Path) -> Path:
    """Make a path beside `target` for its unfinished content, at which nothing exists.

    The name holds the host, the process id and a running number: processes and threads that write the same target do not
    share it, and a later process recognises what a killed one left. The first call for a folder removes such leftovers.
    """
    remove_leftovers(target.parent)
    name = os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
    partial = target.with_name(f".{name}.{_HOST}.{os.getpid()}-{next(_NUMBERS)}{UNFINISHED}")
    remove(partial)  # from a killed process with the same id
    return partial


def remove_leftovers(folder: Path) -> None:
    """Remove partial files and folders directly in `folder` that killed processes left; once a process and folder.

    Those of living processes of this host stay, and those of other hosts until nothing has changed them for a week.
    """
    folder = folder.resolve()  # a process may change its working folder
    if folder in _CLEANED:
        return
    _CLEANED.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _PARTIAL.fullmatch(entry.name)
            if match is not None and _is_leftover(entry, match["host"], int(match["process"])):
                with suppress(OSError):
                    remove(Path(entry.path))


def _is_leftover(entry: os.DirEntry[str], host: str, pid: int) -> bool:
    if host != _HOST:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # a process of another user
        return False
    return False


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text with `replacing`."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that maekit wrote.

    Raises:
        UserError: it is missing, damaged, or no object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise describe(error, path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not the JSON that maekit wrote ({error})", location=str(path), hint="Restore it from a copy."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            "not the JSON that maekit wrote",
            location=str(path),
            value=type(content).__name__,
            expected="an object",
            hint="Restore it from a copy.",
        )
    return content


@contextmanager
def described_errors(target: Path, size: int | None = None) -> Iterator[None]:
    """Raise `describe(error)` for an OSError in the block, which writes to `target` as many bytes as `size`."""
    try:
        yield
    except OSError as error:
        raise describe(error, target, size) from error


def describe(error: OSError, target: Path | None = None, size: int | None = None) -> UserError:
    """Make the error to show for one of the operating system.

    Args:
        error: as it was raised; a write to a full disk does not name its file.
        target: the file or folder to name where `error` names none.
        size: bytes that were to be written, where they are known.
    """
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(target or "")
    place = _PARTIAL.sub(r"\g<target>", place)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = _free_bytes(Path(place)) if place else None
        needed = "" if size is None else f"{size:,} bytes to be free"
        available = "" if free is None else f"{free:,} bytes are free"
        return UserError(
            f"cannot be written ({error.strerror}" + (f", {available})" if available else ")"),
            location=place,
            expected=needed,
            hint="Free some space, then run the same command again.",
        )
    return UserError(
        f"cannot be read or written ({error.strerror})", location=place, hint=_HINTS.get(error.errno or 0, "")
    )


_HINTS = {
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`), or choose a file system that holds larger ones.",
    errno.EMFILE: "Raise the limit on open files (`ulimit -n`).",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.EIO: "The disk or its connection failed; look at the system's log before you write to it again.",
    errno.EACCES: "Change its permissions, or choose another folder.",
    errno.EPERM: "Change its permissions or attributes, or choose another folder.",
    errno.EROFS: "Choose a folder on a file system that can be written.",
    errno.ENOENT: "If it was there when the command started, something removed or moved it since.",
    errno.EISDIR: "Move away the folder that has the name of this file.",
    errno.ENOTDIR: "Move away the file that has the name of this folder.",
}


def _free_bytes(path: Path) -> int | None:
    """Bytes that are free to this user on the file system of a path, which need not exist; None where nobody knows."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder (names, not contents) to the disk, on file systems that can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse it
            os.fsync(handle)
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Flush a file, or a folder with everything in it, to the disk."""
    if not path.is_dir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return
    for folder, _, names in os.walk(path):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(folder))
