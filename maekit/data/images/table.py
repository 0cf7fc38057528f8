"""Pictures whose classes stand in a table, by the names of their files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from maekit.data.convert.join import join_table
from maekit.data.images.listing import SIDES, SUFFIXES, Listing, is_leftover
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.config.conversion import LabelTable

_MAX_NAMED = 3


def list_by_table(rule: LabelTable, source: Path, folder: Path) -> Listing:
    """List the pictures below a folder, in folders of any depth, with the classes of a table.

    Args:
        rule: of the table; its attributes are `label` and, perhaps, `side`.
        source: folder of the table.
        folder: of the pictures. Without `side`, its folders that are named like sides are those.

    Raises:
        UserError: see `join_table`; no picture, or pictures without a label.
    """
    names, passed_over = _pictures(folder)
    if not names:
        raise UserError("no picture", location=str(folder), expected="files ending in " + ", ".join(SUFFIXES))
    rows = join_table(rule, source, {name: [name] for name in names}, lambda _line: None)
    labels = [_text(rows[name]["label"]) for name in names]
    if lacking := [name for name, label in zip(names, labels, strict=True) if not label]:
        raise UserError(
            f"{len(lacking)} of {len(names)} pictures have no label",
            location=f"{source}/{rule.file}",
            value=", ".join(lacking[:_MAX_NAMED]),
            expected="a row for each picture",
            hint="Add them to the table, or let `folder` name the folder of those that are in it.",
        )
    classes = sorted(set(labels), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    sides = [_text(rows[name]["side"]).lower() if "side" in rule.attributes else _side(name) for name in names]
    order = sorted(range(len(names)), key=lambda i: (sides[i], names[i]))
    return Listing(
        np.array([os.fsencode(names[i]) for i in order]),
        np.array([sides[i] or "all" for i in order]),
        np.array([classes.index(labels[i]) for i in order], dtype=np.int64),
        tuple(classes),
        passed_over,
    )


def _pictures(folder: Path) -> tuple[list[str], Counter[str]]:
    """Paths of the pictures below a folder, sorted, and other files counted by their ending."""
    names: list[str] = []
    passed_over: Counter[str] = Counter()
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        inside = os.path.relpath(path, folder)
        for name in files:
            if name.lower().endswith(SUFFIXES) and not is_leftover(name):
                names.append(name if inside == "." else f"{inside}/{name}".replace(os.sep, "/"))
            elif not is_leftover(name):
                passed_over[PurePosixPath(name).suffix.lower() or name] += 1
    return sorted(names), passed_over


def _side(name: str) -> str:
    first = name.split("/")[0].lower()
    return first if first in SIDES and "/" in name else ""


def _text(value: object) -> str:
    return "" if value != value else str(value).strip()  # NaN: no row
