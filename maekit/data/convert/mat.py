"""MATLAB's files, of version 5 (SciPy) and 7.3 (HDF5)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.content import NUMERIC, FileContent
from maekit.data.convert.hdf5_content import DatasetMapping, drop_vector_axis, is_hdf5

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def read_mat(content: bytes, location: str) -> FileContent:
    """Variables by name, and fields of structs as `struct.field`, with axes in MATLAB's order.

    Row and column vectors become arrays of one axis, since MATLAB has none of those.
    """
    if is_hdf5(content):
        return FileContent(location, _DottedNames(DatasetMapping(content, location)))
    from scipy.io import loadmat

    arrays: dict[str, NDArray[Any]] = {}
    for name, value in loadmat(io.BytesIO(content)).items():
        if not name.startswith("__"):
            _add(arrays, name, value)
    return FileContent(location, arrays)


class _DottedNames(dict[str, Any]):
    """Arrays by names with dots, read on access from a mapping of names with slashes."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__((name.replace("/", "."), name) for name in arrays)
        self._arrays = arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[super().__getitem__(name)]


def _add(arrays: dict[str, NDArray[Any]], name: str, value: Any) -> None:
    """Add a variable, or the fields of a struct; a struct array (n > 1) and a cell array stay objects."""
    if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            _add(arrays, f"{name}.{field}", value.reshape(-1)[0][field])
    elif isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC + "U":
        arrays[name] = drop_vector_axis(value)
    else:
        arrays[name] = np.asarray(value)
