"""One self-contained page: no script, nothing fetched, everything from outside escaped."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from maekit.report.content import Content, cell


def write_report(content: Content, path: Path) -> Path:
    """Write the page in one step.

    Returns:
        `path`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("maekit.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["cell"] = cell
    text = environment.get_template("report.html.jinja").render(content=content)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".html")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(unfinished).chmod(0o644)
    return Path(unfinished).replace(path)
