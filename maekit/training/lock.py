"""A file that one process holds at a time."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What network file systems of clusters answer that were mounted without locks."""


@contextmanager
def lock(path: Path) -> Iterator[str | None]:
    """Hold a file for this process; the system lets go when the process ends, however it ends.

    Yields:
        None, or the process that holds it already.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            yield file.read() or "unknown"
            return
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s: this file system has no locks, so nothing keeps another process out", path.parent)
        # Workers that outlive a killed process must not keep its successor out.
        os.register_at_fork(after_in_child=file.close)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield None
