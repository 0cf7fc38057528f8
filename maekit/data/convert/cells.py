"""What a cell of a text table is: nothing, a number, a moment, a unit."""

from __future__ import annotations

import re

BLANK_CELLS = (
    "",
    *("NA", "N/A", "n/a", "#N/A", "#NA", "#NV", "<NA>", "NULL", "Null", "null", "None", "none", "NaT"),
    *("nan", "NaN", "NAN", "-nan", "-NaN", "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND", "#DIV/0!"),
    *("-", "--", "---", ".", "?"),
)
"""Cells that count as missing, as Python, R, Excel, SAS, C runtimes and watches write them."""

_MOMENT = re.compile(
    r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{1,4}(?!\d).*|\d{8}T\d{4,6}.*|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}\b.*"
)
_UNITS = """
s sec secs seconds ms msec milliseconds us µs μs usec microseconds ns nanoseconds min minutes h hours sample samples hh:mm:ss
hh:mm:ss.mmm hz khz v mv uv µv μv nv a ma ua µa g mg m/s^2 m/s2 m/(s^2) m/s² deg degrees deg/s dps rad rad/s °/s °c degc celsius
c f k pa kpa hpa mbar bar mmhg cmh2o % pct bpm brpm ohm ohms kohm kohms mohm ω kω ut µt gauss n nm kg ml l lpm l/min l/s db px m
cm mm count counts lsb adu au a.u. arb raw cal no_units unitless none
"""
_TYPES = "double float float32 float64 int int32 int64 integer string datetime duration numeric"
_THOUSANDS = {mark: re.compile(rf"[-+]?[1-9]\d{{0,2}}(?:[{mark}]\d{{3}})+(?:[.,]\d*)?") for mark in (".", ",")}
"""Numbers by the mark between their thousands."""
_AMOUNT = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*[^\d\s]{1,8}")


def is_value(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, a date, a time of day, or blank."""
    return is_number(cell, decimal) or _MOMENT.fullmatch(cell.strip("'\"[]")) is not None


def is_number(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, or blank. With decimal commas, 1.234 is none: it could be a thousand or a fraction."""
    cell = cell.strip()
    if cell in BLANK_CELLS:
        return True
    if "_" in cell or (decimal == "," and _THOUSANDS["."].fullmatch(cell)):
        return False
    try:
        float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return False
    return True


def has_thousands(cell: str, decimal: str) -> bool:
    """Whether a cell is a number with marks between thousands, such as 1,234.5."""
    return _THOUSANDS["." if decimal == "," else ","].fullmatch(cell.strip()) is not None


def is_unit(cell: str) -> bool:
    """Whether a cell is the name of a unit, also in brackets, of a type, or an amount with a unit, such as 10.000 V."""
    return is_type(cell) or plain_unit(cell) in _UNITS.split() or _AMOUNT.fullmatch(cell) is not None


def is_type(cell: str) -> bool:
    """Whether a cell is the name of a type of numbers or text."""
    return plain_unit(cell) in _TYPES.split()


def plain_unit(cell: str) -> str:
    """A unit in lower case, without brackets and quotes."""
    return cell.strip("'\"[]() ").lower()
