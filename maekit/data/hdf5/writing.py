"""Writing HDF5 files: whole or not at all, also where the disk fills up.

Whatever maekit writes is contiguous and not compressed. Windows are then read by position (`contiguous.py`), whatever their length; compressed
chunks of any shape are decoded whole for each. Windows that h5py reads in random order, as a part of those from contiguous datasets, and
bytes of the file (`tests/benchmarks/layouts.py`, files of 16 to 52 MB, warm, on one core of a busy machine; layouts in turn):

| chunks of 256 KiB | no filter | gzip 1, shuffle | lzf, shuffle | Blosc2, LZ4 |
|---|---|---|---|---|
| 15,346 rows of 8 x 200 int8 | 1/2, 101 % | 1/53, 65 % | 1/50, 92 % | 1/29, 104 % |
| recording of 4 M float32, windows of 1,000 | 1/2, 102 % | 1/38, 78 % | 1/26, 82 % | 1/4, 81 % |
| recording of 8 x 1 M int16, windows of 1,000 | 1/2, 102 % | 1/30, 45 % | 1/28, 51 % | 1/4, 52 % |
| 400 maps of 256 x 128 float32 | 1/5, 100 % | 1/53, 52 % | 1/32, 73 % | 1/11, 79 % |

Compressed chunks of 1 MiB are two to seven times slower still.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from maekit.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from typing_extensions import Buffer


class Hdf5File(h5py.File):  # type: ignore[misc]
    """A new HDF5 file whose failed writes end as an exception of Python.

    HDF5 crashes the process (signals 6 and 11) when a write fails while it closes a file. It therefore writes through
    `_Storage`, which never reports a failure to it, and exceptions of signal handlers wait until HDF5 has returned. Both
    are raised by `check`, which `create_group`, `create_dataset` and `flush` of the file call too, and at the end.

    Args:
        path: a file that is there is emptied.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.storage, self.signals = _Storage(path), _SignalsOutsideHdf5()
        super().__init__(self.storage, "w")

    def check(self) -> None:
        """Raise the first failure of a write, and handle signals that waited; loops over long data call it."""
        if self.storage.failure is not None:
            raise self.storage.failure
        self.signals.handle_pending()

    def create_group(self, *arguments: Any, **options: Any) -> h5py.Group:
        """Create a group after `check`."""
        self.check()
        return super().create_group(*arguments, **options)

    def create_dataset(self, *arguments: Any, **options: Any) -> h5py.Dataset:
        """Create a dataset after `check`."""
        self.check()
        return super().create_dataset(*arguments, **options)

    def flush(self) -> None:
        """Hand everything written so far to the system.

        Raises:
            OSError: this or an earlier write failed.
        """
        super().flush()
        self.check()

    def finish(self) -> None:
        """Close the file and restore the signal handlers.

        Raises:
            OSError: a write failed; what was written is of no use.
        """
        try:
            self.close()
        finally:
            self.storage.close()
            self.signals.restore()
        self.check()


@contextmanager
def hdf5_file(path: Path) -> Iterator[Hdf5File]:
    """Open a new HDF5 file for the block; see `Hdf5File`.

    Raises:
        OSError: a write failed, whatever else the block raised because of it.
    """
    file = Hdf5File(path)
    try:
        yield file
    except Exception:
        file.finish()
        raise
    except BaseException:
        with suppress(Exception):
            file.finish()
        raise
    file.finish()


@contextmanager
def replacing_hdf5(target: Path) -> Iterator[Hdf5File]:
    """Open a new HDF5 file that replaces `target` when the block ends without an exception; see `maekit.files.replacing`.

    Raises:
        OSError: the folder cannot be written, or the disk is full. What was at `target` stays.
    """
    with replacing(target) as partial, hdf5_file(partial) as file:
        yield file


class _Storage:
    """The file object that HDF5 writes to.

    After a failure nothing more goes to the file. Later writes stay in memory, so that HDF5 reads back what it wrote
    until it has closed the file.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.position = 0
        self.failure: OSError | None = None
        self.overlay: list[tuple[int, bytes]] = []
        """Writes after the failure, in order: (position, content)."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            end = os.fstat(self.descriptor).st_size
            offset += max([end, *(start + len(content) for start, content in self.overlay)])
        elif whence == os.SEEK_CUR:
            offset += self.position
        self.position = offset
        return offset

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:  # h5py recognises file objects by it, and reads with `readinto`
        return os.pread(self.descriptor, size, self.position)

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        content = os.pread(self.descriptor, len(view), self.position)
        view[:] = content.ljust(len(view), b"\0")
        end = self.position + len(view)
        for start, patch in self.overlay:
            first, last = max(start, self.position), min(start + len(patch), end)
            if first < last:
                view[first - self.position : last - self.position] = patch[first - start : last - start]
        self.position = end
        return len(view)

    def write(self, buffer: Buffer) -> int:
        content = memoryview(buffer).cast("B")
        try:
            written = 0
            while written < len(content) and self.failure is None:
                written += os.pwrite(self.descriptor, content[written:], self.position + written)
        except OSError as failure:
            self.failure = failure
        if self.failure is not None:
            self.overlay.append((self.position, bytes(content)))
        self.position += len(content)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        size = self.position if size is None else size
        if self.failure is None:
            try:
                os.ftruncate(self.descriptor, size)
            except OSError as failure:
                self.failure = failure
        return size

    def flush(self) -> None:
        pass  # every write goes to the system

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _SignalsOutsideHdf5:
    """Keeps Python's signal handlers from running while HDF5 calls Python, where an exception would crash the process.

    Handlers that run at other moments work as before. Nothing changes outside the main thread, where none run.
    """

    def __init__(self) -> None:
        self.pending: list[int] = []
        self.handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                handler = signal.getsignal(number)
                if callable(handler):
                    self.handlers[number] = handler
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith(_LIBRARY):
                self.pending.append(number)
                return
            caller = caller.f_back
        self.handlers[number](number, frame)

    def handle_pending(self) -> None:
        while self.pending:
            number = self.pending.pop(0)
            self.handlers[number](number, None)

    def restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


_LIBRARY = (str(Path(h5py.__file__).parent), __file__, weakref.__file__)
"""Where a handler finds itself while HDF5 works: Python swallows what is raised in weakref callbacks of HDF5's objects."""
