"""Tables in the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table as RichTable

from maekit.report.content import Table, cell


def render_table(table: Table) -> RichTable:
    """A rich table; text from outside is shown as it is."""
    shown = RichTable(
        title=escape(table.title), caption=escape(table.note) or None, title_justify="left", caption_justify="left"
    )
    for i, column in enumerate(table.columns):
        shown.add_column(escape(column), justify="left" if i == 0 else "right", overflow="fold")
    for r, row in enumerate(table.rows):
        shown.add_row(
            *(f"[bold]{escape(cell(v))}[/]" if (r, c) in table.best else escape(cell(v)) for c, v in enumerate(row))
        )
    return shown
