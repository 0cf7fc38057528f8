"""Rows of datasets that lie in a file in one piece: read by their position, past the HDF5 library.

`preadv` on the library's own descriptor copies a window straight into the array of its batch, without the cost of a slice through h5py.
It is used in place of a memory map. A file that is cut short while it is read gives a short read here, and a failing disk or network mount an
`OSError`, where a map ends the process with SIGBUS. What was read is not counted as memory of the process. A file that is replaced stays
the one that was opened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import h5py

from maekit.errors import UnreadableError

if TYPE_CHECKING:
    import numpy as np

MAX_PIECES = 64
"""Pieces of a window, as of channels that are stored one after the other, up to which they are read one by one."""


@dataclass(frozen=True, slots=True)
class ContiguousRows:
    """Rows of a dataset that is contiguous, without filters, and of numbers stored as NumPy holds them.

    Args:
        descriptor: of the file, open as long as the file is.
        offset: of the dataset's first byte in the file.
        rows: length of the dataset along the axis of rows.
        before: lengths of the axes before it.
        after: lengths of the axes after it.
        dtype: of the values.
        row_bytes: bytes of the axes after it.
        pieces: product of `before`: a window lies in so many pieces.
        location: `file:/dataset`, for messages.
    """

    descriptor: int
    offset: int
    rows: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    dtype: np.dtype[Any]
    row_bytes: int
    pieces: int
    location: str

    def read(self, first: int, count: int, buffer: memoryview) -> None:
        """Read rows `first` to `first + count` into the bytes of a C-ordered array (*before, count, *after).

        Raises:
            UnreadableError: the file is shorter than when it was opened, or cannot be read.
        """
        if first < 0 or first + count > self.rows:
            raise self._changed("fewer rows than when the file was indexed")
        size, position = count * self.row_bytes, self.offset + first * self.row_bytes
        for piece in range(self.pieces):
            part = buffer if self.pieces == 1 else buffer[piece * size : (piece + 1) * size]
            try:
                done = os.preadv(self.descriptor, (part,), position)
                while done < size:
                    more = os.preadv(self.descriptor, (part[done:],), position + done)
                    if not more:
                        raise self._changed("the file has become shorter")
                    done += more
            except OSError as error:
                raise self._changed(f"cannot be read ({error.strerror})") from error
            position += self.rows * self.row_bytes

    def _changed(self, problem: str) -> UnreadableError:
        return UnreadableError(
            problem,
            location=self.location,
            hint="Copy or convert the recording again, and run this again when nothing writes to it.",
        )


def contiguous_rows(dataset: h5py.Dataset, axis: int) -> ContiguousRows | None:
    """Rows of a dataset that can be read by position; None where it has chunks, filters, or a type that NumPy has not.

    Args:
        dataset: of an open file.
        axis: of the rows.
    """
    properties = dataset.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count() or not dataset.size:
        return None
    offset, dtype, shape = dataset.id.get_offset(), dataset.dtype, dataset.shape
    native = not dtype.hasobject and dataset.id.get_type() == h5py.h5t.py_create(dtype, logical=True)
    if offset is None or not native or dataset.file.driver != "sec2" or prod(shape[:axis]) > MAX_PIECES:
        return None
    descriptor = dataset.file.id.get_vfd_handle()
    if offset + dataset.size * dtype.itemsize > os.fstat(descriptor).st_size:
        return None  # the library says how the file is damaged
    before, after = shape[:axis], shape[axis + 1 :]
    row_bytes, location = dtype.itemsize * prod(after), f"{dataset.file.filename}:{dataset.name}"
    return ContiguousRows(descriptor, offset, shape[axis], before, after, dtype, row_bytes, prod(before), location)
