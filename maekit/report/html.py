"""Rendering of one self-contained HTML page: no scripts, no external resources, all content escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maekit.escaping import visible
from maekit.files import replacing
from maekit.report.content import Page, cell


def write_report(content: Page, path: Path) -> Path:
    """Write the page atomically: readers see either the old page or the complete new one.

    Returns:
        `path`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("maekit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    text = environment.get_template("report.html.jinja").render(content=content)
    with replacing(path) as partial:
        # File names may hold bytes that are not valid UTF-8.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _visible(value: Any) -> Any:
    """Text of the page without characters that hide or reorder it; pictures, which are safe markup, stay."""
    return visible(value, keep="\n\t") if type(value) is str else value
