"""Text files as lines of UTF-8: decoding, NUL bytes, and counting the cells of each line without a loop over lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANKS = r"\s+"
"""The delimiter of columns that are separated by runs of blanks."""

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OTHER_FILES = {
    b"\x1f\x8b": ("a file packed with gzip", "Give it the ending `.csv.gz`, or unpack it."),
    b"PK\x03\x04": (
        "a zip archive or a workbook",
        "Unpack it, or save the sheet as CSV from the program that made it.",
    ),
    b"\xd0\xcf\x11\xe0": ("a workbook", "Save the sheet as CSV from the program that made it."),
    b"\x89HDF": ("an HDF5 file", "State `format: hdf5` (MATLAB's v7.3: `format: mat`)."),
    b"MATLAB 5": ("a MAT file", "State `format: mat`."),
    b"%PDF": ("a PDF", "Export the table as CSV."),
}
"""What other files begin with that are given as text."""
_NEWLINE, _QUOTE = ord("\n"), ord('"')
_BLOCK_BYTES = 1 << 20


class LineCounts(NamedTuple):
    """Some consecutive lines.

    Attributes:
        starts: offset of each line.
        stops: offset after its last byte, without the newline.
        cells: number of its cells; 0 for lines of blanks only.
    """

    starts: NDArray[np.intp]
    stops: NDArray[np.intp]
    cells: NDArray[np.intp]


def to_utf8(content: bytes, location: str, encoding: str | None) -> bytes:
    """Text in UTF-8 with the line ends of Unix.

    Raises:
        UserError: an unknown encoding, text that is not in it, or no text but a file of another kind.
    """
    for mark, (kind, hint) in _OTHER_FILES.items():
        if content.startswith(mark):
            raise UserError(f"{kind} instead of text", location=location, value=content[:8], hint=hint)
    stated = encoding or next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding is None and (wide := _wide_encoding(content)) is not None and stated == "utf-8":
        raise UserError(
            "text of two bytes a character without a byte-order mark",
            location=location,
            value=content[:8],
            expected="UTF-8",
            hint=f"State `encoding: {wide}` in the data spec.",
        )
    try:
        if not (stated == "utf-8" and content.isascii()):
            text = content.decode(stated)
            content = content if stated == "utf-8" else text.encode()
    except LookupError:
        raise UserError("no such encoding", location=location, value=stated, expected="one of Python's") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"text that is not {stated.upper()}",
            location=f"{location}:{line}",
            value=content[error.start : error.start + 8],
            hint="State `encoding` in the data spec: `latin-1` for most files of Western European programs.",
        ) from None
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in content else content


def _wide_encoding(content: bytes) -> str | None:
    """UTF-16 without a byte-order mark, by the NUL bytes of plain letters."""
    head = content[:400]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 4 and max(even, odd) > 0.8 * (len(head) // 2) and min(even, odd) == 0:
        return "utf-16-be" if even > odd else "utf-16-le"
    return None


def lines(content: bytes, skip: int = 0) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank, after the first `skip` lines."""
    for number, line in enumerate(io.BytesIO(content), 1):
        if number > skip and line.strip(b" \n"):
            yield number, line.rstrip(b"\n").decode(errors="replace")


def offset_of_line(content: bytes, skip: int) -> int:
    """Offset after the first `skip` lines."""
    offset = 0
    for _ in range(skip):
        offset = content.find(b"\n", offset) + 1
    return offset


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line, without blanks around them."""
    if '"' not in line:
        return line.split() if delimiter == BLANKS else [cell.strip() for cell in line.split(delimiter)]
    if delimiter == BLANKS:
        line, delimiter = line.strip().replace("\t", " "), " "
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def count_cells(content: bytes, delimiter: str, offset: int) -> Iterator[LineCounts]:
    """The number of cells of each line from an offset on, block by block."""
    while offset < len(content):
        stop = content.rfind(b"\n", offset, offset + _BLOCK_BYTES) + 1
        if not stop:  # a line longer than a block, or the last one
            stop = content.find(b"\n", offset) + 1 or len(content)
        block = np.frombuffer(content, dtype=np.uint8, count=stop - offset, offset=offset)
        yield _count_block(content, block, delimiter, offset)
        offset = stop


def _count_block(content: bytes, block: NDArray[np.uint8], delimiter: str, offset: int) -> LineCounts:
    ends = np.flatnonzero(block == _NEWLINE)
    if not len(ends) or ends[-1] != len(block) - 1:
        ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    blank = (block == ord(" ")) | (block == _NEWLINE)
    if delimiter == BLANKS or delimiter != "\t":
        blank |= block == ord("\t")
    if delimiter == BLANKS:
        begins = ~blank
        begins[1:] &= blank[:-1]
        cells = _sums(begins, starts, ends)
    else:
        cells = _sums(block == ord(delimiter), starts, ends) + 1
        cells[_sums(~blank, starts, ends) == 0] = 0
    if (block == _QUOTE).any():
        for row in np.flatnonzero(_sums(block == _QUOTE, starts, ends)).tolist():
            line = content[offset + starts[row] : offset + ends[row]].decode(errors="replace")
            cells[row] = len(split_cells(line, delimiter))
    return LineCounts(starts + offset, ends + offset, cells)


def _sums(marks: NDArray[np.bool_], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many marks each line has."""
    total = np.concatenate([[0], np.cumsum(marks, dtype=np.int32)])
    return (total[ends] - total[starts]).astype(np.intp)
