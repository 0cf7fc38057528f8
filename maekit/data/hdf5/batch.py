"""Many windows of HDF5 recordings at once: fewer reads, and one conversion for all windows of one form."""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.data.hdf5.contiguous import ContiguousRows, contiguous_rows
from maekit.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from maekit.data.hdf5.packing import Packing
    from maekit.data.hdf5.recording import Recording, RecordingReader

STACKED_BYTES = 1 << 20
"""Windows up to this size are converted together; the copy of larger ones would cost more than it saves."""

Window = tuple["Recording", int, int]
"""A recording, the first row, and the row after the last."""


class OpenFile:
    """An open file that keeps the datasets it has looked up, since each look-up costs as much as reading a window."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self._datasets: dict[str, Any] = {}
        self._rows: dict[tuple[str, int], ContiguousRows | None] = {}
        self._descriptor: int = file.id.get_vfd_handle() if file.driver == "sec2" else -1
        self._size = os.fstat(self._descriptor).st_size if file.driver == "sec2" else 0

    def __getitem__(self, path: str) -> Any:
        """The dataset at a path."""
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._datasets[path] = self.file[path]
        return dataset

    def rows(self, path: str, axis: int) -> ContiguousRows | None:
        """The rows of the dataset at a path, if they can be read by position."""
        if (path, axis) not in self._rows:
            self._rows[path, axis] = contiguous_rows(self[path], axis)
        return self._rows[path, axis]

    def check(self) -> None:
        """Notice a file that was cut short after it was opened: the HDF5 library reads zeros where its end was.

        Raises:
            UnreadableError: it is shorter.
        """
        if self._size and os.fstat(self._descriptor).st_size < self._size:
            raise UnreadableError(
                "a file that has become shorter since it was opened",
                location=self.file.filename,
                hint="Copy or convert it again, and run this again when nothing writes to it.",
            )

    def close(self) -> None:
        """Close the file."""
        self._rows.clear()
        self._datasets.clear()
        self.file.close()


class _Layout(NamedTuple):
    """How windows of a recording lie in its file; alike where they can be read into one array and interpreted together."""

    rows: ContiguousRows
    mask_rows: ContiguousRows | None
    packing: Packing

    @property
    def form(self) -> Any:
        """Equal for layouts whose windows of equal length are alike."""
        parts = [(part.before, part.after, part.dtype.str) for part in (self.rows, self.mask_rows) if part is not None]
        return *parts, self.packing


def read_windows(
    reader: RecordingReader, open_file: Callable[[Path], OpenFile], windows: Sequence[Window]
) -> list[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """Values (channels, *axes) of each window, and (*axes) which of them were measured (None: all).

    Args:
        reader: says what stored values mean.
        open_file: the open file of a path.
        windows: in any order; they are read in the order of files and positions.

    Raises:
        UserError: a window that cannot be read.
    """
    order = sorted(range(len(windows)), key=lambda i: (id(windows[i][0]), windows[i][1]))
    layouts: dict[int, tuple[int, _Layout] | None] = {}
    numbers: dict[Any, int] = {}
    forms: dict[Any, list[int]] = {}
    others: list[int] = []
    for i in order:
        recording, first, last = windows[i]
        if id(recording) not in layouts:
            layout = _layout(reader, open_file(recording.file), recording)
            layouts[id(recording)] = layout and (numbers.setdefault(layout.form, len(numbers)), layout)
        found = layouts[id(recording)]
        if found is None:
            others.append(i)
            continue
        number, layout = found
        small = (last - first) * layout.rows.row_bytes * layout.rows.pieces <= STACKED_BYTES
        forms.setdefault((number, last - first) if small else i, []).append(i)
    values: list[Any] = [None] * len(windows)
    for members in forms.values():
        raw, mask = _read([(layouts[id(windows[i][0])][1], *windows[i][1:]) for i in members])  # type: ignore[index]
        _interpret(reader, windows[members[0]][0], members, raw, mask, values)
    stored = _load(reader, open_file, windows, others)
    forms = {}
    for i, (one, one_mask) in stored.items():
        form = (one.shape, one.dtype.str, None if one_mask is None else one_mask.shape, windows[i][0].packing)
        forms.setdefault(form if one.nbytes <= STACKED_BYTES else i, []).append(i)
    for members in forms.values():
        masks = [one_mask for i in members if (one_mask := stored[i][1]) is not None]
        raw = np.stack([stored[i][0] for i in members])
        _interpret(reader, windows[members[0]][0], members, raw, np.stack(masks) if masks else None, values)
    return values


def _interpret(
    reader: RecordingReader,
    recording: Recording,
    members: Sequence[int],
    raw: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    values: list[Any],
) -> None:
    """Put what stored windows mean at the places of `members` in `values`."""
    signals, valid = reader.interpret(raw, mask, recording)
    complete: list[bool] = np.asarray(valid.all(axis=tuple(range(1, valid.ndim)))).tolist()
    for at, i in enumerate(members):
        values[i] = signals[at], None if complete[at] else valid[at]


def _layout(reader: RecordingReader, file: OpenFile, recording: Recording) -> _Layout | None:
    """How a recording lies in its file, if it can be read by position."""
    rows, mask_rows = file.rows(recording.dataset, reader.stored_row_axis), None
    if recording.mask is not None:
        mask_rows = file.rows(recording.mask, reader.mask_row_axis(file[recording.mask].ndim))
    if rows is None or (recording.mask is not None and mask_rows is None):
        return None
    return _Layout(rows, mask_rows, recording.packing)


def _read(windows: Sequence[tuple[_Layout, int, int]]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Stored windows (window, *stored axes) of one form and length, and their masks where there are any."""
    raw = _read_rows([(layout.rows, first, last) for layout, first, last in windows])
    masks = [(layout.mask_rows, first, last) for layout, first, last in windows if layout.mask_rows is not None]
    return raw, np.asarray(_read_rows(masks) != 0) if masks else None


def _read_rows(windows: Sequence[tuple[ContiguousRows, int, int]]) -> NDArray[Any]:
    rows, first, last = windows[0]
    raw = np.empty((len(windows), *rows.before, last - first, *rows.after), rows.dtype)
    size = prod(raw.shape[1:]) * raw.dtype.itemsize
    buffer = raw.reshape(-1).view(np.uint8).data
    for at, (rows, first, last) in enumerate(windows):
        rows.read(first, last - first, buffer[at * size : (at + 1) * size])
    return raw


def _load(
    reader: RecordingReader, open_file: Callable[[Path], OpenFile], windows: Sequence[Window], order: Sequence[int]
) -> dict[int, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """Stored values and masks of some windows through the HDF5 library; rows that several of them share are read once.

    Args:
        reader: says what stored values mean.
        open_file: the open file of a path.
        windows: of which some are read.
        order: those, by recording and first row.
    """
    stored = {}
    at = 0
    while at < len(order):
        recording, first, last = windows[order[at]]
        end = at + 1
        while end < len(order) and windows[order[end]][0] is recording and windows[order[end]][1] <= last:
            last = max(last, windows[order[end]][2])
            end += 1
        file = open_file(recording.file)
        raw, mask = reader.load(file, recording, first, last)
        file.check()
        for i in order[at:end]:
            _, start, stop = windows[i]
            stored[i] = reader.rows_of(raw, mask, start - first, stop - first)
        at = end
    return stored
