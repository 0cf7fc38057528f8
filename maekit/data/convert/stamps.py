"""Time stamps as a file has them: numbers in a unit, dates, and pairs of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.cells import BLANK_CELLS
from maekit.data.convert.dates import Zero, parse_dates
from maekit.data.convert.stamp_forms import check_unit
from maekit.data.convert.time_units import SECONDS
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Stream
    from maekit.data.convert.content import FileContent

_DECIMALS = 10**9


@dataclass(frozen=True)
class Times:
    """Time stamps as a file has them.

    Args:
        values: (rows,) whole numbers or float64, NaN where one is missing.
        unit: seconds of one.
        name: of the unit, as in `time_unit`.
        zero: what they count from.
    """

    values: NDArray[Any]
    unit: Fraction
    name: str
    zero: Zero

    def of_rows(self, rows: slice | NDArray[np.intp]) -> Times:
        """The stamps of some rows."""
        return replace(self, values=self.values[rows])


def read_times(
    rule: Stream,
    content: FileContent,
    column: str | int | list[str | int],
    rate_hz: float | None,
    stop: int | None = None,
) -> Times:
    """A column of time stamps, or two of date and time of day.

    Args:
        rule: states `time_unit` or `time_format`.
        content: of the file.
        column: name of the column or key, or the names of two.
        rate_hz: samples in a second, for `time_unit: samples`.
        stop: row before which to stop.

    Raises:
        UserError: no such column, a unit that the file names and the data spec does not, neither numbers nor dates, dates with a unit, or samples without a rate.
    """
    location = f"{content.location}:{column}"
    if isinstance(column, list):
        return _read_pair(rule, content, column, stop)
    values = _cells_of(rule, content, column)[:stop]
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
        if missing.any():
            raise UserError("a time stamp is missing", location=location, value=f"row {int(np.argmax(missing))}")
        _check_no_unit(rule, location, str(values.dtype))
        kind = f"{values.dtype.kind}8[ns]"
        return Times(
            values.astype(kind).astype(np.int64), SECONDS["ns"], "ns", "utc" if values.dtype.kind == "M" else "number"
        )
    if values.dtype.kind in "OSU" and values.size:
        texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in values.tolist()]
        return _dates(rule, content, texts)
    if values.dtype.kind not in "biuf":
        raise UserError(
            "time stamps that are no numbers",
            location=location,
            value=str(values.dtype),
            expected="numbers, or dates as text",
        )
    if rule.time_unit is None:
        check_unit(str(column), content.attributes.get("units", {}), location)
    name = rule.time_unit or "s"
    values = _whole(values)
    if name != "samples" and _is_coarse(values):
        exact = _exact_decimals(content.pick(column)[:stop])
        if exact is not None:
            return Times(exact, SECONDS[name] / _DECIMALS, name, "number")
    if name == "samples":
        if rate_hz is None:
            raise UserError(
                "time stamps in samples, and no rate",
                location=location,
                expected="`rate_hz`: how many of these samples make a second",
            )
        return Times(values, 1 / Fraction(rate_hz), name, "row")
    return Times(values, SECONDS[name], name, "number")


def _cells_of(rule: Stream, content: FileContent, column: str | int) -> NDArray[Any]:
    """A column as text for a `time_format`, otherwise as numbers where it has some."""
    if rule.time_format is not None:
        return content.pick(column).ravel()
    values = content.native(column).ravel()
    if values.dtype.kind == "U" and len(values) and _is_number(str(values[0])):
        return content.numbers(column).ravel()  # with points beside other columns with decimal commas
    return values


def _read_pair(rule: Stream, content: FileContent, columns: list[str | int], stop: int | None) -> Times:
    """Two columns, of date and time of day, or of seconds and a fraction of them."""
    if rule.time_format is None:
        pair = [content.native(name).ravel()[:stop] for name in columns]
        if all(cells.dtype.kind in "iuf" for cells in pair):
            return _seconds_and_fraction(rule, pair, f"{content.location}:{', '.join(map(str, columns))}")
    cells = (content.pick(name).ravel()[:stop] for name in columns)
    return _dates(rule, content, [" ".join(map(str, row)) for row in zip(*cells, strict=True)])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _seconds_and_fraction(rule: Stream, pair: list[NDArray[Any]], location: str) -> Times:
    """Two columns of seconds and of the whole `time_unit`s that follow them, as in ROS and `timeval`.

    Raises:
        UserError: no unit is stated, or they are no such numbers.
    """
    whole = all(np.isfinite(cells).all() and (cells == np.floor(cells)).all() for cells in pair)
    if rule.time_unit not in ("ms", "us", "ns") or not whole:
        raise UserError(
            "two columns of numbers as a time",
            location=location,
            value=f"{pair[0][:1].tolist()} and {pair[1][:1].tolist()}",
            expected="whole seconds and a fraction of them, or a `time_format`",
            hint="State `time_unit` of the second column (ms, us or ns) if the first one holds seconds; "
            '`time_format: "%Y%m%d %H%M%S"` if they are dates and times without separators.',
        )
    length = int(1 / SECONDS[rule.time_unit])
    if pair[1].min() < 0 or pair[1].max() >= length:
        raise UserError(
            "a fraction of a second beyond one",
            location=location,
            value=pair[1].max().item(),
            expected=f"0 to {length - 1} {rule.time_unit}",
            hint="Is `time_unit` that of the second column?",
        )
    values = pair[0].astype(np.int64) * length + pair[1].astype(np.int64)
    return Times(values, SECONDS[rule.time_unit], rule.time_unit, "number")


def _dates(rule: Stream, content: FileContent, texts: list[str]) -> Times:
    _check_no_unit(rule, content.location, texts[0])
    dates = parse_dates(texts, rule.time_format, content.locate, rule.time_zone)
    return Times(dates.nanoseconds, SECONDS["ns"], "ns", dates.zero)


def rows_with_times(content: FileContent, column: str | int | list[str | int]) -> int:
    """Number of rows up to the last one that has a time stamp: columns of several rates are filled up with blanks."""
    names = column if isinstance(column, list) else [column]
    columns = [content.native(name).ravel() for name in names]
    there = [
        ~np.isnan(cells)
        if cells.dtype.kind == "f"
        else ~np.isin(cells, BLANK_CELLS)
        if cells.dtype.kind == "U"
        else np.ones(len(cells), dtype=np.bool_)
        for cells in columns
    ]
    timed = np.logical_or.reduce(there)
    return len(timed) - int(np.argmax(timed[::-1])) if timed.any() else 0


def _check_no_unit(rule: Stream, location: str, value: str) -> None:
    if rule.time_unit is not None:
        raise UserError(
            "dates with a `time_unit`",
            location=location,
            value=value,
            expected=f"numbers in {rule.time_unit}",
            hint="Leave `time_unit` out: it is for numbers.",
        )


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int64, others as float64."""
    if values.dtype.kind == "f" or (values.dtype == np.uint64 and values.size and values.max() >= 2**63):
        return values.astype(np.float64, copy=False)
    return values.astype(np.int64)


def _is_coarse(values: NDArray[Any]) -> bool:
    """Whether the steps between numbers are so small that float64 rounds them by more than a thousandth."""
    if values.dtype.kind != "f" or len(values) < 2 or not np.isfinite(values[0]):
        return False
    step = float(np.median(np.abs(np.diff(values[:1000]))))
    return float(np.spacing(abs(values[0]))) > 1e-3 * step


def _exact_decimals(cells: NDArray[Any]) -> NDArray[np.int64] | None:
    """Decimals of text as whole numbers of billionths; None if some have another form."""
    if cells.dtype.kind != "U":
        return None
    parts = [cell.replace(",", ".").partition(".") for cell in cells.tolist()]
    if not all(
        whole.isdigit() and int(whole) < 2**33 and len(rest) <= 9 and (not rest or rest.isdigit())
        for whole, _, rest in parts
    ):
        return None
    return np.array([int(whole) * _DECIMALS + int(rest.ljust(9, "0")) for whole, _, rest in parts], dtype=np.int64)
