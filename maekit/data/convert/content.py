"""The content of one published file: arrays by name, or a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.file_array import FileArray
from maekit.data.convert.lists import VALUES, WAY_ON
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMERIC = "biufc"
"""NumPy's kinds of numbers."""


class NoRowsError(UserError):
    """A table without rows: of a recording a mistake, of a frame's objects that there are none."""


@dataclass(frozen=True)
class FileContent:
    """What is in a file.

    Args:
        location: the file, shown in error messages.
        arrays: arrays by name. They are the columns of a table (text, named by the header or numbered from "0"), the
            keys of an NPZ (read on access), the variables of a MAT file (fields of structs as `data.signal`), the paths of
            an HDF5 file's datasets (read on access), or the signals of a WFDB record. The one array of an NPY, WAV,
            int16, PNG or JPEG file is called "data"; those of files of bare numbers and of NPY are a `FileArray`.
        rate_hz: sampling rate, if the format states one.
        start_s: when the first value was taken, in seconds since 1970 in UTC, if the format states it.
        full_scale: the value of full scale, for sounds whose format defines one.
        attributes: further metadata that the format states, such as units.
        document: the content of a JSON file, a pickle, or a text as lists of cells, for a function of an adapter.
    """

    location: str
    arrays: Mapping[str, NDArray[Any] | FileArray]
    rate_hz: float | None = None
    start_s: Fraction | None = None
    full_scale: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    document: Any = None

    def pick(self, name: str | int) -> NDArray[Any]:
        """One array by name, read whole; a column of a table as text.

        Raises:
            UserError: see `rows_of_any`.
        """
        return np.asarray(self.rows_of_any(name))

    def rows_of_any(self, name: str | int) -> NDArray[Any] | FileArray:
        """As `pick`; a `FileArray` unread.

        Raises:
            UserError: there is no such array (the message names the nearest), or it would have to be unpickled.
        """
        if not self.arrays and self.document is not None:
            raise UserError(
                "a document, which has no arrays or columns",
                location=self.location,
                value=name,
                expected="CSV or another format of arrays",
                hint="Write its numbers as CSV, a row for each moment, or read it with `through`, a function of an adapter.",
            )
        if str(name) not in self.arrays:
            listed = f"{name}{VALUES}" in self.arrays
            raise UserError(
                "arrays of different length under one name" if listed else "no such column or key",
                location=self.location,
                value=name,
                expected="one of " + ", ".join(self.arrays),
                hint=WAY_ON.format(name=name) if listed else nearest(str(name), self.arrays),
            )
        try:
            values = self.arrays[str(name)]
        except UserError:
            raise
        except Exception as error:  # NumPy, zlib and zipfile raise anything at a damaged member
            raise damaged(error, f"{self.location}:{name}", "NPZ") from error
        if not isinstance(values, np.ndarray | FileArray):  # a member of an NPZ that is no NPY
            raise UserError(
                "no array",
                location=f"{self.location}:{name}",
                value=type(values).__name__,
                expected="an array of numbers or text",
                hint="Leave it out with `key` or `columns`, which name the others.",
            )
        return values

    def numbers(self, name: str | int) -> NDArray[Any]:
        """One array of numbers, read whole; a column of a table as float64, with NaN for blank cells.

        Raises:
            UserError: see `rows`.
        """
        return np.asarray(self.rows(name))

    def rows(self, name: str | int) -> NDArray[Any] | FileArray:
        """As `numbers`; a `FileArray` unread.

        Raises:
            UserError: text or objects; in a table, the message gives the line of the first cell that is not a number.
        """
        values = self.rows_of_any(name)
        if values.dtype.kind not in NUMERIC:
            raise UserError(
                "no numbers",
                location=f"{self.location}:{name}",
                value=f"{values.dtype} {values.shape}",
                expected="an array of numbers",
            )
        return values

    def numbers_or_text(self, name: str) -> NDArray[Any] | FileArray:
        """One array, a `FileArray` unread; a column of a table as numbers if all its cells are plain numbers (not `007` or `1e3`)."""
        return self.rows_of_any(name)

    def native(self, name: str | int) -> NDArray[Any]:
        """One array as it is; a column of a table as int64 or float64 where all its cells are numbers, otherwise as text."""
        return self.pick(name)

    def locate(self, row: int) -> str:
        """The place of a row, for error messages."""
        return f"{self.location}, row {row}"


def damaged(error: Exception, location: str, kind: str) -> UserError:
    """The error for a file whose decoder failed."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    hint = "Is it damaged or of another format? Object arrays and pickles are not read."
    return UserError(f"cannot be read as {kind} ({text})", location=location, hint=hint)
