"""Rows above the values of a table that state when a recording begins and its rate, as some wrist devices write them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import islice

from maekit.data.convert.table_layout import Layout, TableOptions
from maekit.data.convert.text_lines import lines, offset_of_line, split_cells
from maekit.data.convert.time_units import WALL_CLOCK
from maekit.errors import UserError

_MAX_RATE_HZ = 100_000


def read_first_rows(
    content: bytes, layout: Layout, location: str, options: TableOptions
) -> tuple[Layout, dict[str, Fraction]]:
    """The layout below rows that state when a recording begins and its rate, and what they state.

    Raises:
        UserError: the stated ones are no such rows, or the first two look like such rows and nothing is stated.
    """
    rows = [split_cells(line, layout.delimiter) for _, line in islice(lines(content, layout.first), 3)]
    if not options.first_rows:
        if len(rows) == 3 and _is_moment(rows[0]) and _same_number(rows[1]) is not None and not _is_moment(rows[2]):
            rate = _same_number(rows[1])
            if rate is not None and 0 < rate <= _MAX_RATE_HZ and options.skip == 0 and options.header is None:
                raise UserError(
                    "two first rows that look like a moment and a rate",
                    location=f"{location}:{layout.first + 1}",
                    value=f"{rows[0][0]} and {rows[1][0]}",
                    expected="values, or what they are",
                    hint="State `first_rows: [start, rate_hz]` if they are this; `header: false` if they are values.",
                )
        return layout, {}
    if len(rows) < len(options.first_rows):
        raise UserError(
            "fewer rows than `first_rows` names",
            location=location,
            value=len(rows),
            expected=", ".join(options.first_rows),
        )
    stated: dict[str, Fraction] = {}
    for key, row in zip(options.first_rows, rows, strict=False):
        value = _same_number(row)
        if value is None or value <= 0 or (key == "start" and not _is_moment(row)):
            raise UserError(
                f"a first row that is no {'moment' if key == 'start' else 'rate'}",
                location=f"{location}:{layout.first + 1 + len(stated)}",
                value=", ".join(row)[:60],
                expected="seconds since 1970" if key == "start" else "a rate in hertz",
                hint="Correct `first_rows` in the data spec.",
            )
        stated[key] = value
    count = len(options.first_rows)
    numbers = [number for number, _ in islice(lines(content, layout.first), count)]
    first = numbers[-1]
    return replace(layout, first=first, offset=offset_of_line(content, first)), stated


def _same_number(row: list[str]) -> Fraction | None:
    """The number that all cells of a row are, exactly; None if they are not one."""
    try:
        values = {Fraction(cell) for cell in row if cell}
    except (ValueError, ZeroDivisionError):
        return None
    return values.pop() if len(values) == 1 else None


def _is_moment(row: list[str]) -> bool:
    value = _same_number(row)
    return value is not None and WALL_CLOCK[0] <= value <= WALL_CLOCK[1]
