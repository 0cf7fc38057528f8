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
        self._names = dict.fromkeys(name for name in names if not name.startswith("#"))

    def __getitem__(self, name: str) -> NDArray[Any]:
        location = f"{self._location}:{name}"
        with damage_as_error(location):
            dataset = self._file[name]
            check_storage(dataset, location)
            values = np.asarray(dataset[()])
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
