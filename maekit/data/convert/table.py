"""Text tables (CSV and its relatives): find the block of rows below whatever stands above it, and parse it with pandas.

The layout is found from the first lines: encoding by byte-order mark, comment lines, a line `sep=;`, the delimiter (or
runs of blanks), rows of names and units, and whether the first row of numbers is a row of names. What could be read in
two ways is refused, with the option that decides it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.content import FileContent
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pandas import DataFrame

BLANK_CELLS = ("", "NA", "N/A", "null", "None", "nan", "NaN", "NAN", "-nan")
"""Cells that count as missing."""
BLANKS = r"\s+"
"""The delimiter of columns that are separated by runs of blanks."""

_HEAD_LINES = 200
_COMMENT = ("#", "%")
_DELIMITERS = ("\t", ";", ",", "|")
_INTEGER = re.compile(r"0|[1-9][0-9]*")
_PLAIN_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)[.]?[0-9]*|[.][0-9]+|[0-9]+[eE][+-][0-9]+|[0-9]+[.][0-9]*[eE][+-]?[0-9]+)"
)
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class TableOptions:
    """What a data spec states about a table; None is found by looking.

    Args:
        delimiter: character between cells; a blank stands for runs of blanks.
        decimal: character before the fraction.
        header: whether the first row below comments holds names.
        encoding: of the text.
    """

    delimiter: str | None = None
    decimal: str = "."
    header: bool | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a table stand.

    Attributes:
        delimiter: one character, or `BLANKS`.
        decimal: character before the fraction.
        first: number of lines before the first row of values.
        names: names of the columns; empty for a counter of rows without a name.
    """

    delimiter: str
    decimal: str
    first: int
    names: Sequence[str]

    def cells(self, line: str) -> list[str]:
        """The cells of a line, without blanks around them."""
        return _cells(line, self.delimiter)


@dataclass(frozen=True)
class TableContent(FileContent):
    """A text table; its columns are text or numbers, as they are asked for."""

    def numbers(self, name: str | int) -> NDArray[Any]:
        """A column as float64, NaN for blank cells.

        Raises:
            UserError: no such column, or a cell that is not a number, with its line.
        """
        assert isinstance(self.arrays, _Columns)
        if str(name) not in self.arrays:
            self.pick(name)
        return self.arrays.numbers(str(name))

    def native(self, name: str | int) -> NDArray[Any]:
        """A column as int64 or float64 if all its cells are numbers or blank, otherwise as text."""
        assert isinstance(self.arrays, _Columns)
        if str(name) not in self.arrays:
            self.pick(name)
        return self.arrays.native(str(name))

    def locate(self, row: int) -> str:
        """File and line of a row."""
        assert isinstance(self.arrays, _Columns)
        return f"{self.location}:{self.arrays.line(row)[0]}"

    def numbers_or_text(self, name: str) -> NDArray[Any]:
        """A column as numbers if all its cells are plain numbers; `007` and `1e3` are names and stay text."""
        assert isinstance(self.arrays, _Columns)
        cells = self.pick(name)
        if all(map(self.arrays.is_plain_number, cells.tolist())):
            return self.numbers(name)
        return cells


def read_table(content: bytes, location: str, options: TableOptions) -> TableContent:
    """Read a text table.

    Raises:
        UserError: an unknown encoding, no rows, rows of different lengths, two columns of one name, or a first row that
            could be names or values.
    """
    text = _decode(content, location, options.encoding)
    if not text.strip():
        raise UserError("an empty file", location=location, expected="rows of numbers")
    layout = _find_layout(text, location, options)
    _check_rows(text, layout, location)
    named = [name for name in layout.names if name]
    if duplicate := next((name for i, name in enumerate(named) if name in named[:i]), None):
        raise UserError(
            "two columns of one name", location=location, value=duplicate, hint="Rename one of them in the file."
        )
    return TableContent(location, _Columns(text, layout, location))


class _Columns(Mapping[str, "NDArray[Any]"]):
    """The named columns of a table: as text by `[name]`, as numbers by `numbers(name)`."""

    def __init__(self, text: str, layout: _Layout, location: str) -> None:
        self._text, self._layout, self._location = text, layout, location
        self._positions = {name: i for i, name in enumerate(layout.names) if name}
        self._parsed: DataFrame | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        cells = self._parse(usecols=[self._positions[name]], dtype=str, na_filter=False).iloc[:, 0]
        return np.char.strip(np.array(cells.tolist(), dtype=np.str_))

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def native(self, name: str) -> NDArray[Any]:
        """A column as numbers where pandas finds only such, otherwise as text."""
        if self._parsed is None:
            self._parsed = self._parse(na_values=list(BLANK_CELLS), low_memory=False, **_exact())
        column = self._parsed.iloc[:, self._positions[name]]
        return np.asarray(column) if column.dtype.kind in "iuf" else self[name]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64.

        Raises:
            UserError: a cell that is not a number.
        """
        values = self.native(name)
        if values.dtype.kind in "iuf":
            return values.astype(np.float64)
        decimal = self._layout.decimal
        cells = values.tolist()
        wrong = next((i for i, cell in enumerate(cells) if not _is_number(cell, decimal)), None)
        if wrong is None:  # integers beyond 64 bits
            return np.array([float(cell or "nan") for cell in cells])
        number, line = self.line(wrong)
        raise UserError(
            "a cell that is no number",
            location=f"{self._location}:{number}",
            value=self._layout.cells(line)[self._positions[name]],
            expected=f"a number or nothing in column {name!r}",
            hint='A unit or a date? Change the file or name another column. A decimal comma: `decimal: ","`.',
        )

    def line(self, row: int) -> tuple[int, str]:
        """Number (from 1) and text of the line of a row."""
        return next(islice(_lines(self._text, self._layout.first), row, None))

    def is_plain_number(self, cell: str) -> bool:
        """Whether a cell is blank or a number that could not be a name, unlike `007` and `1e3`."""
        if self._layout.decimal == ",":
            cell = cell.replace(",", ".")
        return cell in BLANK_CELLS or _PLAIN_NUMBER.fullmatch(cell) is not None

    def _parse(self, **options: Any) -> DataFrame:
        import pandas

        layout = self._layout
        return pandas.read_csv(
            io.StringIO(self._text),
            sep=layout.delimiter,
            decimal=layout.decimal,
            header=None,
            index_col=False,
            skiprows=layout.first,
            skipinitialspace=True,
            keep_default_na=False,
            engine="c",
            **options,
        )


def _exact() -> dict[str, str]:
    """The option that makes pandas parse decimals exactly, which newer versions always do."""
    import pandas

    major, minor = pandas.__version__.split(".")[:2]
    return {} if (int(major), int(minor)) >= (3, 1) else {"float_precision": "round_trip"}


def _decode(content: bytes, location: str, encoding: str | None) -> str:
    encoding = encoding or next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    except LookupError:
        raise UserError("no such encoding", location=location, value=encoding, expected="one of Python's") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"text that is not {encoding.upper()}",
            location=f"{location}:{line}",
            value=content[error.start : error.start + 8],
            hint="State `encoding` in the data spec: `latin-1` for most files of Western European programs.",
        ) from None


def _lines(text: str, skip: int) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty, after the first `skip` lines."""
    for number, line in enumerate(io.StringIO(text), 1):
        if number > skip and line != "\n":
            yield number, line.rstrip("\n")


def _find_layout(text: str, location: str, options: TableOptions) -> _Layout:
    """Find delimiter, names and the first row of values.

    Raises:
        UserError: no rows below the header, or a first row that could be names or values.
    """
    comments: list[str] = []
    head: list[tuple[int, str]] = []
    delimiter = options.delimiter
    for number, line in _lines(text, 0):
        if not line.strip():
            continue
        if not head and line.startswith(_COMMENT):
            comments.append(line)
        elif not head and (stated := re.fullmatch(r"sep=(.)", line.strip().strip('"'))):
            delimiter = delimiter or stated.group(1)
        else:
            head.append((number, line))
        if len(head) == _HEAD_LINES:
            break
    if not head:
        raise UserError("an empty file", location=location, expected="rows of numbers below the comments")
    lines = [line for _, line in head]
    delimiter = BLANKS if delimiter == " " else delimiter or _find_delimiter(lines, options.decimal)
    rows = [_cells(line, delimiter) for line in lines]
    width = len(rows[-2] if len(rows) > 2 else rows[-1])  # the last line may be torn
    above = _rows_above(rows, width, options, location)
    if above == len(rows):
        raise UserError("a header and no rows", location=location, expected="rows of numbers")
    names = _names(rows, above, comments, delimiter, location)
    return _Layout(delimiter, options.decimal, head[above][0] - 1, names)


def _find_delimiter(lines: Sequence[str], decimal: str) -> str:
    """The character that all of the last lines have equally often; runs of blanks where there is none."""
    body = lines[len(lines) // 2 :] if len(lines) > 3 else lines[-2:]
    body = body[:-1] if len(body) > 2 else body
    for delimiter in _DELIMITERS:
        if delimiter == "," and decimal == ",":
            continue
        counts = {len(_cells(line, delimiter)) for line in body}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    if all(len(line.split()) > 1 for line in body):
        return BLANKS
    return ";" if decimal == "," else ","


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == BLANKS:
        return line.split()
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _rows_above(rows: Sequence[Sequence[str]], width: int, options: TableOptions, location: str) -> int:
    """Number of rows of names, units and the like above the values."""
    decimal = options.decimal
    if options.header is not None:
        return int(options.header)
    below = [row for row in rows[1:] if len(row) == width]
    numeric = [
        i
        for i in range(width)
        if 2 * sum(_is_number(row[i], decimal) and row[i] not in BLANK_CELLS for row in below) >= max(1, len(below))
    ]

    def is_above(row: Sequence[str]) -> bool:
        if len(row) != width:
            return len(row) < width or not any(_is_number(cell, decimal) for cell in row if cell)
        if not numeric or not below:
            return not any(_is_number(cell, decimal) for cell in row if cell not in BLANK_CELLS)
        return any(row[i] not in BLANK_CELLS and not _is_number(row[i], decimal) for i in numeric)

    above = next((i for i, row in enumerate(rows) if not is_above(row)), len(rows))
    if above == 0 and _has_numbers_as_names(rows[0], below, location):
        return 1
    return above


def _has_numbers_as_names(first: Sequence[str], below: Sequence[Sequence[str]], location: str) -> bool:
    """Whether the first row is a row of names that are numbers, as data frames have without names of their own.

    Raises:
        UserError: it could be names or values.
    """
    counter = first[0] == ""
    names = list(first[1:] if counter else first)
    if not names or not below or not all(_INTEGER.fullmatch(name) for name in names):
        return False
    counted = names == [str(i) for i in range(len(names))]
    if counted and counter:
        return True
    steps = {int(later) - int(earlier) for earlier, later in pairwise(names)}
    regular = counted or (len(names) > 2 and len(steps) == 1 and steps.pop() > 0)
    integers_below = any(_INTEGER.fullmatch(cell.lstrip("-")) for row in below for cell in row[int(counter) :])
    if not regular or (integers_below and not (counted and len(names) > 2)):
        return False
    if counted and len(names) > 1 and not integers_below:
        return True
    raise UserError(
        "a first row that could be names or values",
        location=location,
        value=", ".join(first),
        hint="State `header: true` or `header: false` in the data spec.",
    )


def _names(
    rows: Sequence[Sequence[str]], above: int, comments: Sequence[str], delimiter: str, location: str
) -> list[str]:
    """Names of the columns: from the first full row above the values, or from the last comment; otherwise numbers.

    Raises:
        UserError: one name less than there are columns, and no way to tell which has none.
    """
    below = rows[above:]
    width = len(below[0])
    full = [row for row in rows[:above] if len(row) == width]
    if full:
        return list(next((row for row in full if len({name for name in row if name}) > 1), full[0]))
    short = next((row for row in rows[:above] if len(row) == width - 1 > 0), None)
    if short is not None:
        complete = [row for row in below if len(row) == width]
        if all(row[-1] == "" for row in complete):  # rows that end with a delimiter
            return [*short, ""]
        if all(row[0] == str(i) for i, row in enumerate(complete, 1)):  # R's row numbers
            return ["", *short]
        raise UserError(
            "one name less than there are columns",
            location=location,
            value=", ".join(short),
            expected=f"{width} names",
            hint="Name the missing one in the file.",
        )
    if comments and not above:
        row = _cells(comments[-1].lstrip("".join(_COMMENT)).strip(), delimiter)
        if len(row) == width and len(set(row)) == width and not any(_is_number(name, ".") for name in row):
            return row
    return [str(i) for i in range(width)]


def _check_rows(text: str, layout: _Layout, location: str) -> None:
    """Refuse rows of another length, which pandas would fill with missing values.

    Raises:
        UserError: with the line of the first such row.
    """
    width, delimiter = len(layout.names), layout.delimiter
    for number, line in _lines(text, layout.first):
        if delimiter == BLANKS and not line.strip():
            continue
        count = len(layout.cells(line)) if delimiter == BLANKS or '"' in line else line.count(delimiter) + 1
        if count != width:
            raise UserError(
                "a row of another length",
                location=f"{location}:{number}",
                value=f"{count} cells",
                expected=f"{width}, as the first row has",
                hint=_length_hint(text, number),
            )


def _length_hint(text: str, number: int) -> str:
    following = next(_lines(text, number), None)
    if following is None:
        return "It is the last line: was the file cut off while it was written? Remove the line if so."
    return "Give `delimiter` if it was taken for another one."


def _is_number(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, or blank."""
    if cell.strip() in BLANK_CELLS:
        return True
    try:
        float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return False
    return True
