"""A recording window by window, in memory that does not grow with its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py
    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import Recording, RecordingReader
    from maekit.data.sample import Sample

PIECE_BYTES = 2**20
"""Stored bytes that are read at once, in whole chunks; a window longer than that is held whole."""


def stream(reader: RecordingReader, file: h5py.File, recording: Recording) -> Iterator[tuple[int, Sample]]:
    """First row and sample of each window, in order; every value is read once, however windows overlap.

    Raises:
        UnreadableError: damaged values; the windows before them have been given.
    """
    axis = reader.axes.index(reader.row_axis)
    step = reader.block(file[recording.dataset], recording, PIECE_BYTES)
    first = end = 0
    signal, valid = reader.read(file, recording, 0, 0)
    for start, stop in reader.windows(recording):
        if start > end:  # windows further apart than they are long
            first = end = start // step * step
            signal, valid = reader.read(file, recording, first, first)
        while end < min(stop, recording.rows):
            after = min(end + step, recording.rows)
            more, more_valid = reader.read(file, recording, end, after)
            kept = slice(start - first, None)
            signal = _rows(np.concatenate([signal, more], axis=axis + 1), axis + 1, kept)
            valid = _rows(np.concatenate([valid, more_valid], axis=axis), axis, kept)
            first, end = start, after
        rows = slice(start - first, stop - first)
        # Windows overlap, and an adapter may change in place what it is given.
        own, own_valid = _rows(signal, axis + 1, rows).copy(), _rows(valid, axis, rows).copy()
        yield start, reader.sample(own, own_valid, recording, start)


def _rows(x: NDArray[Any], axis: int, rows: slice) -> NDArray[Any]:
    return x[(slice(None),) * axis + (rows,)]
