"""MATLAB's files, of version 5 (SciPy) and 7.3 (HDF5)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.content import NUMERIC, FileContent
from maekit.data.convert.hdf5_content import DatasetMapping, drop_vector_axis, is_hdf5
from maekit.data.convert.lists import arrays_of_list
from maekit.data.hdf5.examine import examine_content
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MAX_SPARSE = 1 << 30
"""Bytes that a sparse matrix may have when zeros are written out."""
_OPAQUE = "MatlabOpaque"
"""SciPy's type of objects of MATLAB's classes."""


def read_mat(content: bytes, location: str) -> FileContent:
    """Variables by name, and fields of structs as `struct.field`, with axes in MATLAB's order.

    Row and column vectors become arrays of one axis, since MATLAB has none of those. Cell arrays and arrays of structs are
    lists of arrays; see `arrays_of_list`.

    Raises:
        UserError: a sparse matrix that is too large, or a file on which SciPy crashes.
    """
    if is_hdf5(content):
        arrays = DatasetMapping(content, location)
        return FileContent(location, _DottedNames(arrays), attributes=arrays.stated(dotted=True))
    examine_content(content, location, "MAT")
    from scipy.io import loadmat

    found: dict[str, NDArray[Any]] = {}
    for name, value in loadmat(io.BytesIO(content)).items():
        if name == "None" or type(value).__name__ == _OPAQUE:  # SciPy names objects None
            found["(an object of a MATLAB class)"] = np.array(None, dtype=object)
        elif not name.startswith("__"):
            _add(found, name, value, location)
    return FileContent(location, found)


class _DottedNames(dict[str, Any]):
    """Arrays by names with dots, read on access from a mapping of names with slashes."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__((name.replace("/", "."), name) for name in arrays)
        self._arrays = arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[super().__getitem__(name)]


def _add(arrays: dict[str, NDArray[Any]], name: str, value: Any, location: str) -> None:
    """Add a variable, the fields of a struct, or the arrays of a cell array or an array of structs."""
    if hasattr(value, "toarray"):  # sparse
        if int(np.prod(value.shape)) * value.dtype.itemsize > _MAX_SPARSE:
            raise UserError(
                "a sparse matrix that is too large with its zeros",
                location=f"{location}:{name}",
                value=value.shape,
                hint="Save what is needed of it with `full` in MATLAB.",
            )
        arrays[name] = drop_vector_axis(value.toarray())
    elif isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            _add(arrays, f"{name}.{field}", value.reshape(-1)[0][field], location)
    elif isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC + "U":
        arrays[name] = drop_vector_axis(value)
    elif isinstance(value, np.ndarray) and value.dtype.names:
        for field in value.dtype.names:
            _add_list(arrays, f"{name}.{field}", [item[field] for item in value.reshape(-1)])
    elif isinstance(value, np.ndarray) and value.ndim:
        _add_list(arrays, name, value.ravel(order="F").tolist())
    else:
        arrays[name] = np.asarray(value)


def _add_list(arrays: dict[str, NDArray[Any]], name: str, items: list[Any]) -> None:
    parts = [
        drop_vector_axis(item) if isinstance(item, np.ndarray) else np.asarray(item, dtype=object) for item in items
    ]
    arrays.update(arrays_of_list(name, parts) or {name: np.empty(len(parts), dtype=object)})
