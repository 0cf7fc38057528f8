"""Objects of every row of a recording: a table (row, object, column) with named columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.config.data_spec import OBJECT_CLASS, OBJECT_EXTENT
from maekit.data.hdf5.safety import BLOCK_LIMIT, check_storage, find_dataset
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from maekit.config.data_spec import Label

COLUMNS = "columns"


class ObjectReader:
    """Reads the columns that a data spec names.

    Args:
        label: of the data spec, with `objects`.
    """

    def __init__(self, label: Label) -> None:
        assert label.objects is not None
        self.label, self.columns = label, tuple(label.objects)
        self.classes = tuple(label.classes) if label.classes is not None else None

    def read(
        self, dataset: h5py.Dataset, record: h5py.Group, rows: int, windows: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32] | None:
        """(window, object, column) of the last row of each window, NaN where it has fewer; None for a recording without labels.

        Raises:
            UserError: a table of another shape, without a column, or with a class that is none.
        """
        path = self.label.path or ""
        if path not in record:
            return None
        table = find_dataset(record.file, path, record.name)
        location = f"{record.file.filename}:{table.name}"
        check_storage(table, location)
        there = [
            name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(table.attrs.get(COLUMNS, []))
        ]
        if table.ndim != 3 or table.dtype.kind not in "fiu" or table.shape[0] != rows or table.shape[2] != len(there):
            raise UserError(
                "no table of objects",
                location=location,
                value=f"{table.dtype} {table.shape}, columns {there or 'not named'}",
                expected=f"numbers (row, object, column): {rows} rows, as {dataset.name} has, and the attribute `{COLUMNS}` with a name for each column",
            )
        if table.size * table.dtype.itemsize > BLOCK_LIMIT:
            raise UserError("too large for labels", location=location, value=table.shape)
        for name in self.columns:
            if name not in there:
                raise UserError(
                    "no such column",
                    location=location,
                    value=name,
                    expected="one of " + ", ".join(there),
                    hint=nearest(name, there) or "Correct `label.objects` in the data spec.",
                )
        last = np.array([min(stop, rows) - 1 for _, stop in windows], dtype=np.int64)
        first = int(last.min()) if len(last) else 0  # one window of a long recording does not read all of it
        try:
            part = table[first : int(last.max(initial=0)) + 1]
            values = np.asarray(part, dtype=np.float32)[..., [there.index(name) for name in self.columns]]
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise UserError(
                f"damaged values ({error})", location=location, hint="Copy or convert the recording again."
            ) from None
        present: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(-1))
        partly = np.isfinite(values).any(-1) & ~present
        if partly.any():
            row, number = np.argwhere(partly)[0]
            raise UserError(
                "an object that lacks a number",
                location=f"{location} row {first + row}",
                value=values[row, number].tolist(),
                expected="a number in every column that is read, or NaN in all",
            )
        for column in (i for i, name in enumerate(self.columns) if name.endswith(OBJECT_EXTENT)):
            if (extents := values[..., column][present]).size and not extents.min() > 0:
                raise UserError(
                    "a box without extent",
                    location=location,
                    value=f"{self.columns[column]} = {extents.min():g}",
                    expected="above zero",
                )
        if self.classes is not None:
            kinds = values[..., self.columns.index(OBJECT_CLASS)][present]
            wrong = (kinds != kinds.round()) | (kinds < 0) | (kinds >= len(self.classes))
            if wrong.any():
                raise UserError(
                    "an unknown class",
                    location=location,
                    value=float(kinds[wrong][0]),
                    expected=f"an index from 0 to {len(self.classes) - 1}: {', '.join(self.classes)}",
                )
        return packed(np.where(present[..., None], values, np.nan)[last - first])


def packed(table: NDArray[Any]) -> NDArray[np.float32]:
    """Objects of each row first, and no more columns of NaN than the fullest row needs (one at least)."""
    if not table.shape[1]:
        table = np.full((len(table), 1, table.shape[2]), np.nan)
    present = np.isfinite(table).all(-1)
    order = np.argsort(~present, axis=1, kind="stable")
    most = max(int(present.sum(1).max(initial=0)), 1)
    return np.take_along_axis(table, order[..., None], axis=1)[:, :most].astype(np.float32)


def stacked(tables: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(sample, object, column) of samples whose tables have different numbers of objects."""
    most = max(len(table) for table in tables)
    return np.stack([np.pad(t, ((0, most - len(t)), (0, 0)), constant_values=np.nan) for t in tables])
