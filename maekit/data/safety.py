"""HDF5 is opened only as far as it can be trusted: nothing outside the file, nothing that was never written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import h5py

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_CHUNK = 1 << 30
_MOST_SOFT_LINKS = 16


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        UserError: missing, a folder, not HDF5, or cut off.
    """
    if not path.is_file():
        raise UserError("no such file", place=str(path), value="a folder" if path.is_dir() else "nothing", expected="an HDF5 file")
    if not h5py.is_hdf5(path):
        with path.open("rb") as file:
            start = file.read(16)
        raise UserError(
            "not an HDF5 file", place=str(path), value=start, expected="the HDF5 signature",
            mend="Convert it with `maekit data convert`, or point the recipe at the right folder.",
        )  # fmt: skip
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"the HDF5 file is damaged or cut off ({_short(error)})", place=str(path), mend="Copy it again from its source."
        ) from error


def dataset(record: h5py.Group, path: str, place: str, *, follow: int = _MOST_SOFT_LINKS) -> h5py.Dataset:
    """The dataset at `path` below a group, each link on the way looked at before it is followed.

    Raises:
        UserError: no such dataset, a link that leaves the file or dangles, external or virtual storage.
    """
    node: h5py.Group | h5py.Dataset = record
    for part in path.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            known: list[str] = []
            record.visit(known.append)
            raise UserError(
                "no such dataset", place=f"{place}/{path}", expected="one of " + ", ".join(known[:20]) if known else "",
                mend=nearest(path, known),
            )  # fmt: skip
        if isinstance(link, h5py.ExternalLink):
            raise UserError(
                "a link to another file", place=f"{place}/{path}", value=link.filename, expected="data inside this file",
                mend="Copy the data into the file.",
            )  # fmt: skip
        if isinstance(link, h5py.SoftLink):
            start = record.file if link.path.startswith("/") else node
            if follow == 0 or not isinstance(start, h5py.Group):
                raise UserError("links that lead in a circle", place=f"{place}/{path}", value=link.path)
            node = dataset(start, link.path, f"{record.file.filename}:", follow=follow - 1)
        else:
            node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise UserError("a group, not a dataset", place=f"{place}/{path}", expected="a dataset")
    if node.external or node.is_virtual:
        kind = "external storage" if node.external else "a virtual dataset"
        raise UserError(
            f"{kind}: its numbers lie in other files", place=f"{place}/{path}", expected="data inside this file",
            mend="Copy the data into the file.",
        )  # fmt: skip
    return node


def check_written(data: h5py.Dataset, place: str) -> None:
    """Refuse a dataset whose declared shape is not what was stored.

    Raises:
        UserError: chunks that were never written (they would read as the fill value), or absurd ones.
    """
    if data.size in (0, None):
        raise UserError("no rows", place=place, value=data.shape, expected="at least one value")
    if data.chunks is None:
        if data.id.get_storage_size() < data.size * data.dtype.itemsize:
            raise UserError(
                "declared but never written", place=place, value=data.shape, expected="stored values",
                mend="They would all read as the fill value; write the file again.",
            )  # fmt: skip
        return
    if math.prod(data.chunks) * data.dtype.itemsize > LARGEST_CHUNK:
        raise UserError("a chunk too large to read safely", place=place, value=data.chunks, expected="chunks under 1 GiB",
                        mend="Rewrite the file with `h5repack` and smaller chunks.")  # fmt: skip
    expected = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
    stored = data.id.get_num_chunks()
    if stored < expected:
        raise UserError(
            f"{expected - stored} of {expected} chunks were never written", place=place, value=data.shape,
            expected="as many values as the shape declares",
            mend="The missing ones would read as the fill value; was the recording cut off? Shorten the dataset to what "
            "was recorded, or write NaN where nothing was.",
        )  # fmt: skip


def read(data: h5py.Dataset, where: object, place: str) -> object:
    """`data[where]`, with errors of compression and of damaged files put into words."""
    try:
        return data[where]
    except OSError as error:
        raise UserError(
            f"cannot be read ({_short(error)})", place=place,
            mend="A missing compression filter comes with `pip install 'maekit[sensors]'`; otherwise the file is damaged.",
        ) from error  # fmt: skip


def _short(error: OSError) -> str:
    return str(error).splitlines()[0][:120]
