"""Text tables (CSV and its relatives): the block of rows is found (`table_layout`) and parsed with pandas, in pieces."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.cells import BLANK_CELLS, has_thousands, is_number
from maekit.data.convert.content import FileContent, NoRowsError
from maekit.data.convert.first_rows import read_first_rows
from maekit.data.convert.table_layout import TableOptions, find_layout
from maekit.data.convert.table_rows import TEXT_BETWEEN, end_of_text, sound_rows
from maekit.data.convert.text_lines import count_cells, split_cells, to_utf8
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.convert.table_layout import Layout

_ROWS_AT_ONCE = 1 << 15
_PLAIN_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)[.]?[0-9]*|[.][0-9]+|[0-9]+[eE][+-][0-9]+|[0-9]+[.][0-9]*[eE][+-]?[0-9]+)"
)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class TableContent(FileContent):
    """A text table; its columns are text or numbers, as they are asked for."""

    def rows(self, name: str | int) -> NDArray[Any]:
        """A column as float64, NaN for blank cells.

        Raises:
            UserError: no such column, or a cell that is not a number, with its line.
        """
        return self._column(name).numbers(str(name))

    def numbers_or_text(self, name: str) -> NDArray[Any]:
        """A column as numbers if all its cells are plain numbers; `007` and `1e3` are names and stay text."""
        columns = self._column(name)
        if columns.native(str(name)).dtype.kind in "iuf" and columns.is_plain(str(name)):
            return columns.numbers(str(name))
        return columns[str(name)]

    def native(self, name: str | int) -> NDArray[Any]:
        """A column as whole numbers or float64 if all its cells are numbers or blank, otherwise as text."""
        return self._column(name).native(str(name))

    def locate(self, row: int) -> str:
        """File and line of a row."""
        assert isinstance(self.arrays, _Columns)
        return f"{self.location}:{self.arrays.line(row)[0]}"

    def _column(self, name: str | int) -> _Columns:
        """The columns, after a look whether there is one of this name."""
        assert isinstance(self.arrays, _Columns)
        if str(name) not in self.arrays:
            self.pick(name)
        return self.arrays


def read_table(content: bytes, location: str, options: TableOptions) -> TableContent:
    """Read a text table.

    Raises:
        UserError: an unknown encoding, no rows, torn rows or rows of different lengths, two columns of one name, or a first row that
            could be names or values.
    """
    if options.delimiter is not None and not options.delimiter.isascii():
        raise UserError(
            "a delimiter beyond ASCII", location=location, value=options.delimiter, expected="one such as ; or |"
        )
    content = to_utf8(content, location, options.encoding)
    if not end_of_text(content, b"\0 \n"):
        raise NoRowsError("an empty file", location=location, expected="rows of numbers")
    layout = find_layout(content, location, options)
    named = [name for name in layout.names if name]
    if duplicate := next((name for i, name in enumerate(named) if name in named[:i]), None):
        raise UserError(
            "two columns of one name",
            location=location,
            value=duplicate,
            hint=f"Rename one of them in the file, or leave the names out with `skip: {layout.first}` and number the columns from 0.",
        )
    layout, stated = read_first_rows(content, layout, location, options)
    content, rows, findings = sound_rows(content, layout, location, options)
    attributes: dict[str, Any] = {
        "resolution_bits": layout.head.resolution_bits,
        "findings": findings,
        "units": layout.units,
    }
    return TableContent(
        location,
        _Columns(content, rows, layout, location),
        layout.head.rate_hz if "rate_hz" not in stated else float(stated["rate_hz"]),
        stated.get("start"),
        attributes=attributes,
    )


class _Columns(Mapping[str, "NDArray[Any]"]):
    """The named columns of a table: as text by `[name]`, as numbers by `numbers(name)`.

    Columns that only comments name have numbers too.
    """

    def __init__(self, content: bytes, rows: int, layout: Layout, location: str) -> None:
        self._content, self._rows, self._layout, self._location = content, rows, layout, location
        self._positions = {name: i for i, name in enumerate(layout.names) if name}
        self._numbers = {str(i): i for i in range(len(layout.names))} if layout.head.names else {}
        self._parsed: list[NDArray[Any] | None] | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        cells = self._cells(name)
        return np.char.strip(np.array(cells.tolist(), dtype=np.str_))

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, name: object) -> bool:
        return name in self._positions or name in self._numbers

    def native(self, name: str) -> NDArray[Any]:
        """A column as numbers where pandas finds only such, otherwise as text."""
        if self._parsed is None:
            self._parsed = self._parse_numbers()
        column = self._parsed[self._position(name)]
        return self[name] if column is None else column

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
        wrong = next((i for i, cell in enumerate(cells) if not is_number(cell, decimal)), None)
        if wrong is None:  # integers beyond 64 bits, digits of other scripts
            point = (lambda cell: cell.replace(",", ".")) if decimal == "," else str
            return np.array([np.nan if cell.strip() in BLANK_CELLS else float(point(cell)) for cell in cells])
        number, line = self.line(wrong)
        row = split_cells(line, self._layout.delimiter)
        cell = row[self._position(name)]
        raise UserError(
            "a cell that is no number",
            location=f"{self._location}:{number}",
            value=cell,
            expected=f"a number or nothing in column {name!r}",
            hint=_hint_of_cell(cell, row, decimal),
        )

    def line(self, row: int) -> tuple[int, str]:
        """Number (from 1) and text of the line of a row."""
        content, before, number = self._content, 0, self._layout.first
        for block in count_cells(content, self._layout.delimiter, self._layout.offset):
            rows = np.flatnonzero(block.cells)
            if row < before + len(rows):
                at = rows[row - before]
                text = content[block.starts[at] : block.stops[at]].decode(errors="replace")
                return number + int(at) + 1, text
            before, number = before + len(rows), number + len(block.cells)
        raise IndexError(row)

    def is_plain(self, name: str) -> bool:
        """Whether all cells are blank or numbers that could not be names, unlike `007` and `1e3`."""
        cells = (cell.strip() for cell in self._cells(name).unique())
        if self._layout.decimal == ",":
            cells = (cell.replace(",", ".") for cell in cells)
        return all(cell in BLANK_CELLS or _PLAIN_NUMBER.fullmatch(cell) for cell in cells)

    def _position(self, name: str) -> int:
        return self._positions[name] if name in self._positions else self._numbers[name]

    def _cells(self, name: str) -> Any:
        """A pandas series of the cells of a column, as text."""
        if not self._rows:
            import pandas

            return pandas.Series([], dtype=str)
        (table,) = self._pieces(usecols=[self._position(name)], dtype=str, na_filter=False)
        return table.iloc[:, 0]

    def _parse_numbers(self) -> list[NDArray[Any] | None]:
        """All columns as numbers; None for columns of text.

        Raises:
            UserError: other rows than lines, from quotes that span several.
        """
        if not self._rows:
            return [np.empty(0) for _ in self._layout.names]
        columns: list[NDArray[Any] | None] = [np.empty(self._rows, dtype=np.int32) for _ in self._layout.names]
        options: dict[str, Any] = {"na_values": list(BLANK_CELLS), "low_memory": False, "chunksize": _ROWS_AT_ONCE}
        start = 0
        for part in self._pieces(**options, **_exact()):
            stop = start + len(part)
            if stop > self._rows:
                start = stop
                break
            for i, column in enumerate(columns):
                values = np.asarray(part.iloc[:, i])
                columns[i] = (
                    None if column is None or values.dtype.kind not in "iuf" else _insert(column, start, values)
                )
            start = stop
        if start != self._rows:
            raise self._not_lines(f"{start} rows")
        return columns

    def _pieces(self, **options: Any) -> Iterator[Any]:
        """Data frames of some rows each with `chunksize`, otherwise one.

        Raises:
            UserError: quotes that do not end.
        """
        from pandas import DataFrame
        from pandas.errors import ParserError

        try:
            table = self._read(**options)
            yield from [table] if isinstance(table, DataFrame) else table
        except ParserError as error:
            raise self._not_lines(str(error).splitlines()[0]) from error

    def _not_lines(self, value: str) -> UserError:
        return UserError(
            "rows that are not lines",
            location=self._location,
            value=value,
            expected=f"{self._rows} rows, one a line",
            hint="Do quotes span several lines? Write each row in one.",
        )

    def _read(self, **options: Any) -> Any:
        import pandas

        layout, stream = self._layout, io.BytesIO(self._content)
        stream.seek(layout.offset)
        return pandas.read_csv(
            stream,
            sep=layout.delimiter,
            decimal=layout.decimal,
            header=None,
            names=range(len(layout.names)),
            index_col=False,
            skipinitialspace=True,
            keep_default_na=False,
            encoding_errors="replace",
            engine="c",
            **options,
        )


def _hint_of_cell(cell: str, row: list[str], decimal: str) -> str:
    """What is to be done about a cell that is no number."""
    hints = []
    thousands = has_thousands(cell, decimal)
    if decimal == "." and _DECIMAL_COMMA.fullmatch(cell) and not (thousands and any("." in other for other in row)):
        hints.append('A decimal comma? State `decimal: ","`.')
    if thousands:
        hints.append("Marks between thousands? Write the numbers without them.")
    if not any(is_number(other, decimal) for other in row if other):
        hints.append(TEXT_BETWEEN)
    return " ".join(hints) or "A unit or a date? Change the file or name another column."


def _insert(column: NDArray[Any], start: int, values: NDArray[Any]) -> NDArray[Any]:
    """A column with some more rows, in 32 bits as long as they hold all of its numbers."""
    if values.dtype == np.int64 and values.size and values.min() >= -(2**31) and values.max() < 2**31:
        values = values.astype(np.int32)
    dtype = np.result_type(column.dtype, values.dtype) if start else values.dtype
    if dtype != column.dtype:
        wider = np.empty(len(column), dtype=dtype)
        wider[:start] = column[:start]
        column = wider
    column[start : start + len(values)] = values
    return column


def _exact() -> dict[str, str]:
    """The option that makes pandas parse decimals exactly, which newer versions always do."""
    import pandas

    major, minor = pandas.__version__.split(".")[:2]
    return {} if (int(major), int(minor)) >= (3, 1) else {"float_precision": "round_trip"}
