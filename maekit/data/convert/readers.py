"""Reads a published file by its format. Nothing in a file is ever executed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.archive import PACKED, check_members, read_limited
from maekit.data.convert.content import NUMERIC, FileContent, damaged
from maekit.data.convert.file_array import FileArray
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

    from numpy.typing import NDArray

_FFMPEG = "`ffmpeg -i FILE FILE.wav` makes WAV of it."
_UNPACK = "Unpack it, and name what was in it."
_WAY_ON = {
    **dict.fromkeys((".flac", ".aif", ".aiff", ".aifc", ".mp3", ".ogg", ".opus", ".m4a", ".wma"), _FFMPEG),
    **dict.fromkeys((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), _UNPACK),
    ".zip": "Name its members with `member`, such as `member: '*.csv'`.",
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "Save the sheet as CSV."),
    **dict.fromkeys((".parquet", ".feather"), "`pandas.read_parquet(FILE).to_csv(NEW)` makes CSV of it."),
    **dict.fromkeys((".edf", ".bdf", ".gdf"), "Read it with MNE or pyEDFlib, and write its signals to NPY or CSV."),
    SIGMF_META: f"Name the samples beside it: `*{SIGMF_DATA}`.",
    ".zarr": "Write its arrays to NPY or HDF5.",
}
"""How to go on from files that are not read, by ending."""
_KIND_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
    ".wav": "wav",
    ".h5": "hdf5",
    **dict.fromkeys((".hdf5", ".he5", ".hdf", ".nc", ".nc4", ".nwb", ".snirf"), "hdf5"),
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
    """Read a file, packed (gzip, bzip2, xz) or not.

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
        return parse(read_limited(path), str(path), kind) if path.suffix in PACKED else read_raw(path, stated)
    if kind == "npy" and path.suffix not in PACKED:
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
    lower = name.lower()
    way_on = next((hint for suffix, hint in _WAY_ON.items() if lower.endswith(suffix)), None)
    for packed in PACKED:
        lower = lower.removesuffix(packed)
    for suffix, kind in _KIND_OF_SUFFIX.items():
        if lower.endswith(suffix) and way_on is None:
            return kind
    raise UserError(
        "a format that is not read",
        location=location,
        value=name,
        expected="CSV (.csv, .csv.gz), NPY, NPZ, MAT, WAV, HDF5, WFDB (.hea), SigMF, raw complex numbers (.cfile, .cs8, .cs16, "
        ".cu8), PNG, JPEG, JSON or a pickle",
        hint=way_on or "State `format` in the data spec where the name does not tell.",
    )


def _map_npy(path: Path) -> FileContent:
    """The array of an NPY file, of which only what is used is read: captures may be larger than memory."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header is parsed as Python, whose tokenizer has exceptions of its own
        raise damaged(error, str(path), "NPY") from error
    if isinstance(values, np.memmap) and values.ndim and values.flags.c_contiguous and values.dtype.kind in NUMERIC:
        return FileContent(str(path), {"data": FileArray(path, values.dtype, values.shape, values.offset)})
    return FileContent(str(path), _fields("data", values))


def _read_npy(content: bytes, location: str) -> FileContent:
    return FileContent(location, _fields("data", np.load(io.BytesIO(content), allow_pickle=False)))


def _read_npz(content: bytes, location: str) -> FileContent:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_members(archive, location, [info.filename for info in archive.infolist()])
    return FileContent(location, _Fields(np.load(io.BytesIO(content), allow_pickle=False)))


class _Fields(Mapping[str, "NDArray[Any]"]):
    """The arrays of an NPZ, read on access, and the fields of structured ones as `name.field`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays, self._names = arrays, dict.fromkeys(arrays, "")
        for name, dtype in _structured(arrays).items():
            del self._names[name]
            self._names |= {f"{name}.{field}": field for field in dtype}

    def __getitem__(self, name: str) -> NDArray[Any]:
        field = self._names.get(name, "")
        return self._arrays[name.removesuffix(f".{field}")][field] if field else self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def _structured(archive: Any) -> dict[str, tuple[str, ...]]:
    """Names of the fields of the structured arrays in an NPZ, from their headers; damaged members are left for later."""
    found = {}
    for name in archive.files:
        member = name if name in archive.zip.namelist() else f"{name}.npy"
        with suppress(Exception), archive.zip.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            dtype = read_header(stream)[2]
            if dtype.names:
                found[name] = dtype.names
    return found


def _fields(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """An array under its name, or the fields of a structured one as `name.field`."""
    names = values.dtype.names
    return {name: values} if names is None else {f"{name}.{field}": values[field] for field in names}


def _read_hdf5(content: bytes, location: str) -> FileContent:
    arrays = DatasetMapping(content, location)
    return FileContent(location, arrays, attributes=arrays.stated())


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
