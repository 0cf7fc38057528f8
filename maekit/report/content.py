"""Plain data that a report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of cells; `best` marks (row, column) cells to emphasise."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Picture:
    """An SVG figure with a caption, and `alt` for those who cannot see it; a `wide` one scrolls on a phone."""

    svg: str
    alt: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Content:
    """Everything on the page, in its order."""

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
    """A number with as many digits as mean something; everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != value:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
