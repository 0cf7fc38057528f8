"""One self-contained page: no script, nothing fetched, everything from outside escaped."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from maekit.report.content import Page, cell


def write_report(content: Page, path: Path) -> Path:
    """Write the page in one step: whoever reads `path` finds the old page or the whole new one.

    Returns:
        `path`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("maekit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    text = environment.get_template("report.html.jinja").render(content=content)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".unfinished")
    unfinished = Path(name)
    try:
        # Names of files may hold bytes that are no text in any encoding.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        unfinished.chmod(0o644)
        return unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
