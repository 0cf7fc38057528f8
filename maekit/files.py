"""Writing a file or a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, and rename what was written there to `target` when the block ends without an exception.

    The path lies in the folder of `target`, which is created, and its name starts with a dot and the process id, so that
    processes that write the same target do not share it. A file is flushed to the disk before the rename, so that a crash
    leaves either the old content or the new one. After an exception the partial file or folder is removed.

    Args:
        target: a file or a folder; a file that is there is replaced, a folder that is there is not.

    Yields:
        A path that does not exist. The block creates a file or a folder there.

    Raises:
        OSError: the folder cannot be written, or there is no room.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}.{target.name}{UNFINISHED}")
    _remove(partial)
    try:
        yield partial
        if partial.is_file():
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        _remove(partial)
        raise


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text as `replacing` does."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
