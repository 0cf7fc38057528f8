"""What is in a file: tree, shapes, types, attributes, missing share, ranges. Nothing outside the file is followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from maekit.data import readers
from maekit.data.hdf5_safety import check_storage, load_filters, open_hdf5
from maekit.errors import UserError

MOST_CHILDREN = 12
MOST_BYTES = 256 << 20


def inspect(path: Path) -> Iterator[str]:
    """Lines that describe a file.

    Groups of many children show the first twelve. Ranges are taken from the first 256 MiB of a dataset.

    Raises:
        UserError: missing, damaged, or of a format that is not read.
    """
    if path.is_file() and path.suffix.lower() not in (".h5", ".hdf5", ".he5", ".hdf") and not h5py.is_hdf5(path):
        arrays, rate = readers.read(path)
        yield f"{path}  {readers.kind_of(path.name, str(path)).upper()}" + (f", {rate:g} Hz" if rate else "")
        for name, values in arrays.items():
            yield f"  {name}  {_facts(values)}"
        return
    load_filters()
    with open_hdf5(path) as file:
        yield f"{path}  HDF5, {path.stat().st_size / 1e6:.1f} MB{_attributes(file)}"
        yield from _group(file, "  ")


def _group(group: h5py.Group, indent: str) -> Iterator[str]:
    names = list(group)
    for name in names[:MOST_CHILDREN]:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            yield f"{indent}{name}  -> another file, {link.filename}:{link.path} (not followed; maekit refuses it)"
        elif isinstance(link, h5py.SoftLink):
            yield f"{indent}{name}  -> {link.path}"
        elif isinstance(group[name], h5py.Dataset):
            yield f"{indent}{name}  {_dataset(group[name])}{_attributes(group[name])}"
        else:
            yield f"{indent}{name}/{_attributes(group[name])}"
            yield from _group(group[name], indent + "  ")
    if len(names) > MOST_CHILDREN:
        yield f"{indent}... and {len(names) - MOST_CHILDREN} more"


def _dataset(data: h5py.Dataset) -> str:
    try:
        check_storage(data, data.name)
    except UserError as error:
        return f"{data.shape} {data.dtype}  REFUSED: {error.problem}"
    if data.dtype.kind not in "iufbc" or not data.size:
        return f"{data.shape} {data.dtype}"
    rows = max(1, MOST_BYTES // max(1, data.dtype.itemsize * data.size // max(1, len(data) if data.shape else 1)))
    return _facts(np.asarray(data[:rows] if data.shape else data[()]), data.shape)


def _facts(values: Any, shape: tuple[int, ...] | None = None) -> str:
    text = f"{shape or values.shape} {values.dtype}"
    if values.dtype.kind == "U":
        try:
            values = readers.numbers(values, "")
            text = f"{values.shape} numbers"
        except UserError:
            return f"{values.shape} text, e.g. {values.flat[0]!r}"
    if values.dtype.kind not in "iufbc" or not values.size:
        return text
    finite = np.isfinite(values)
    if not finite.any():
        return f"{text}  all missing"
    known = np.abs(values[finite]) if values.dtype.kind == "c" else values[finite]
    label = "magnitude " if values.dtype.kind == "c" else ""
    text += f"  {label}{known.min():.6g} to {known.max():.6g}, mean {known.mean():.6g}"
    missing = 1 - finite.mean()
    return text + (f", {missing:.2%} missing" if missing else "")


def _attributes(item: Any) -> str:
    shown = [f"{name}={str(value)[:40]}" for name, value in item.attrs.items()]
    return f"  [{', '.join(shown)}]" if shown else ""
