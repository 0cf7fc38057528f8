"""The layout of a text table, found from its first lines: comments, `sep=;`, delimiter, rows of names and units.

What could be read in two ways is refused, with the option that decides it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from maekit.data.convert.cells import BLANK_CELLS, is_number, is_unit, is_value
from maekit.data.convert.comment_head import CommentHead, read_comments
from maekit.data.convert.content import NoRowsError
from maekit.data.convert.table_names import has_numbers_as_names, last_block, name_columns
from maekit.data.convert.text_lines import BLANKS, lines, offset_of_line, split_cells
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD_LINES = 200
_LEAST_COUNT = 3
"""Numbers that rise from each to the next from which on they may be an index or a clock."""
COMMENT_MARKS = ("#", "%")
"""What comments begin with where nothing is stated."""
_DELIMITERS = ("\t", ";", ",", "|")
_COMPLEX = re.compile(r"\(?[-+.\deE]+[-+][.\deE+-]+[ij]\)?|\(?[-+.\deE]+[ij]\)?")


@dataclass(frozen=True)
class TableOptions:
    """What a data spec states about a table; None is found by looking.

    Args:
        delimiter: character between cells; a blank stands for runs of blanks.
        decimal: character before the fraction.
        header: whether the first row below comments holds names.
        encoding: of the text.
        skip: lines above the table that are left out.
        comment: what lines begin with that are left out, also between rows.
        may_be_empty: whether there may be names and no rows.
        first_rows: what the first rows state instead of values: `start` in seconds since 1970, `rate_hz`.
        torn: whether a torn last line, or any torn line, is left out.
    """

    delimiter: str | None = None
    decimal: str = "."
    header: bool | None = None
    encoding: str | None = None
    skip: int = 0
    comment: str | None = None
    torn: Literal["last", "any"] | None = None
    first_rows: tuple[Literal["start", "rate_hz"], ...] = ()
    may_be_empty: bool = False


@dataclass(frozen=True)
class Layout:
    """Where the rows of a table stand.

    Attributes:
        delimiter: one character, or `BLANKS`.
        decimal: character before the fraction.
        first: number of lines before the first row of values.
        offset: bytes before the first row of values.
        names: names of the columns; empty for a counter of rows without a name.
        head: what comments say; its names, if any, are those of the columns.
        units: of the columns by name, from a row below the names.
    """

    delimiter: str
    decimal: str
    first: int
    offset: int
    names: Sequence[str]
    head: CommentHead
    units: Mapping[str, str] = field(default_factory=dict)


def find_layout(content: bytes, location: str, options: TableOptions) -> Layout:
    """Find delimiter, names and the first row of values.

    Raises:
        UserError: no rows below the header, or a first row that could be names or values.
    """
    comments: list[str] = []
    head: list[tuple[int, str]] = []
    delimiter, marks = options.delimiter, (*COMMENT_MARKS, options.comment) if options.comment else COMMENT_MARKS
    for number, line in lines(content, options.skip):
        if line.startswith(marks) and (not head or (options.comment and line.startswith(options.comment))):
            comments.append(line)
        elif not head and (stated := re.fullmatch(r"sep=(.)", line.strip().strip('"'))):
            delimiter = delimiter or stated.group(1)
        else:
            head.append((number, line))
        if len(head) == _HEAD_LINES:
            break
    while len(head) > 1 and head[-1][1].startswith(marks):
        head.pop()  # below the rows
    if not head:
        raise NoRowsError("an empty file", location=location, expected="rows of numbers below the comments")
    texts = [line for _, line in head]
    delimiter = BLANKS if delimiter == " " else delimiter or _find_delimiter(texts, options.decimal)
    rows = [split_cells(line, delimiter) for line in texts]
    widths = Counter(len(row) for row in rows[len(rows) // 2 :] if any(row)) or {len(rows[-1]): 1}
    width = max(widths, key=lambda cells: (widths[cells], cells))  # single lines may be torn, and are narrower then
    known = read_comments(comments, delimiter, [row for row in rows if len(row) == width])
    above = _rows_above(rows, width, options, location, named=bool(known.names))
    if above == len(rows) and not (
        options.may_be_empty and all(2 * sum(map(is_unit, row)) > len(row) for row in rows[1:])
    ):
        raise NoRowsError(
            "a header and no rows",
            location=location,
            expected="rows of numbers",
            hint=_hint_without_rows(content, rows, location, options),
        )
    first = head[above][0] - 1 if above < len(rows) else head[-1][0]
    if known.names and not above:
        return Layout(delimiter, options.decimal, first, offset_of_line(content, first), known.names, known)
    block = last_block([number for number, _ in head], above)
    names, units = name_columns(rows[block:above], rows[above:], width, location)
    known = CommentHead(rate_hz=known.rate_hz)
    return Layout(delimiter, options.decimal, first, offset_of_line(content, first), names, known, units)


def _hint_without_rows(content: bytes, rows: Sequence[Sequence[str]], location: str, options: TableOptions) -> str:
    """What would make a table readable in which no row of numbers was found."""
    if options.decimal == ".":
        try:
            find_layout(content, location, replace(options, decimal=",", may_be_empty=False))
        except UserError:
            pass
        else:
            return 'Decimal commas? State `decimal: ","`.'
    if any(_COMPLEX.fullmatch(cell) for cell in rows[-1]):
        return "Complex numbers as text? Write their real and imaginary parts as columns, and state `complex: pairs` for the signal."
    return (
        "Is it a table of text? State `header: true` if its first row has the names, `header: false` if there are none."
    )


def _find_delimiter(texts: Sequence[str], decimal: str) -> str:
    """The character that all of the last lines have equally often; runs of blanks where there is none."""
    body = texts[len(texts) // 2 :] if len(texts) > 3 else texts[-2:]
    body = body[:-1] if len(body) > 2 else body
    for delimiter in _DELIMITERS:
        if delimiter == "," and decimal == "," and not all('"' in line for line in body):
            continue  # in quotes, decimal commas are none between cells
        counts = {len(split_cells(line, delimiter)) for line in body}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    if all(len(line.split()) > 1 for line in body):
        return BLANKS
    return ";" if decimal == "," else ","


def _rows_above(rows: Sequence[Sequence[str]], width: int, options: TableOptions, location: str, *, named: bool) -> int:
    """Number of rows of names, units and the like above the values; `named`: comments name the columns."""
    decimal = options.decimal
    if options.header is not None:
        return int(options.header)
    below = [row for row in rows[1:] if len(row) == width]
    numeric = [
        i
        for i in range(width)
        if 2 * sum(is_value(row[i], decimal) and row[i] not in BLANK_CELLS for row in below) >= max(1, len(below))
    ]
    counts_up = 0 in numeric and _counts_up([row[0] for row in below], decimal)

    def is_above(row: Sequence[str]) -> bool:
        if not any(cell.strip("-=:+") for cell in row):
            return True  # delimiters or lines alone
        if len(row) != width:
            starts_with_text = 0 in numeric and not is_value(row[0], decimal)
            return len(row) < width or starts_with_text or not any(is_number(cell, decimal) for cell in row if cell)
        if row[0] == "" and counts_up and all(cell.replace(".0", "").isdigit() for cell in row if cell):
            return True  # names or numbers of rows beside an index or clock, which no row of values lacks
        if counts_up and row[0] not in BLANK_CELLS and is_number(row[0], decimal):
            return False
        if not numeric or not below:
            return not any(is_number(cell, decimal) for cell in row if cell not in BLANK_CELLS)
        return any(row[i] not in BLANK_CELLS and not is_value(row[i], decimal) for i in numeric)

    above = next((i for i, row in enumerate(rows) if not is_above(row)), len(rows))
    if above == 0 and not named and has_numbers_as_names(rows[0], below, location):
        return 1
    return above


def _counts_up(cells: Sequence[str], decimal: str) -> bool:
    """Whether the last cells are numbers that rise from each to the next, as an index or a clock."""
    numbers: list[float] = []
    for cell in reversed(cells):
        if cell in BLANK_CELLS or not is_number(cell, decimal):
            break
        numbers.append(float(cell.replace(",", ".") if decimal == "," else cell))
    return len(numbers) >= max(_LEAST_COUNT, len(cells) / 2) and all(
        later > earlier for later, earlier in pairwise(numbers)
    )
