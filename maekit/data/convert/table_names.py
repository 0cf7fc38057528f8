"""Names and units of the columns of a text table, from the rows above its values."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from maekit.data.convert.cells import BLANK_CELLS, is_number, is_type, is_unit
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WHOLE = (re.compile(r"0|[1-9][0-9]*"), re.compile(r"(?:0|[1-9][0-9]*)[.]0"))
"""Whole numbers as names of columns, as they are written from integers and from floats."""


def has_numbers_as_names(first: Sequence[str], below: Sequence[Sequence[str]], location: str) -> bool:
    """Whether the first row is a row of names that are numbers, as data frames have without names of their own.

    Raises:
        UserError: it could be names or values.
    """
    counter = first[0] == ""
    names = list(first[1:] if counter else first)
    form = next((form for form in _WHOLE if all(form.fullmatch(name) for name in names)), None)
    if not names or not below or form is None:
        return False
    numbers = [float(name) for name in names]
    counted = numbers == list(range(len(names)))
    if counted and counter:
        return True
    regular = counted or (len(names) > 2 and _rises_evenly(names))
    integers_below = any(form.fullmatch(cell.lstrip("-")) for row in below for cell in row[int(counter) :])
    if not regular or (integers_below and (len(names) < 3 or any(_rises_evenly(row[int(counter) :]) for row in below))):
        return False
    if counted and len(names) > 1 and not integers_below and form is _WHOLE[0]:
        return True
    raise UserError(
        "a first row that could be names or values",
        location=location,
        value=", ".join(first),
        hint="State `header: true` or `header: false` in the data spec.",
    )


def _rises_evenly(row: Sequence[str]) -> bool:
    """Whether numbers rise by one step from each to the next, as frequencies or distances do."""
    if not all(is_number(cell, ".") and cell.strip() not in BLANK_CELLS for cell in row):
        return False
    steps = {float(later) - float(earlier) for earlier, later in pairwise(row)}
    return len(steps) == 1 and steps.pop() > 0


def last_block(numbers: Sequence[int], above: int) -> int:
    """Index of the first of the rows directly above the values: those after the last blank line between the rows above.

    Args:
        numbers: of the lines of the rows.
        above: number of rows above the values.
    """
    gaps = [i for i in range(1, above) if numbers[i] > numbers[i - 1] + 1]
    return gaps[-1] if gaps else 0


def name_columns(
    above: Sequence[Sequence[str]], below: Sequence[Sequence[str]], width: int, location: str
) -> tuple[list[str], Mapping[str, str]]:
    """Names of the columns, numbers where there are none, and their units by name.

    The names are in the last full row above the values that holds neither units nor one word several times.

    Raises:
        UserError: one name less than there are columns and no way to tell which has none, or about half as many.
    """
    wider = max((i for i, row in enumerate(above) if len(row) > width), default=-1)
    full = [row for row in above[wider + 1 :] if len(row) == width]
    if full:
        words = [row for row in full if not any(cell and is_number(cell, ".") for cell in row)] or full
        names = next((row for row in reversed(words) if _may_be_names(row)), None)
        names = names or next((row for row in full if len({name for name in row if name}) > 1), full[0])
        units = next(
            (
                row
                for row in reversed(full[full.index(names) + 1 :])
                if any(map(is_unit, row)) and not any(map(is_type, row))
            ),
            None,
        )
        return list(names), {
            name: unit.strip("'\"[]() ") for name, unit in zip(names, units or (), strict=False) if name and unit
        }
    rows = [row for row in below if len(row) == width]
    short = list(above[-1]) if above and not any(is_number(cell, ".") for cell in above[-1]) else []
    while len(above) > 1 and len(above[-2]) == len(short) and sum(map(is_unit, short)) * 2 > len(short):
        above = above[:-1]
        short = list(above[-1])
    if 0 < len(short) == width - 1:
        if all(row[-1] == "" for row in rows):  # rows that end with a delimiter
            return [*short, ""], {}
        if all(row[0] == str(i) for i, row in enumerate(rows, 1)):  # R's row numbers
            return ["", *short], {}
    halves = len(short) > 1 and len(short) < width <= 2 * len(short)
    if halves and all(cell.lstrip("-").isdigit() for row in rows for cell in row):
        raise UserError(
            "rows of whole numbers that are more than the names above them",
            location=location,
            value=f"{len(short)} names, {width} columns: {','.join(rows[0])}",
            expected="one column a name",
            hint='Decimal commas between commas? Write the file with points, or with another delimiter and `decimal: ","`.',
        )
    if 1 < len(short) == width - 1:
        raise UserError(
            "one name less than there are columns",
            location=location,
            value=", ".join(short),
            expected=f"{width} names",
            hint="Name the missing one in the file. A decimal comma in one column makes two of it, too.",
        )
    return [str(i) for i in range(width)], {}


def _may_be_names(row: Sequence[str]) -> bool:
    """Whether no word stands twice in a row, and most of its words are no units."""
    words = [cell for cell in row if cell]
    return len(words) > (len(row) > 1) and len(set(words)) == len(words) and 2 * sum(map(is_unit, words)) <= len(words)
