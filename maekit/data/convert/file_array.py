"""Arrays of files that may be larger than memory: read and decoded a block of rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES = 16 << 20


class FileArray:
    """Numbers in a file, of which a range of rows is read when it is asked for.

    Rows are read, not mapped, so that neither memory nor a file that shrinks meanwhile ends the process. `np.asarray` maps
    the whole array (decoded, it lies in memory), for whatever needs more than ranges of rows.

    Args:
        path: the file.
        stored: type of the numbers in it.
        shape: (row, ...) of the numbers in it.
        offset: of the first number, in bytes.
        decode: makes values of stored rows, one row of each row; by default they are the values.
    """

    def __init__(
        self,
        path: Path,
        stored: np.dtype[Any],
        shape: tuple[int, ...],
        offset: int = 0,
        decode: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self.path, self.offset, self._stored, self._shape, self._decode = path, offset, stored, shape, decode
        none = self._decoded(np.zeros((0, *shape[1:]), stored))
        self.dtype = none.dtype
        self.shape = (shape[0], *none.shape[1:])
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read rows that follow each other.

        Raises:
            UserError: the file is shorter than it was.
        """
        start, stop, _ = slice(rows.start, rows.stop).indices(len(self))
        width = int(np.prod(self._shape[1:]))
        rows_read = max(0, stop - start)
        count = rows_read * width
        place = self.offset + start * width * self._stored.itemsize
        numbers = np.fromfile(self.path, self._stored, count, offset=place)
        if len(numbers) < count:
            raise UserError(
                "a file that became shorter while it was read",
                location=str(self.path),
                hint="Is it still being copied?",
            )
        return self._decoded(numbers.reshape(rows_read, *self._shape[1:]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        mapped = np.memmap(self.path, self._stored, "r", self.offset, self._shape)
        return np.asarray(self._decoded(mapped), dtype=dtype)

    def map(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> FileArray:
        """The array of what a function makes of the values, one row of each row."""
        return FileArray(
            self.path, self._stored, self._shape, self.offset, lambda stored: function(self._decoded(stored))
        )

    def _decoded(self, stored: NDArray[Any]) -> NDArray[Any]:
        return stored if self._decode is None else self._decode(stored)


def blocks(values: NDArray[Any] | FileArray, multiple: int = 1) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Ranges of rows of some megabytes, and their values.

    Args:
        values: (row, ...).
        multiple: of which the lengths of the ranges but the last are multiples, such as the length of a chunk.
    """
    row_bytes = max(1, values.dtype.itemsize * values.size // max(1, len(values)))
    length = max(1, BLOCK_BYTES // row_bytes // multiple) * multiple
    for start in range(0, len(values), length):
        rows = slice(start, min(start + length, len(values)))
        yield rows, values[rows]
