"""Tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from maekit.escaping import visible
from maekit.report.content import Table, cell


def render_table(table: Table) -> RichTable:
    """Convert to a rich table; cells are shown literally: markup and emoji names are not interpreted, control characters are escaped."""
    shown = RichTable(
        title=_text(table.title, "italic"),
        caption=_text(table.note, "dim italic") if table.note else None,
        title_justify="left",
        caption_justify="left",
    )
    for i, column in enumerate(table.columns):
        shown.add_column(_text(column, "bold"), justify="left" if i == 0 else "right", overflow="fold")
    for r, row in enumerate(table.rows):
        shown.add_row(*(_text(value, "bold" if (r, c) in table.best else "") for c, value in enumerate(row)))
    return shown


def _text(value: Any, style: str) -> Text:
    return Text(visible(cell(value)), style=style)
