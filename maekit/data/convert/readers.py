"""CSV, NPY, NPZ, MAT, WAV, HDF5, PNG, JPEG and bare int16 files as arrays by name, JSON, pickles and lines of cells as
they are; nothing in them is ever run."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

from maekit.data.convert.unpickle import plain
from maekit.data.hdf5.safety import check_storage, dataset_names
from maekit.data.hdf5.values import pair_fields, to_native
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST = 4 << 30
"""Bytes that a file may have, unpacked."""

HARMLESS = 256 << 20
"""Bytes below which no ratio of packing is absurd; above, a file may be 500 times its packed size."""

NUMERIC = "biufc"
_MOST_DATASETS = 10_000
_BLANK = ("", "NA", "N/A", "null", "None")


@dataclass(frozen=True)
class Content:
    """What is in a file.

    Args:
        location: the file, for messages.
        arrays: by name: columns of a CSV (text) by its header, or by number ("0", "1", ...) where it has none; keys
            of an NPZ (read when asked for) or MAT; paths of an HDF5 file's datasets (read when asked for, pairs of real
            and imaginary fields as complex numbers); the one array of an NPY, WAV, int16, PNG or JPEG file is "data".
        rate_hz: sampling rate, where the format holds one.
        lines: of the rows of a CSV, in the file.
        decimal: what stands before the fraction in a CSV.
        document: what a JSON file or a pickle holds, or the lines of a text as lists of cells, for an adapter's function.
    """

    location: str
    arrays: Mapping[str, NDArray[Any]]
    rate_hz: float | None = None
    lines: Sequence[int] = ()
    decimal: str = "."
    document: Any = None

    def pick(self, name: str | int) -> NDArray[Any]:
        """One array by name.

        Raises:
            UserError: none of that name (the nearest is named), or one that only a pickle could hold.
        """
        if str(name) not in self.arrays:
            raise UserError(
                "no such column or key",
                location=self.location,
                value=name,
                expected="one of " + ", ".join(self.arrays),
                hint=nearest(str(name), self.arrays),
            )
        try:
            return self.arrays[str(name)]
        except (ValueError, EOFError, OSError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(error, f"{self.location}:{name}", "NPZ") from error

    def numbers(self, name: str | int) -> NDArray[Any]:
        """One array as numbers: cells of text become float64, blank ones NaN.

        Raises:
            UserError: text or objects; for a CSV, with the line of the first cell that is no number.
        """
        values = self.pick(name)
        if values.dtype.kind in NUMERIC:
            return values
        if not self.lines:
            raise UserError(
                "no numbers",
                location=f"{self.location}:{name}",
                value=f"{values.dtype} {values.shape}",
                expected="an array of numbers",
            )
        try:
            return np.array([_number(cell, self.decimal) for cell in values.tolist()])
        except ValueError:
            wrong = next(i for i, cell in enumerate(values.tolist()) if not _is_number(cell, self.decimal))
            raise UserError(
                "a cell that is no number",
                location=f"{self.location}:{self.lines[wrong]}",
                value=str(values[wrong]),
                expected=f"a number or nothing in column {name!r}",
                hint='A unit or a date? Change the file or name another column. A decimal comma: `decimal: ","`.',
            ) from None

    def numbers_or_text(self, name: str) -> NDArray[Any]:
        """One array; a CSV's column as numbers where all its cells are."""
        values = self.pick(name)
        if self.lines and all(_is_number(cell, self.decimal) for cell in values.tolist()):
            return self.numbers(name)
        return values


def read(path: Path, kind: str | None = None, *, delimiter: str | None = None, decimal: str = ".") -> Content:
    """A file, gzipped or not.

    Args:
        path: of the file.
        kind: csv, npy, npz, mat, wav, hdf5, int16, png, jpg, json, pickle or lines; told by the name where left out.
        delimiter: between the cells of a CSV; found by looking where left out.
        decimal: what stands before the fraction in a CSV.

    Raises:
        UserError: missing, damaged, too large, or not of the format.
    """
    if not path.is_file():
        raise UserError("no such file", location=str(path))
    return parse(_limited(path), str(path), kind or kind_of(path.name, str(path)), delimiter=delimiter, decimal=decimal)


def parse(content: bytes, location: str, kind: str, *, delimiter: str | None = None, decimal: str = ".") -> Content:
    """The same from the bytes of a file."""
    try:
        if kind == "csv":
            return _csv(content, location, delimiter, decimal)
        if kind == "npy":
            return Content(location, {"data": np.load(io.BytesIO(content), allow_pickle=False)})
        if kind == "npz":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                _check_members(archive, location, [info.filename for info in archive.infolist()])
            return Content(location, np.load(io.BytesIO(content), allow_pickle=False))
        if kind == "mat":
            return Content(location, _mat(content))
        if kind == "hdf5":
            return Content(location, _Datasets(content, location))
        if kind == "int16":
            return Content(location, {"data": _int16(content, location)})
        if kind in ("png", "jpg"):
            from maekit.data.images.picture import decode_pixels

            return Content(location, {"data": decode_pixels(content, location)})
        if kind == "json":
            return Content(location, {}, document=json.loads(content))
        if kind == "pickle":
            return Content(location, {}, document=plain(content, location))
        if kind == "lines":
            return Content(
                location,
                {},
                document=[line.split() for line in content.decode("utf-8-sig").splitlines() if line.strip()],
            )
        return _wav(content, location)
    except (UserError, ImportError):
        raise
    except Exception as error:  # each format's reader has exceptions of its own
        raise _damaged(error, location, kind.upper()) from error


def kind_of(name: str, location: str) -> str:
    """The format that a file name tells."""
    plain = name.lower().removesuffix(".gz")
    kinds = {
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
    }
    for suffix, kind in kinds.items():
        if plain.endswith(suffix):
            return kind
    raise UserError(
        "a format that is not read",
        location=location,
        value=name,
        expected="CSV (.csv, .csv.gz), NPY, NPZ, MAT, WAV, HDF5, PNG, JPEG, JSON or a pickle",
        hint="State `format` in the data spec where the name does not tell.",
    )


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive of which no member would land outside the folder it is unpacked to.

    Raises:
        UserError: not a zip archive, damaged, or such a member.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"not a sound zip archive ({error})", location=str(path), hint="Copy it again.") from error
    for name in archive.namelist():
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            archive.close()
            raise UserError(
                "a member that would be written outside the folder",
                location=str(path),
                value=name,
                hint="Do not trust this archive.",
            )
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member of a zip archive.

    Raises:
        UserError: damaged, encrypted, or growing beyond measure.
    """
    location = str(archive.filename)
    _check_members(archive, location, [name])
    try:
        return archive.read(name)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"cannot be unpacked ({error})",
            location=f"{location}!{name}",
            hint="Is it damaged or encrypted? Copy it again, or unpack it yourself.",
        ) from error


def _check_members(archive: zipfile.ZipFile, location: str, names: Sequence[str]) -> None:
    for name in names:
        info = archive.getinfo(name)
        _check_size(info.file_size, info.compress_size, f"{location}!{name}")


def _check_size(unpacked: int, packed: int, location: str) -> None:
    if unpacked > LARGEST or unpacked > max(HARMLESS, 500 * packed):
        raise UserError(
            "unpacks to an absurd size",
            location=location,
            value=f"more than {unpacked >> 20} MiB from {packed >> 10} KiB",
            expected=f"at most {LARGEST >> 30} GiB, and above {HARMLESS >> 20} MiB at most 500 times the packed size",
            hint="Unpack it yourself if it is sound.",
        )


def _limited(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzipped."""
    packed = path.stat().st_size
    try:
        if path.suffix != ".gz":
            _check_size(packed, packed, str(path))
            return path.read_bytes()
        blocks, size = [], 0
        with gzip.open(path) as file:
            while block := file.read(16 << 20):
                size += len(block)
                _check_size(size, packed, str(path))
                blocks.append(block)
        return b"".join(blocks)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"cannot be read ({error})", location=str(path), hint="Is it cut off? Copy it again."
        ) from error


def _csv(content: bytes, location: str, delimiter: str | None, decimal: str) -> Content:
    text = content.decode("utf-8-sig")
    dialect: Any = csv.excel
    if delimiter is None:
        with suppress(csv.Error):  # one column
            dialect = csv.Sniffer().sniff(text[:8192], delimiters=";\t " if decimal == "," else ",;\t ")
    reader = csv.reader(io.StringIO(text, newline=""), dialect, delimiter=delimiter or dialect.delimiter)
    rows, lines = [], []
    for row in reader:
        if row:
            rows.append(row)
            lines.append(reader.line_num)
    if not rows:
        raise UserError("an empty file", location=location, expected="rows of numbers")
    # A blank name (the index column of a data frame) is no number, though a blank cell counts as a missing one.
    if not any(cell.strip() and _is_number(cell, decimal) for cell in rows[0]):
        names = [name.strip() for name in rows.pop(0)]
        lines.pop(0)
    else:
        names = [str(i) for i in range(len(rows[0]))]
    if not rows:
        raise UserError("a header and no rows", location=location, expected="rows of numbers")
    if twice := next((name for i, name in enumerate(names) if name and name in names[:i]), None):
        raise UserError(
            "two columns of one name", location=location, value=twice, hint="Rename one of them in the file."
        )
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(names):
            raise UserError(
                "a row of another length",
                location=f"{location}:{line}",
                value=f"{len(row)} cells",
                expected=f"{len(names)}, as the first row has",
                hint="Give `delimiter` if it was taken for another one.",
            )
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return Content(location, {name: np.array(column) for name, column in columns if name}, None, lines, decimal)


def _number(cell: str, decimal: str) -> float:
    cell = cell.strip()
    return float("nan") if cell in _BLANK else float(cell.replace(",", ".") if decimal == "," else cell)


def _is_number(cell: str, decimal: str) -> bool:
    try:
        _number(cell, decimal)
    except ValueError:
        return False
    return True


def _mat(content: bytes) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(content))
    return {name: value for name, value in found.items() if not name.startswith("__")}


class _Datasets(Mapping[str, "NDArray[Any]"]):
    """The datasets of an HDF5 file, each read when it is asked for; links are not followed."""

    def __init__(self, content: bytes, location: str) -> None:
        self.file, self.location = h5py.File(io.BytesIO(content), "r"), location
        self.names = dict.fromkeys(dataset_names(self.file, limit=_MOST_DATASETS))

    def __getitem__(self, name: str) -> NDArray[Any]:
        dataset, location = self.file[name], f"{self.location}:{name}"
        check_storage(dataset, location)
        values = np.asarray(dataset[()])
        return to_native(values, "pairs", location) if pair_fields(values.dtype) else values

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names


def _int16(content: bytes, location: str) -> NDArray[Any]:
    if len(content) % 2 or not content:
        raise UserError(
            "no whole number of 16-bit values",
            location=location,
            value=f"{len(content)} bytes",
            expected="an even number",
            hint="Is it cut off, or of another format?",
        )
    return np.frombuffer(content, dtype="<i2")


def _wav(content: bytes, location: str) -> Content:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks beside the samples
        rate, samples = wavfile.read(io.BytesIO(content))
    _check_complete(content, location)
    return Content(location, {"data": samples}, float(rate))


def _check_complete(content: bytes, location: str) -> None:
    """SciPy returns what there is of a WAV file that was cut off, and says nothing."""
    order: Literal["big", "little"] = "big" if content[:4] == b"RIFX" else "little"
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == b"data":
            # A recorder that writes into a pipe cannot know the size and states the largest.
            if size != 0xFFFFFFFF and at + 8 + size > len(content):
                raise UserError(
                    "cut off",
                    location=location,
                    value=f"{len(content)} bytes",
                    expected=f"{at + 8 + size} bytes",
                    hint="Copy it again.",
                )
            return
        at += 8 + size + size % 2


def _damaged(error: Exception, location: str, kind: str) -> UserError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    hint = "Is it damaged or of another format? Object arrays and pickles are not read."
    if "matlab v7.3" in text:
        hint = "It is an HDF5 file: name it in `files` of the data spec and read it without converting."
    return UserError(f"cannot be read as {kind} ({text})", location=location, hint=hint)
