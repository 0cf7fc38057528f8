"""What is in a folder: files by ending and layout, with one of each layout shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from maekit.data.convert import readers
from maekit.data.convert.table_layout import TableOptions
from maekit.data.inspect import escape_text, inspect
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

EXAMINED = 20
"""Files of each ending that are read, evenly spread."""
LARGEST = 64 << 20
"""Bytes up to which a file is read to compare its layout."""


def inspect_folder(folder: Path) -> Iterator[str]:
    """Lines that describe a folder. Hidden files are left out.

    Raises:
        UserError: there is no file.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            name = path.name.lower()
            ending = "".join(path.suffixes[-2:]).lower() if name.endswith(".gz") else path.suffix.lower()
            files.setdefault(ending, []).append(path)
    if not files:
        raise UserError("an empty folder", location=str(folder), expected="files")
    for ending, paths in sorted(files.items(), key=lambda item: -len(item[1])):
        size = sum(path.stat().st_size for path in paths) / 1e6
        yield f"{escape_text(ending) or 'no ending'}: {len(paths)} files, {size:.1f} MB"
        layouts: dict[str, list[Path]] = {}
        step = -(-len(paths) // EXAMINED)
        for path in paths[::step]:
            layouts.setdefault(_layout(path), []).append(path)
        if len(layouts) > 1:
            yield f"  {len(layouts)} layouts among {sum(map(len, layouts.values()))} that were read"
        for layout, alike in layouts.items():
            yield f"  {len(alike)} x {escape_text(layout)}, such as"
            try:
                yield from (f"    {line}" for line in inspect(alike[0]))
            except UserError as error:
                yield f"    not read: {escape_text(error)}"


def _layout(path: Path) -> str:
    """Names of the arrays, numbers of axes and types, which files of one kind have in common."""
    if path.stat().st_size > LARGEST:
        return "files too large to compare"
    try:
        content = readers.read(path, None, TableOptions(torn="any"))
        parts = []
        for name in content.arrays:
            values = content.numbers_or_text(name)
            parts.append(
                f"{name} {'text' if values.dtype.kind in 'US' else values.dtype} of {values.ndim} axes {values.shape[1:] or ''}".rstrip()
            )
    except UserError as error:
        return error.problem
    rate = f", {content.rate_hz:g} Hz" if content.rate_hz else ""
    return ("; ".join(parts) or "a document") + rate
