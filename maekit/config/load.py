"""Finding, reading, extending and overriding recipes, and knowing where each value came from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.config.merge import merge, names_file, override, rebase, spell_out
from maekit.config.schema import NAMED, Recipe
from maekit.config.validate import validate
from maekit.config.yaml import Keys, is_file, is_folder, parse_value, read_yaml
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./*-]*")


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe, its file, and the origin of each value: `file:line:column` or the `--set` that gave it."""

    recipe: Recipe
    path: Path
    origins: dict[Keys, str]

    def locate(self, *keys: str | int) -> str:
        """Where a value came from; for a default, where what surrounds it stands."""
        return _locate(self.origins, keys, str(self.path))

    def yaml(self, *, origins: bool = False) -> str:
        """The resolved recipe, defaults written out; it loads as a recipe. With `origins`, a comment on each line."""
        data = self.recipe.model_dump(mode="json", exclude_none=True)
        whole = self.recipe.model_dump(mode="json")
        for section, *inner in NAMED:  # an option set to null differs from one left out
            if inner:
                data[section][inner[0]] = whole[section][inner[0]]
            else:
                data[section] = whole[section]
        data["auxiliary"] = whole["auxiliary"]
        if not data["auxiliary"]:
            del data["auxiliary"]
        lines: list[str] = []
        _write(data, (), self.origins if origins else None, lines)
        return "\n".join(lines) + "\n"


def shipped_folder() -> Path:
    """The folder of the recipes that come with maekit."""
    import maekit.recipes

    return Path(maekit.recipes.__file__).parent


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with maekit, by name."""
    folder = shipped_folder()
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.yaml"))}


def list_recipes(under: str = "") -> dict[str, Path | int]:
    """Shipped recipes to show: those one folder below `under`, and how many stand in each folder deeper down.

    Raises:
        UserError: no folder or recipe of this name.
    """
    parts = tuple(part for part in under.split("/") if part)
    known = {tuple(name.split("/")): path for name, path in shipped_recipes().items()}
    inside = {name: path for name, path in known.items() if name[: len(parts)] == parts}
    if not inside:
        folders = {"/".join(name[:depth]) for name in known for depth in range(1, len(name))}
        raise UserError(
            "no recipes under this name",
            location="recipe list",
            value=under,
            expected="one of " + ", ".join(sorted(folders)),
            hint=nearest(under, folders),
        )
    found: dict[str, Path | int] = {}
    depth = len(parts) + (1 if parts else 2)
    for name, path in inside.items():
        if len(name) <= depth:
            found["/".join(name)] = path
        else:
            folder = "/".join(name[:depth])
            found[folder] = int(str(found.get(folder, 0))) + 1
    return found


def header(path: Path) -> str:
    """The comment at the top of a recipe: what it is, command, hardware and result."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


def find_recipe(name: str) -> Path:
    """A recipe file by its path, or by the name of one that comes with maekit.

    Raises:
        UserError: neither exists.
    """
    path = Path(name)
    known = shipped_recipes()
    plain = name.removesuffix(".yaml")
    there = is_file(path) or is_folder(path)
    if not is_file(path) and plain in known:
        return known[plain]
    if not there:
        near = [str(p) for p in path.parent.glob("*.yaml")] if is_folder(path.parent) else []
        raise UserError(
            "no such recipe",
            location=name,
            expected="a YAML file, or a name from `maekit recipe list`",
            hint=nearest(plain, known) or nearest(name, near),
        )
    return path


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe with all it extends, apply `key.key=value` overrides, and check the whole.

    Raises:
        UserError: everything that is wrong, at once where it can be.
    """
    path = find_recipe(str(name))
    data, origins = _read(path, ())
    for setting in overrides:
        override(data, origins, setting)
    recipe = validate(Recipe, data, lambda keys: _locate(origins, keys, str(path)))
    return LoadedRecipe(recipe, path, origins)


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe, its comments and the recipes it extends or starts from, to edit them.

    Files in several folders keep their places relative to each other.

    Args:
        name: of a recipe, or its file.
        target: a folder; or a `.yaml` file, beside which the others are put.

    Returns:
        The copy of the named recipe.

    Raises:
        UserError: the recipe is wrong, or one of the files is there already; nothing is written then.
    """
    source = find_recipe(name).resolve()
    files = sorted(_with_relatives(source, set()))
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
    places = {file: folder / file.relative_to(top) for file in files}
    if renamed:
        places[source] = target
    if len(set(places.values())) < len(places):
        raise UserError(
            "a recipe that it builds on has that name", location=str(target), hint="Choose another file name."
        )
    there = [str(location) for location in places.values() if os.path.lexists(location)]
    if there:
        raise UserError(
            "would overwrite what is there", location=", ".join(there), hint="Choose another folder or file."
        )
    try:
        for file, location in places.items():
            location.parent.mkdir(parents=True, exist_ok=True)
            with location.open("xb") as written:
                written.write(file.read_bytes())
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", location=str(error.filename or folder)) from error
    return places[source]


def _with_relatives(path: Path, seen: set[Path]) -> set[Path]:
    """A recipe that loads, and the files it names: what it extends, the recipe it starts from, a data spec beside it."""
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
            _with_relatives((path.parent / start).resolve(), seen)
        if isinstance(spec, str) and names_file(spec) and is_file(path.parent / spec):
            seen.add((path.parent / spec).resolve())
        if data.get("extends") is None:
            return seen
        path = (path.parent / data["extends"]).resolve()
        seen.add(path)


def _read(path: Path, chain: tuple[Path, ...]) -> tuple[dict[str, Any], dict[Keys, str]]:
    """One file over the file it extends."""
    document = read_yaml(path)
    data, origins = document.data, dict(document.places)
    chain = (*chain, path.resolve())
    parent_name = data.pop("extends", None)
    spell_out(data, origins)
    if parent_name is None:
        return data, origins
    location = origins[("extends",)]
    if not isinstance(parent_name, str) or Path(parent_name).is_absolute():
        raise UserError(
            "extends names one file", location=location, value=parent_name, expected="a path relative to this file"
        )
    parent = path.parent / parent_name
    if not is_file(parent):
        near = nearest(parent.name, [p.name for p in parent.parent.glob("*.yaml")] if is_folder(parent.parent) else [])
        what = "a folder" if is_folder(parent) else "a file that does not exist"
        # A file outside is refused before anything is said about it.
        if is_folder(parent) or _inside(parent, chain[0]):
            raise UserError(f"extends {what}", location=location, value=parent_name, hint=near)
    if not _inside(parent, chain[0]):
        raise UserError(
            "extends leaves the folder of the recipes",
            location=location,
            value=parent_name,
            expected=f"a file below {chain[0].parent.parent}",
            hint="Copy that recipe here and extend the copy.",
        )
    if parent.resolve() in chain:
        circle = " -> ".join(p.name for p in (*chain, parent.resolve()))
        raise UserError(
            "recipes extend each other in a circle", location=location, value=circle, hint="Remove one `extends`."
        )
    base, base_origins = _read(parent, chain)
    if base.pop("reference", None) is not None:  # of that recipe, and not of one that changes it
        base_origins = {keys: location for keys, location in base_origins.items() if keys[:1] != ("reference",)}
    rebase(base, parent.parent, path.parent)
    return merge(base, data, base_origins, origins), base_origins


def _inside(parent: Path, child: Path) -> bool:
    """A recipe and what it builds on travel together: one folder of recipes, at most one level up."""
    try:
        return parent.resolve().is_relative_to(child.parent.parent)
    except (OSError, ValueError):
        return True  # no file can have this path; that it does not exist says more


def _locate(origins: dict[Keys, str], keys: Keys, otherwise: str) -> str:
    for length in range(len(keys), 0, -1):
        if keys[:length] in origins:
            return origins[keys[:length]]
    return otherwise


def _write(data: dict[str, Any], keys: Keys, origins: dict[Keys, str] | None, lines: list[str]) -> None:
    indent = "  " * len(keys)
    for key, value in data.items():
        here = (*keys, key)
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{_scalar(key)}:")
            _write(value, here, origins, lines)
            continue
        text = f"{indent}{_scalar(key)}: {_scalar(value)}"
        if origins is not None:
            text = f"{text:<55} # {_printable(origins.get(here, 'default'))}"
        lines.append(text)


def _scalar(value: Any) -> str:
    """One value in flow style, words without quotes where they can stand so."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, str) and _WORD.fullmatch(value) and _reads_back(value):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _reads_back(word: str) -> bool:
    try:
        return bool(parse_value(word, "") == word)
    except UserError:  # `nan`: a word only in quotes
        return False


def _printable(text: str) -> str:
    """Without characters that would end a line or a comment."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
