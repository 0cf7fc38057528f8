"""HDF5 files of other programs, MATLAB's version 7.3 among them, as arrays by path."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data.hdf5.attributes import MATLAB_CLASS, read_packing
from maekit.data.hdf5.examine import examine_content
from maekit.data.hdf5.safety import check_storage, damage_as_error, dataset_names
from maekit.data.hdf5.values import pair_fields, to_native
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DATASETS = 10_000
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIGNATURE_OFFSETS = (0, 512)
"""MATLAB writes 512 bytes of its own before the signature."""


class DatasetMapping(Mapping[str, "NDArray[Any]"]):
    """The datasets of an HDF5 file by path, read on access; links are not followed.

    Pairs of real and imaginary fields become complex numbers. MATLAB stores arrays column by column, so HDF5 sees their
    axes reversed; a dataset that MATLAB wrote is given with the axes in MATLAB's order, and vectors with one axis.

    Args:
        content: bytes of the file.
        location: shown in error messages.

    Raises:
        UserError: the file is damaged, also when a dataset is read.
    """

    def __init__(self, content: bytes, location: str) -> None:
        examine_content(content, location)
        self._file, self._location = h5py.File(io.BytesIO(content), "r"), location
        with damage_as_error(location):
            names = dataset_names(self._file, limit=MAX_DATASETS)
        # Cells of cell arrays and the like, which MATLAB keeps under names of its own.
        self._names: dict[str, tuple[str, str | None]] = {}
        with damage_as_error(location):
            for name in names:
                if not name.startswith("#"):
                    self._names |= _fields(self._file[name], name)

    def __getitem__(self, name: str) -> NDArray[Any]:
        location = f"{self._location}:{name}"
        path, field = self._names.get(name, (name, None))
        with damage_as_error(location):
            dataset = self._file[path]
            check_storage(dataset, location)
            values = np.asarray(dataset[()] if field is None else dataset.fields(field)[()])
            if h5py.check_vlen_dtype(dataset.dtype) is not None:
                values = _of_equal_length(values, location)
        if pair_fields(values.dtype):
            values = to_native(values, "pairs", location)
        elif values.dtype.kind in "iuf":
            values = read_packing(dataset, location).apply(values)
        return _from_matlab(values, dataset.attrs[MATLAB_CLASS]) if MATLAB_CLASS in dataset.attrs else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def _fields(dataset: h5py.Dataset, name: str) -> dict[str, tuple[str, str | None]]:
    """The names that a dataset is known by: its own, or one for each field of a compound (`table.field`)."""
    try:
        dtype = dataset.dtype
    except TypeError:  # of a type that NumPy has not
        return {name: (name, None)}
    if dtype.names is None or pair_fields(dtype):
        return {name: (name, None)}
    return {f"{name}.{field}": (name, field) for field in dtype.names}


def _of_equal_length(values: NDArray[Any], location: str) -> NDArray[Any]:
    """Arrays of variable length as one array with a further axis.

    Raises:
        UserError: their lengths differ.
    """
    lengths = sorted({len(row) for row in values.flat})
    if len(lengths) != 1:
        raise UserError(
            "arrays of different length in one dataset",
            location=location,
            value=f"{values.size} arrays of {lengths[0]} to {lengths[-1]} values" if lengths else "none",
            expected="arrays of equal length, or one recording for each",
            hint="Write each of them as a dataset in a group of its own, with h5py: "
            "`for i, x in enumerate(old[NAME]): new[f'r{i}/{NAME}'] = x`; then set `records: '/*'`.",
        )
    return np.stack(list(values.flat)).reshape(*values.shape, lengths[0])


def is_hdf5(content: bytes) -> bool:
    """Whether bytes are those of an HDF5 file."""
    return any(content[at : at + len(SIGNATURE)] == SIGNATURE for at in _SIGNATURE_OFFSETS)


def _from_matlab(values: NDArray[Any], kind: object) -> NDArray[Any]:
    """Axes in MATLAB's order; a row of characters, which are stored as 16-bit codes, as text."""
    values = drop_vector_axis(values.T)
    if kind in (b"char", "char") and values.ndim == 1:
        return np.array("".join(map(chr, values.tolist())))
    return values


def drop_vector_axis(values: NDArray[Any]) -> NDArray[Any]:
    """A row or column vector (MATLAB has no arrays of one axis) as (n,); other arrays stay as they are."""
    return values.reshape(-1) if values.ndim == 2 and 1 in values.shape else values
