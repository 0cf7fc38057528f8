"""Data classes that hold the content of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from maekit.report import svg


@dataclass(frozen=True)
class Table:
    """A table; the cells at the (row, column) positions in `best` are emphasised."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Picture:
    """One or more SVG panels, side by side where the page is wide enough; `alt` is the text for screen readers."""

    panels: tuple[str, ...]
    alt: str
    caption: str = ""

    @property
    def svg(self) -> str:
        """All panels in one row, as one SVG document."""
        return svg.in_a_row(self.panels)


@dataclass(frozen=True)
class Page:
    """The content of one report page."""

    title: str
    verdict: str
    good: bool | None
    curves: list[Picture] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    recipe: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    pictures_title: str = "Reconstructions"


def cell(value: Any) -> str:
    """Format a table cell: numbers with three or four significant digits, NaN as a dash, everything else with `str`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if math.isnan(number):
        return "-"
    size = abs(number)
    if 0 < size < 0.01:
        return f"{number:.2g}"
    return f"{number:.3f}" if size < 10 else f"{number:.1f}" if size < 1000 else f"{number:,.0f}"
