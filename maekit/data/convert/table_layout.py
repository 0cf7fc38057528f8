"""The layout of a text table, found from its first lines: comments, `sep=;`, delimiter, rows of names and units.

What could be read in two ways is refused, with the option that decides it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from maekit.data.convert.comment_head import CommentHead, read_comments
from maekit.data.convert.content import NoRowsError
from maekit.data.convert.text_lines import BLANKS, lines, offset_of_line, split_cells
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

BLANK_CELLS = ("", "NA", "N/A", "null", "None", "nan", "NaN", "NAN", "-nan")
"""Cells that count as missing."""

_HEAD_LINES = 200
COMMENT_MARKS = ("#", "%")
"""What comments begin with where nothing is stated."""
_DELIMITERS = ("\t", ";", ",", "|")
_MOMENT = re.compile(r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{1,4}\b.*")
_INTEGER = re.compile(r"0|[1-9][0-9]*")


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
    """

    delimiter: str
    decimal: str
    first: int
    offset: int
    names: Sequence[str]
    head: CommentHead


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
    width = len(rows[-2] if len(rows) > 2 else rows[-1])  # the last line may be torn
    known = read_comments(comments, delimiter, [row for row in rows if len(row) == width])
    above = _rows_above(rows, width, options, location, named=bool(known.names))
    if above == len(rows) and not (options.may_be_empty and rows):
        raise NoRowsError(
            "a header and no rows",
            location=location,
            expected="rows of numbers",
            hint="Is it a table of text? State `header: true` if its first row has the names.",
        )
    first = head[above][0] - 1 if above < len(rows) else head[-1][0]
    block = _last_block(head, above)
    names = known.names if known.names and not above else _names(rows[block:], above - block, location)
    if names is not known.names:
        known = CommentHead(rate_hz=known.rate_hz)
    return Layout(delimiter, options.decimal, first, offset_of_line(content, first), names, known)


def _find_delimiter(texts: Sequence[str], decimal: str) -> str:
    """The character that all of the last lines have equally often; runs of blanks where there is none."""
    body = texts[len(texts) // 2 :] if len(texts) > 3 else texts[-2:]
    body = body[:-1] if len(body) > 2 else body
    for delimiter in _DELIMITERS:
        if delimiter == "," and decimal == ",":
            continue
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
        if 2 * sum(_is_value(row[i], decimal) and row[i] not in BLANK_CELLS for row in below) >= max(1, len(below))
    ]

    def is_above(row: Sequence[str]) -> bool:
        if len(row) != width:
            return len(row) < width or not any(is_number(cell, decimal) for cell in row if cell)
        if not numeric or not below:
            return not any(is_number(cell, decimal) for cell in row if cell not in BLANK_CELLS)
        return any(row[i] not in BLANK_CELLS and not _is_value(row[i], decimal) for i in numeric)

    above = next((i for i, row in enumerate(rows) if not is_above(row)), len(rows))
    if above == 0 and not named and _has_numbers_as_names(rows[0], below, location):
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


def _last_block(head: Sequence[tuple[int, str]], above: int) -> int:
    """Index of the first of the rows directly above the values: those after the last blank line between the rows above."""
    gaps = [i for i in range(1, above) if head[i][0] > head[i - 1][0] + 1]
    return gaps[-1] if gaps else 0


def _names(rows: Sequence[Sequence[str]], above: int, location: str) -> list[str]:
    """Names of the columns: from the first full row above the values; otherwise numbers.

    Raises:
        UserError: one name less than there are columns, and no way to tell which has none.
    """
    below = rows[above:]
    width = len(below[0] if below else rows[-1])
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
    return [str(i) for i in range(width)]


def _is_value(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, a date, a time of day, or blank."""
    return is_number(cell, decimal) or _MOMENT.fullmatch(cell.strip('"[]')) is not None


def is_number(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, or blank."""
    if cell.strip() in BLANK_CELLS:
        return True
    try:
        float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return False
    return True
