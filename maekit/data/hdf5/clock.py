"""Numbers and times of the rows of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from maekit.config.data_spec import TIME
from maekit.data.hdf5.labels import read_rate

if TYPE_CHECKING:
    from maekit.data.hdf5.recording import Recording, RecordingReader


class Clock:
    """Number and time of a recording's rows.

    The rate is that of a `time` axis, or of other axes the attribute `AXIS_rate_hz`. Where a dataset named like the axis
    numbers the rows, as in recordings with lost frames, time follows the numbers.

    Args:
        reader: of the recording.
        file: open.
        recording: in the file.

    Attributes:
        rate_hz: rows in a second; None where it is not known.
    """

    def __init__(self, reader: RecordingReader, file: h5py.File, recording: Recording) -> None:
        axis, dataset, record = reader.row_axis, file[recording.dataset], file[recording.record]
        self.rate_hz, self._numbers, self._first = recording.rate_hz, None, 0
        if axis == TIME:
            return
        name = f"{axis}_rate_hz"
        if any(name in item.attrs for item in (dataset, record, file)):
            self.rate_hz = read_rate(name, dataset, record)
        numbers = record.get(axis)
        if isinstance(numbers, h5py.Dataset) and numbers.shape == (recording.rows,) and numbers.dtype.kind in "iu":
            self._numbers, self._first = numbers, int(numbers[0])

    @property
    def is_numbered(self) -> bool:
        """Whether the recording numbers its rows."""
        return self._numbers is not None

    def at(self, row: int) -> tuple[int | None, float | None]:
        """Number of a row, and seconds from the first row; None for what is not known."""
        number = None if self._numbers is None else int(self._numbers[row])
        passed = row if number is None else number - self._first
        return number, None if self.rate_hz is None else passed / self.rate_hz
