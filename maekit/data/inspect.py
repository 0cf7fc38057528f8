"""What is in a file: tree, shapes, types, attributes, missing share, ranges. Nothing outside the file is followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from maekit.config.data_spec import OBJECT_CLASS
from maekit.data.convert import readers
from maekit.data.convert.archive import open_zip, read_member
from maekit.data.convert.content import NUMERIC, FileContent
from maekit.data.convert.file_array import blocks
from maekit.data.convert.table_layout import TableOptions
from maekit.data.hdf5.attributes import MATLAB_CLASS
from maekit.data.hdf5.objects import COLUMNS
from maekit.data.hdf5.read_cost import decoded_bytes, is_slow
from maekit.data.hdf5.safety import check_storage, damage_as_error, load_filters, open_hdf5
from maekit.errors import UserError

MOST_CHILDREN = 12
MOST_BYTES = 256 << 20
SMALL_BYTES = 64 << 10
"""Datasets below this size are read as fast however they are laid out."""
WINDOW_BYTES = 4000
"""Bytes of a window of 1,000 float32, where rows are smaller."""


def inspect(path: Path) -> Iterator[str]:
    """Lines that describe a file.

    Groups of many children show the first twelve. Ranges are taken from the first 256 MiB of an array, and say so.

    Raises:
        UserError: missing, damaged, or of a format that is not read.
    """
    if path.suffix.lower() == ".zip" and path.is_file():
        yield from _zip(path)
    elif path.is_file() and path.suffix.lower() not in (".h5", ".hdf5", ".he5", ".hdf") and not h5py.is_hdf5(path):
        yield from _content(
            readers.read(path, None, TableOptions(torn="any")), readers.kind_of(path.name, str(path)), ""
        )
    else:
        load_filters()
        with open_hdf5(path) as file, damage_as_error(str(path)):
            yield f"{escape_text(path)}  HDF5, {path.stat().st_size / 1e6:.1f} MB{_attributes(file)}"
            yield from _group(file, "  ", {})


def _zip(path: Path) -> Iterator[str]:
    """How many members of what kind, and what is in the first that can be read."""
    with open_zip(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        yield f"{escape_text(path)}  ZIP, {path.stat().st_size / 1e6:.1f} MB, {len(names)} files"
        for name in names[:MOST_CHILDREN]:
            yield f"  {escape_text(name)}  {archive.getinfo(name).file_size} bytes"
        if len(names) > MOST_CHILDREN:
            yield f"  ... and {len(names) - MOST_CHILDREN} more"
        for name in names:
            try:
                kind = readers.kind_of(name, name)
            except UserError:
                continue
            yield from _content(readers.parse(read_member(archive, name), f"{path}!{name}", kind), kind, "")
            return


def _content(content: FileContent, kind: str, indent: str) -> Iterator[str]:
    yield f"{indent}{escape_text(content.location)}  {kind.upper()}" + (
        f", {content.rate_hz:g} Hz" if content.rate_hz else ""
    )
    for finding in content.attributes.get("findings", ()):
        yield f"{indent}  {escape_text(finding)}" + ("; state `torn: skip` to convert it so" if kind == "csv" else "")
    if isinstance(content.document, list | dict):
        entries = (
            ", ".join(map(escape_text, list(content.document)[:MOST_CHILDREN]))
            if isinstance(content.document, dict)
            else ""
        )
        yield f"{indent}  {len(content.document)} entries" + (f": {entries}" if entries else "")
    rates = content.attributes.get("rates", {})
    for name in content.arrays:
        try:
            rate = f", {rates[name]:g} Hz" if name in rates else ""
            yield f"{indent}  {escape_text(name)}  {_facts(content.numbers_or_text(name))}{rate}"
        except UserError as error:
            yield f"{indent}  {escape_text(name)}  REFUSED: {escape_text(error.problem)}"


def _group(group: h5py.Group, indent: str, above: dict[Any, str]) -> Iterator[str]:
    """`above`: the groups that lead here, since a hard link may lead back to one of them."""
    above = {**above, h5py.h5o.get_info(group.id).addr: group.name}
    names = list(group)
    for name in names[:MOST_CHILDREN]:
        link, shown = group.get(name, getlink=True), f"{indent}{escape_text(name)}"
        if isinstance(link, h5py.ExternalLink):
            yield f"{shown}  -> another file, {escape_text(link.filename)}:{escape_text(link.path)} (not followed; maekit refuses it)"
            continue
        if isinstance(link, h5py.SoftLink):
            yield f"{shown}  -> {escape_text(link.path)}"
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            try:
                with damage_as_error(item.name):
                    table = list(_objects(item, indent + "  "))
                    facts = f"{item.shape} {item.dtype}" if table else f"{_dataset(item)}{_attributes(item)}"
            except UserError as error:
                table, facts = [], f"UNREADABLE: {escape_text(error.problem)}"
            yield f"{shown}  {facts}"
            yield from table
        elif not isinstance(item, h5py.Group):
            yield f"{shown}  a named type"
        elif (again := above.get(h5py.h5o.get_info(item.id).addr)) is not None:
            yield f"{shown}/  -> {escape_text(again)} (a link back to a group above)"
        else:
            yield f"{shown}/{_attributes(item)}"
            yield from _group(item, indent + "  ", above)
    if len(names) > MOST_CHILDREN:
        yield f"{indent}... and {len(names) - MOST_CHILDREN} more"


def _dataset(data: h5py.Dataset) -> str:
    if data.shape is None:
        return f"empty {data.dtype}, without a value"
    text = f"{data.shape} {data.dtype}"
    if (base := h5py.check_vlen_dtype(data.dtype)) is not None and h5py.check_string_dtype(data.dtype) is None:
        return f"{data.shape} arrays of {base} of variable length"
    if MATLAB_CLASS in data.attrs and data.ndim > 1:
        text = f"{data.shape[::-1]} {data.dtype}, axes in MATLAB's order (reversed in HDF5),"
    try:
        check_storage(data, data.name)
    except UserError as error:
        return f"{text}  REFUSED: {escape_text(error.problem)}"
    if data.dtype.kind not in NUMERIC or not data.size:
        return text
    if not data.shape:
        return f"{text}  {escape_text(data[()])}"
    return f"{text}{_range(data)}{_layout(data)}"


def _range(data: Any) -> str:
    """The range of the numbers of a dataset or array, as far as it is looked into."""
    row_bytes = data.dtype.itemsize * data.size // len(data)
    if row_bytes > MOST_BYTES:
        return f"  (rows of {row_bytes >> 20} MiB, not looked into)"
    found, count = _Range(), min(len(data), MOST_BYTES // row_bytes)
    for rows, values in blocks(data):
        found.add(values[: count - rows.start])
        if rows.stop >= count:
            break
    return f"{found}" + (f" (of the first {count} of {len(data)} rows)" if count < len(data) else "")


def _layout(data: h5py.Dataset) -> str:
    """Chunks and compression of a dataset that is not small, and what reading a window of about `WINDOW_BYTES` along its longest axis costs."""
    if data.size * data.dtype.itemsize < SMALL_BYTES:
        return ""
    if data.chunks is None:
        return "; contiguous"
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(i)[3].decode(errors="replace") for i in range(properties.get_nfilters())]
    text = f"; chunks {data.chunks}, {escape_text(' '.join(filters)) or 'not compressed'}"
    axis = int(np.argmax(data.shape))
    rows = max(WINDOW_BYTES * data.shape[axis] // (data.size * data.dtype.itemsize), 1)
    decoded, window = decoded_bytes(data, axis, rows)
    named = f"{rows:,} rows along axis {axis}" if rows > 1 else f"one row along axis {axis}"
    slow = ": slow to read, `maekit data pack` rewrites it" if is_slow(decoded, window) else ""
    return f"{text}, {named} ({window / 1e3:.4g} kB) decodes {decoded / 1e3:.4g} kB{slow}"


def _objects(data: h5py.Dataset, indent: str) -> Iterator[str]:
    """Of a table of objects (row, object, column) with named columns: how many in a row, and what the columns hold."""
    if data.ndim != 3 or COLUMNS not in data.attrs or data.dtype.kind not in "fiu" or not data.size:
        return
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(data.attrs[COLUMNS])]
    try:
        check_storage(data, data.name)
    except UserError:
        return
    if len(names) != data.shape[2]:
        yield f"{indent}{len(names)} names of {data.shape[2]} columns"
        return
    rows = max(1, min(len(data), MOST_BYTES // (data.dtype.itemsize * data.size // len(data))))
    table = np.asarray(data[:rows], dtype=np.float64)
    there = np.isfinite(table).any(-1)
    count = there.sum(1)
    of = "" if rows == len(data) else f" (of the first {rows} rows)"
    yield f"{indent}{there.sum()} objects, {count.min()} to {count.max()} in a row, mean {count.mean():.2f}; {int((count == 0).sum())} rows without{of}"
    for i, name in enumerate(names):
        values = table[there][:, i]
        values = values[np.isfinite(values)]
        if not len(values):
            yield f"{indent}  {escape_text(name)}  all missing"
        elif name == OBJECT_CLASS:
            kinds, counts = np.unique(values, return_counts=True)
            of_each = [f"{kind:g}: {n}" for kind, n in zip(kinds[:MOST_CHILDREN], counts, strict=False)]
            yield f"{indent}  {escape_text(name)}  {', '.join(of_each)}{' ...' if len(kinds) > MOST_CHILDREN else ''}"
        else:
            yield f"{indent}  {escape_text(name)}  {values.min():.6g} to {values.max():.6g}"


def _facts(values: Any) -> str:
    if values.dtype.kind == "U" and values.size:
        return f"{values.shape} text, e.g. {escape_text(values.flat[0])}"
    text = f"{values.shape} {values.dtype}"
    if values.dtype.kind not in NUMERIC or not values.size:
        return text
    if not values.ndim:
        return f"{text}  {escape_text(values[()])}"
    found = _range(values)
    if values.ndim > 1 or values.dtype.kind != "f" or not 2 < len(values) <= MOST_BYTES // values.dtype.itemsize:
        return f"{text}{found}"
    if (steps := np.diff(values[:])).min() >= 0:
        median = float(np.median(steps))  # time stamps, perhaps: what a data spec needs is their interval
        return f"{text}{found}, rising by {median:.6g} (median; {steps.min():.6g} to {steps.max():.6g})"
    return f"{text}{found}"


class _Range:
    """Least, largest and mean of finite values, and the share of others, block by block."""

    def __init__(self) -> None:
        self.low, self.high, self.total, self.finite, self.size = np.inf, -np.inf, 0.0, 0, 0
        self.label = ""

    def add(self, values: Any) -> None:
        self.size += values.size
        if values.dtype.kind == "c":
            values, self.label = np.abs(values), "magnitude "
        known = values[np.isfinite(values)]
        if known.size:
            self.low, self.high = min(self.low, known.min().item()), max(self.high, known.max().item())
            self.total += float(known.sum(dtype=np.float64))
            self.finite += known.size

    def __str__(self) -> str:
        if not self.finite:
            return "  all missing"
        missing = 1 - self.finite / self.size
        return f"  {self.label}{self.low:.6g} to {self.high:.6g}, mean {self.total / self.finite:.6g}" + (
            f", {missing:.2%} missing" if missing else ""
        )


def _attributes(item: Any) -> str:
    shown = []
    for name in item.attrs:
        try:
            shown.append(f"{escape_text(name)}={escape_text(item.attrs[name])[:40]}")
        except (OSError, RuntimeError, TypeError, ValueError):
            shown.append(f"{escape_text(name)}: unreadable")
    return f"  [{', '.join(shown)}]" if shown else ""


def escape_text(text: object) -> str:
    """Names from a file in print: what would steer the terminal is written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
