"""An exclusive lock file."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maekit.files import described_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of network file systems that are mounted without lock support."""


@contextmanager
def lock(path: Path) -> Iterator[str | None]:
    """Lock a file for this process until the block ends; the system releases the lock when the process dies.

    Where the file system has no locks, a warning is logged and the block runs without one.

    Yields:
        None where this process holds the lock; otherwise the id of the process that holds it.

    Raises:
        UserError: the file cannot be opened or written.
    """
    with described_errors(path):
        opened = path.open("a+")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            yield file.read() or "unknown"
            return
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            logger.warning("%s: this file system has no locks; nothing prevents a second process here", path.parent)
        # Data-loading workers inherit the file. They may outlive a killed process, and must not keep its lock.
        os.register_at_fork(after_in_child=file.close)
        with described_errors(path):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())  # unbuffered, so that closing writes nothing more
        yield None


def wait_until_free(path: Path) -> None:
    """Return when no process holds the lock on an existing file."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
