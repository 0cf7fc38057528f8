"""Copying a recipe to edit it, with the files that it builds on, or a data spec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from maekit.config.data_spec import find_spec, load_spec
from maekit.config.load import load_recipe
from maekit.config.merge import names_file
from maekit.config.shipped import find_recipe
from maekit.config.yaml import is_file, read_yaml
from maekit.errors import UserError
from maekit.files import described_errors, replacing


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe, its comments, and the recipes that it extends or starts from.

    Files in several folders keep their places relative to each other. Recipes that are named as shipped ones are not copied.

    Args:
        name: name or file of a recipe.
        target: a folder, or a `.yaml` file beside which the others are put.

    Returns:
        The copy of the named recipe.

    Raises:
        UserError: the recipe is wrong, or one of the files exists already; nothing is written then.
    """
    source = find_recipe(name).resolve()
    files = sorted(_with_related_files(source, set()))
    top = Path(os.path.commonpath([file.parent for file in files]))
    renamed = target.suffix in (".yaml", ".yml")
    if renamed and source.parent != top:
        raise UserError(
            "this recipe builds on files in other folders",
            location=str(target),
            value=", ".join(str(file.relative_to(top)) for file in files),
            hint="Copy it into a folder, not to a file.",
        )
    folder = target.parent if renamed else target
    copies = {file: folder / file.relative_to(top) for file in files}
    if renamed:
        copies[source] = target
    if len(set(copies.values())) < len(copies):
        raise UserError(
            "a recipe that it builds on has that name", location=str(target), hint="Choose another file name."
        )
    _copy_files(copies)
    return copies[source]


def copy_spec(name: str, target: Path) -> Path:
    """Copy a data spec, with its comments.

    Args:
        name: name or file of a data spec.
        target: a folder, or a `.yaml` file.

    Returns:
        The copy.

    Raises:
        UserError: the spec is wrong, or the file exists already.
    """
    source = find_spec(name)
    load_spec(source)
    copy = target if target.suffix in (".yaml", ".yml") else target / source.name
    _copy_files({source: copy})
    return copy


def _copy_files(copies: Mapping[Path, Path]) -> None:
    """Copy files to new places, each of them whole.

    Raises:
        UserError: one of them is taken; nothing is written then.
    """
    there = {file: copy for file, copy in copies.items() if os.path.lexists(copy)}
    if len(there) < len(copies):  # a killed process may have left some copies, which are right
        there = {file: copy for file, copy in there.items() if not _same_content(file, copy)}
    if there:
        raise UserError(
            "would overwrite what is there",
            location=", ".join(map(str, there.values())),
            hint="Choose another folder or file.",
        )
    for file, copy in copies.items():
        with described_errors(copy), replacing(copy) as partial:
            partial.write_bytes(file.read_bytes())


def _same_content(file: Path, copy: Path) -> bool:
    return copy.is_file() and copy.read_bytes() == file.read_bytes()


def _with_related_files(path: Path, seen: set[Path]) -> set[Path]:
    """A recipe that loads, and the files that it names: the recipe it extends, the one it starts from, a data spec."""
    if path in seen:
        return seen
    seen.add(path)
    load_recipe(path)
    while True:
        data = read_yaml(path).data
        init, section = data.get("init"), data.get("data")
        start = init.get("recipe") if isinstance(init, dict) else None
        spec = section.get("spec") if isinstance(section, dict) else None
        if isinstance(start, str) and is_file(path.parent / start):
            _with_related_files((path.parent / start).resolve(), seen)
        if isinstance(spec, str) and names_file(spec) and is_file(path.parent / spec):
            seen.add((path.parent / spec).resolve())
        parent = data.get("extends")
        if parent is None or not is_file(path.parent / parent):  # a shipped recipe, by its name
            return seen
        path = (path.parent / parent).resolve()
        seen.add(path)
