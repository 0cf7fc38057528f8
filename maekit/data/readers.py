"""CSV, NPY, NPZ, MAT and WAV files as arrays by name; nothing in them is ever run."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST = 4 << 30
Arrays = dict[str, "NDArray[Any]"]


def read(path: Path, kind: str | None = None) -> tuple[Arrays, float | None]:
    """All arrays of a file by name, and its sampling rate where the format holds one.

    The columns of a CSV are named by its header, or by number ("0", "1", ...) where it has none; the one array of
    an NPY or WAV file is named "data".

    Raises:
        UserError: missing, damaged, too large, or not of the format.
    """
    if not path.is_file():
        raise UserError("no such file", place=str(path))
    return parse(_limited(path), str(path), kind or kind_of(path.name, str(path)))


def parse(content: bytes, place: str, kind: str) -> tuple[Arrays, float | None]:
    """The same from the bytes of a file."""
    try:
        if kind == "csv":
            return _csv(content, place), None
        if kind == "npy":
            return {"data": np.load(io.BytesIO(content), allow_pickle=False)}, None
        if kind == "npz":
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}, None
        if kind == "mat":
            return _mat(content), None
        from scipy.io import wavfile

        rate, samples = wavfile.read(io.BytesIO(content))
        return {"data": samples}, float(rate)
    except UserError:
        raise
    except ImportError:
        raise
    except Exception as error:  # each format's reader has exceptions of its own
        raise UserError(
            f"cannot be read as {kind.upper()} ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            place=place, mend="Is it damaged or of another format? Object arrays and pickles are not read.",
        ) from error  # fmt: skip


def kind_of(name: str, place: str) -> str:
    """The format that a file name tells."""
    plain = name.lower().removesuffix(".gz")
    kinds = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".npy": "npy", ".npz": "npz", ".mat": "mat", ".wav": "wav"}
    for suffix, kind in kinds.items():
        if plain.endswith(suffix):
            return kind
    raise UserError("a format that is not read", place=place, value=name, expected="CSV (.csv, .csv.gz), NPY, NPZ, MAT or WAV",
                    mend="State `format` in the data spec where the name does not tell.")  # fmt: skip


def pick(arrays: Mapping[str, NDArray[Any]], name: str | int, place: str) -> NDArray[Any]:
    """One array by name.

    Raises:
        UserError: none of that name; the nearest is named.
    """
    if str(name) not in arrays:
        raise UserError("no such column or key", place=place, value=name, expected="one of " + ", ".join(arrays),
                        mend=nearest(str(name), arrays))  # fmt: skip
    return arrays[str(name)]


def members(archive: Path, pattern: str = "*") -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the members of a zip archive that match, each unpacking to a sane size.

    Raises:
        UserError: not a zip archive, damaged, a member that would land outside or grows beyond measure.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                name = info.filename
                if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
                    raise UserError("a member that would be written outside the folder", place=str(archive), value=name,
                                    mend="Do not trust this archive.")  # fmt: skip
                if info.is_dir() or not fnmatch(name, pattern):
                    continue
                if info.file_size > LARGEST or info.file_size > 1000 * max(info.compress_size, 1024):
                    raise UserError("unpacks to an absurd size", place=f"{archive}!{name}", value=f"{info.file_size} bytes",
                                    expected="at most 4 GiB, and a thousand times its packed size")  # fmt: skip
                yield name, file.read(info)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"not a sound zip archive ({error})", place=str(archive), mend="Copy it again.") from error


def _limited(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzipped, up to 4 GiB."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                content = file.read(LARGEST + 1)
        else:
            with path.open("rb") as plain:
                content = plain.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise UserError(f"cannot be read ({error})", place=str(path), mend="Is it cut off? Copy it again.") from error
    if len(content) > LARGEST:
        raise UserError("too large", place=str(path), expected="at most 4 GiB unpacked")
    return content


def _csv(content: bytes, place: str) -> Arrays:
    """Columns as text; `numbers` turns those that are wanted into numbers."""
    text = content.decode("utf-8-sig")
    try:
        dialect: Any = csv.Sniffer().sniff(text[:8192], delimiters=",;\t ")
    except csv.Error:  # one column
        dialect = csv.excel
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if row]
    if not rows:
        raise UserError("an empty file", place=place, expected="rows of numbers")
    has_header = not any(_is_number(cell) for cell in rows[0])
    names = [name.strip() for name in rows[0]] if has_header else [str(i) for i in range(len(rows[0]))]
    body = rows[1:] if has_header else rows
    if not body:
        raise UserError("a header and no rows", place=place, expected="rows of numbers")
    for number, row in enumerate(body, start=2 if has_header else 1):
        if len(row) != len(names):
            raise UserError("a row of another length", place=f"{place}:{number}", value=f"{len(row)} cells",
                            expected=f"{len(names)}, as the first row has")  # fmt: skip
    return {name: np.array(column) for name, column in zip(names, zip(*body, strict=True), strict=True)}


def numbers(values: NDArray[Any], place: str) -> NDArray[Any]:
    """Text cells as float64, blank ones as NaN; numbers as they are.

    Raises:
        UserError: a cell that is no number, with its line.
    """
    if values.dtype.kind != "U":
        return values
    cells = np.char.strip(values)
    cells = np.where(np.isin(cells, ["", "NA", "N/A", "null", "None"]), "nan", cells)
    try:
        return cells.astype(np.float64)
    except ValueError:
        wrong = next(i for i, cell in enumerate(cells.tolist()) if not _is_number(cell))
        raise UserError("a cell that is no number", place=f"{place}:{wrong + 2}", value=str(values[wrong]), expected="a number or nothing",
                        mend="A decimal comma, a unit or a date? Change the file or name another column.") from None  # fmt: skip


def _mat(content: bytes) -> Arrays:
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(content))
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() == ""
    return True
