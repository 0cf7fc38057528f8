"""Many windows of HDF5 recordings at once: fewer reads, and one conversion for all windows of one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import Datasets, Recording, RecordingReader

STACKED_BYTES = 1 << 20
"""Windows up to this size are converted together; the copy of larger ones would cost more than it saves."""

Window = tuple["Recording", int, int]
"""A recording, the first row, and the row after the last."""


class OpenFile:
    """An open file that keeps the datasets it has looked up, since each look-up costs as much as reading a window."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self._datasets: dict[str, Any] = {}

    def __getitem__(self, path: str) -> Any:
        """The dataset at a path."""
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._datasets[path] = self.file[path]
        return dataset

    def close(self) -> None:
        """Close the file."""
        self._datasets.clear()
        self.file.close()


def read_windows(
    reader: RecordingReader, open_file: Callable[[Path], Datasets], windows: Sequence[Window]
) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Values (channels, *axes) of each window, and (*axes) which of them were measured.

    Args:
        reader: says what stored values mean.
        open_file: the open file of a path.
        windows: in any order.

    Raises:
        UserError: a window that cannot be read.
    """
    stored = _load(reader, open_file, windows)
    forms: dict[Any, list[int]] = {}
    for i, (raw, mask) in enumerate(stored):
        small = raw.nbytes <= STACKED_BYTES
        packing = windows[i][0].packing
        form = (raw.shape, raw.dtype.str, None if mask is None else mask.shape, packing) if small else i
        forms.setdefault(form, []).append(i)
    values: list[Any] = [None] * len(windows)
    for members in forms.values():
        raw = np.stack([stored[i][0] for i in members])
        masks = [mask for i in members if (mask := stored[i][1]) is not None]
        signals, valid = reader.interpret(raw, np.stack(masks) if masks else None, windows[members[0]][0])
        for i, *parts in zip(members, signals, valid, strict=True):
            values[i] = tuple(parts)
    return values


def _load(
    reader: RecordingReader, open_file: Callable[[Path], Datasets], windows: Sequence[Window]
) -> list[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """Stored values and masks of each window; rows that several windows share are read once."""
    order = sorted(range(len(windows)), key=lambda i: (id(windows[i][0]), windows[i][1]))
    stored: list[Any] = [None] * len(windows)
    at = 0
    while at < len(order):
        recording, first, last = windows[order[at]]
        end = at + 1
        while end < len(order) and windows[order[end]][0] is recording and windows[order[end]][1] <= last:
            last = max(last, windows[order[end]][2])
            end += 1
        raw, mask = reader.load(open_file(recording.file), recording, first, last)
        for i in order[at:end]:
            _, start, stop = windows[i]
            stored[i] = reader.rows_of(raw, mask, start - first, stop - first)
        at = end
    return stored
