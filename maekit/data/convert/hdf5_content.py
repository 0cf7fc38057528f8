"""HDF5 files of other programs, MATLAB's version 7.3 among them, as arrays by path."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data.convert.lists import arrays_of_list
from maekit.data.hdf5.attributes import MATLAB_CLASS, axis_names, stated_rate, stated_unit
from maekit.data.hdf5.examine import examine_content
from maekit.data.hdf5.packing import defined_packing, undefined_factors
from maekit.data.hdf5.safety import check_storage, damage_as_error, dataset_names
from maekit.data.hdf5.values import names_of_enum, pair_fields, to_native
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DATASETS = 10_000
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIGNATURE_OFFSETS = (0, 512)
"""MATLAB writes 512 bytes of its own before the signature."""


class DatasetMapping(Mapping[str, "NDArray[Any]"]):
    """The datasets of an HDF5 file by path, read on access; links are not followed.

    Pairs of real and imaginary fields become complex numbers; other fields of a compound are `table.field`. Arrays of variable
    length, MATLAB's cell arrays and its arrays of structs are lists of arrays; see `arrays_of_list`. MATLAB stores arrays
    column by column, so HDF5 sees their axes reversed; a dataset that MATLAB wrote is given with the axes in MATLAB's order,
    and vectors with one axis.

    Args:
        content: bytes of the file.
        location: shown in error messages.

    Raises:
        UserError: the file is damaged, also when a dataset is read.
    """

    def __init__(self, content: bytes, location: str) -> None:
        if content[:3] == b"CDF":
            raise UserError(
                "a netCDF file of the classic format, which is not HDF5",
                location=location,
                expected="netCDF 4",
                hint="`nccopy -k nc4 OLD NEW` makes one of it.",
            )
        examine_content(content, location)
        self._file, self._location = h5py.File(io.BytesIO(content), "r"), location
        self._names: dict[str, tuple[str, str | None]] = {}
        self._lists: dict[str, dict[str, NDArray[Any]]] = {}
        with damage_as_error(location):
            for name in dataset_names(self._file, limit=MAX_DATASETS):
                # Cells of cell arrays and the like, which MATLAB keeps under names of its own.
                if not name.startswith("#"):
                    self._names |= self._names_in(self._file[name], name)

    def __getitem__(self, name: str) -> NDArray[Any]:
        location = f"{self._location}:{name}"
        path, field = self._names.get(name, (name, None))
        with damage_as_error(location):
            if path in self._lists:
                return self._lists[path][name]
            dataset = self._file[path]
            check_storage(dataset, location)
            values = np.asarray(dataset[()] if field is None else dataset.fields(field)[()])
        if field is None and h5py.check_enum_dtype(dataset.dtype):
            return names_of_enum(values, dataset.dtype)
        if pair_fields(values.dtype):
            values = to_native(values, "pairs", location)
        if values.dtype.kind in "iufc":
            values = defined_packing(dataset, location).apply(values)
        return _from_matlab(values, dataset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def stated(self, *, dotted: bool = False) -> dict[str, Any]:
        """What attributes state of datasets, by their names: `rates` in hertz, `units`, `factors` of no convention, and names of `axes`.

        Args:
            dotted: names are with dots for slashes.
        """
        rates: dict[str, float] = {}
        units: dict[str, str] = {}
        factors: dict[str, dict[str, Any]] = {}
        axes: dict[str, list[str]] = {}
        with damage_as_error(self._location):
            for name, (path, _) in self._names.items():
                dataset, shown = self._file[path], name.replace("/", ".") if dotted else name
                if (rate := stated_rate(dataset)) is not None:
                    rates[shown] = rate[1]
                if (unit := stated_unit(dataset)) is not None:
                    units[shown] = unit
                if MATLAB_CLASS not in dataset.attrs and any(labels := axis_names(dataset)):
                    axes[shown] = labels
                if undefined := undefined_factors(dataset):
                    factors[shown] = undefined
        return {"rates": rates, "units": units, "factors": factors, "axes": axes}

    def _names_in(self, dataset: h5py.Dataset, name: str) -> dict[str, tuple[str, str | None]]:
        """The names that a dataset is known by: its own, one for each field of a compound, or those of a list of arrays."""
        try:
            dtype = dataset.dtype
        except TypeError:  # of a type that NumPy has not
            return {name: (name, None)}
        if dtype.names is not None and not pair_fields(dtype):
            return {f"{name}.{field}": (name, field) for field in dtype.names}
        vlen = h5py.check_vlen_dtype(dtype) is not None and h5py.check_string_dtype(dtype) is None
        if dataset.size and dataset.size <= MAX_DATASETS and (vlen or h5py.check_ref_dtype(dtype) is h5py.Reference):
            check_storage(dataset, f"{self._location}:{name}")
            if lists := arrays_of_list(name, self._parts(dataset)):
                self._lists[name] = lists
                return dict.fromkeys(lists, (name, None))
        return {name: (name, None)}

    def _parts(self, dataset: h5py.Dataset) -> list[NDArray[Any]]:
        """The arrays of a dataset of variable length, or those that references lead to."""
        items = np.ravel(dataset[()]).tolist()
        if h5py.check_vlen_dtype(dataset.dtype):
            return [np.asarray(item) for item in items]
        parts = []
        for item in items:
            target: Any = self._file[item] if item else None
            if not isinstance(target, h5py.Dataset) or target.dtype.kind not in "biuf":
                return []
            parts.append(_from_matlab(np.asarray(target[()]), target))
        return parts


def is_hdf5(content: bytes) -> bool:
    """Whether bytes are those of an HDF5 file."""
    return any(content[at : at + len(SIGNATURE)] == SIGNATURE for at in _SIGNATURE_OFFSETS)


def _from_matlab(values: NDArray[Any], dataset: h5py.Dataset) -> NDArray[Any]:
    """What MATLAB wrote with its axes in order; empty arrays, which are stored as their shape; characters, stored as codes, as text."""
    if MATLAB_CLASS not in dataset.attrs:
        return values
    if dataset.attrs.get("MATLAB_empty"):
        return np.zeros(tuple(values.ravel().tolist()), dtype=np.float64)
    kind, values = dataset.attrs[MATLAB_CLASS], drop_vector_axis(values.T)
    if kind in (b"char", "char") and values.ndim == 1:
        return np.array("".join(map(chr, values.tolist())))
    return values


def drop_vector_axis(values: NDArray[Any]) -> NDArray[Any]:
    """A row or column vector (MATLAB has no arrays of one axis) as (n,); other arrays stay as they are."""
    return values.reshape(-1) if values.ndim == 2 and 1 in values.shape else values
