"""Reads a published file by its format. Nothing in a file is ever executed."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from maekit.data.convert.archive import check_members, read_limited
from maekit.data.convert.content import FileContent, damaged
from maekit.data.convert.hdf5_content import DatasetMapping
from maekit.data.convert.mat import read_mat
from maekit.data.convert.raw import SIGMF_DATA, SIGMF_META, TYPE_OF_SUFFIX, decode_raw, raw_type, read_raw
from maekit.data.convert.table import read_table
from maekit.data.convert.table_layout import TableOptions
from maekit.data.convert.unpickle import load_plain_pickle
from maekit.data.convert.wav import read_wav
from maekit.data.convert.wfdb_record import check_no_header, read_record
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KIND_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
    ".wav": "wav",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".json": "json",
    ".pickle": "pickle",
    ".pkl": "pickle",
    ".hea": "wfdb",
    SIGMF_DATA: "sigmf",
    **TYPE_OF_SUFFIX,
}


def read(path: Path, kind: str | None = None, options: TableOptions | None = None) -> FileContent:
    """Read a file, gzipped or not.

    Args:
        path: the file.
        kind: the format, one of `maekit.config.conversion.Format`; by default from the file's name.
        options: how a table is laid out.

    Raises:
        UserError: the file is missing, damaged, too large, or not of the format.
    """
    if not path.is_file():
        raise UserError("no such file", location=str(path))
    if kind is None and path.suffix == ".dat":
        check_no_header(path)
    stated, kind = kind, kind or kind_of(path.name, str(path))
    if kind == "wfdb":
        return read_record(path)
    if path.suffix == SIGMF_DATA or raw_type(kind) is not None:
        check_no_header(path)
        return parse(read_limited(path), str(path), kind) if path.suffix == ".gz" else read_raw(path, stated)
    if kind == "npy" and path.suffix != ".gz":
        return _map_npy(path)
    return parse(read_limited(path), str(path), kind, options)


def parse(content: bytes, location: str, kind: str, options: TableOptions | None = None) -> FileContent:
    """Read a file from its bytes; see `read`.

    Raises:
        UserError: damaged, or not of the format.
    """
    try:
        if kind == "csv":
            return read_table(content, location, options or TableOptions())
        if raw_type(kind) is not None:
            return decode_raw(np.frombuffer(content, np.uint8), location, kind)
        return _READERS[kind](content, location)
    except (UserError, ImportError):
        raise
    except Exception as error:  # each decoder has exceptions of its own
        raise damaged(error, location, kind.upper()) from error


def kind_of(name: str, location: str) -> str:
    """The format that a file name tells.

    Raises:
        UserError: the ending is not known.
    """
    plain = name.lower().removesuffix(".gz")
    for suffix, kind in _KIND_OF_SUFFIX.items():
        if plain.endswith(suffix):
            return kind
    raise UserError(
        "a format that is not read",
        location=location,
        value=name,
        expected="CSV (.csv, .csv.gz), NPY, NPZ, MAT, WAV, HDF5, WFDB (.hea), SigMF, raw complex numbers (.cfile, .cs8, .cs16, "
        ".cu8), PNG, JPEG, JSON or a pickle",
        hint="State `format` in the data spec where the name does not tell.",
    )


def _map_npy(path: Path) -> FileContent:
    """The array of an NPY file, mapped into memory: captures may be larger than that."""
    try:
        return FileContent(str(path), {"data": np.load(path, mmap_mode="r", allow_pickle=False)})
    except Exception as error:  # the header is parsed as Python, whose tokenizer has exceptions of its own
        raise damaged(error, str(path), "NPY") from error


def _read_npy(content: bytes, location: str) -> FileContent:
    return FileContent(location, {"data": np.load(io.BytesIO(content), allow_pickle=False)})


def _read_npz(content: bytes, location: str) -> FileContent:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_members(archive, location, [info.filename for info in archive.infolist()])
    return FileContent(location, np.load(io.BytesIO(content), allow_pickle=False))


def _read_hdf5(content: bytes, location: str) -> FileContent:
    return FileContent(location, DatasetMapping(content, location))


def _read_pixels(content: bytes, location: str) -> FileContent:
    from maekit.data.images.picture import decode_pixels

    return FileContent(location, {"data": decode_pixels(content, location)})


def _read_json(content: bytes, location: str) -> FileContent:
    return FileContent(location, {}, document=json.loads(content))


def _read_pickle(content: bytes, location: str) -> FileContent:
    return FileContent(location, {}, document=load_plain_pickle(content, location))


def _read_lines(content: bytes, location: str) -> FileContent:
    lines = content.decode("utf-8-sig").splitlines()
    return FileContent(location, {}, document=[line.split() for line in lines if line.strip()])


def _read_sigmf(_content: bytes, location: str) -> FileContent:
    raise UserError(
        "a SigMF recording inside an archive",
        location=location,
        expected=f"{SIGMF_DATA} in a folder, with its {SIGMF_META}",
        hint="Unpack the archive.",
    )


def _read_wfdb(_content: bytes, location: str) -> FileContent:
    raise UserError(
        "a WFDB record inside an archive",
        location=location,
        expected="a header in a folder, with the files that it names",
        hint="Unpack the archive.",
    )


_READERS: dict[str, Callable[[bytes, str], FileContent]] = {
    "npy": _read_npy,
    "npz": _read_npz,
    "mat": read_mat,
    "wav": read_wav,
    "hdf5": _read_hdf5,
    "png": _read_pixels,
    "jpg": _read_pixels,
    "json": _read_json,
    "pickle": _read_pickle,
    "lines": _read_lines,
    "wfdb": _read_wfdb,
    "sigmf": _read_sigmf,
}
