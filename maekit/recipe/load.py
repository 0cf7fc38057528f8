"""Finding, reading, extending and overriding recipes, and knowing where each value came from."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.errors import UserError, nearest
from maekit.recipe.schema import Recipe
from maekit.recipe.validate import validate
from maekit.recipe.yaml import Keys, parse_value, read_yaml

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
    return {str(p.relative_to(folder).with_suffix("")): p for p in sorted(folder.rglob("*.yaml"))}


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
    if not path.exists() and plain in known:
        return known[plain]
    if not path.exists():
        near = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UserError(
            "no such recipe", place=name, expected="a YAML file, or a name from `maekit recipe list`",
            mend=nearest(plain, known) or nearest(name, near),
        )  # fmt: skip
    return path


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe with all it extends, apply `key.key=value` overrides, and check the whole.

    Raises:
        UserError: everything that is wrong, at once where it can be.
    """
    path = find_recipe(str(name))
    data, origins = _read(path, ())
    for override in overrides:
        _override(data, origins, override)
    recipe = validate(Recipe, data, lambda keys: _locate(origins, keys, str(path)))
    return LoadedRecipe(recipe, path, origins)


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe, its comments and the recipes it extends or starts from, to edit them.

    Raises:
        UserError: one of the files is there already; nothing is written then.
    """
    source = find_recipe(name)
    files = sorted({source, *_relatives(source)})
    folder = target.parent if target.suffix in (".yaml", ".yml") else target
    places = {file: folder / file.name for file in files}
    if target.suffix in (".yaml", ".yml"):
        places[source] = target
    there = [str(place) for place in places.values() if place.exists()]
    if there:
        raise UserError("would overwrite what is there", place=", ".join(there), mend="Choose another folder or file.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, place in places.items():
        shutil.copyfile(file, place)
    return places[source]


def _relatives(path: Path) -> set[Path]:
    """Files a recipe names: what it extends, the recipe it starts from, a data spec beside it."""
    data = read_yaml(path).data
    found: set[Path] = set()
    for relative in (data.get("extends"), (data.get("init") or {}).get("recipe"), (data.get("data") or {}).get("spec")):
        other = path.parent / relative if isinstance(relative, str) else None
        if other and other.is_file():
            found |= {other} | (
                _relatives(other)
                if other.suffix == ".yaml" and relative != (data.get("data") or {}).get("spec")
                else set()
            )
    return found


def _read(path: Path, chain: tuple[Path, ...]) -> tuple[dict[str, Any], dict[Keys, str]]:
    """One file over the file it extends."""
    document = read_yaml(path)
    data, origins = document.data, dict(document.places)
    chain = (*chain, path.resolve())
    parent_name = data.pop("extends", None)
    if parent_name is None:
        return data, origins
    place = origins[("extends",)]
    if not isinstance(parent_name, str) or Path(parent_name).is_absolute():
        raise UserError(
            "extends names one file", place=place, value=parent_name, expected="a path relative to this file"
        )
    parent = path.parent / parent_name
    # A recipe and what it builds on travel together: one folder of recipes, at most one level up.
    if not parent.resolve().is_relative_to(chain[0].parent.parent):
        raise UserError(
            "extends leaves the folder of the recipes", place=place, value=parent_name,
            expected=f"a file below {chain[0].parent.parent}", mend="Copy that recipe here and extend the copy.",
        )  # fmt: skip
    if parent.resolve() in chain:
        circle = " -> ".join(p.name for p in (*chain, parent.resolve()))
        raise UserError(
            "recipes extend each other in a circle", place=place, value=circle, mend="Remove one `extends`."
        )
    if not parent.is_file():
        near = nearest(parent.name, [p.name for p in parent.parent.glob("*.yaml")] if parent.parent.is_dir() else [])
        raise UserError("extends a file that does not exist", place=place, value=parent_name, mend=near)
    base, base_origins = _read(parent, chain)
    return _merge(base, data, base_origins, origins, ()), base_origins


def _merge(
    base: dict[str, Any], over: dict[str, Any], origins: dict[Keys, str], over_origins: dict[Keys, str], keys: Keys
) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced, and so is a choice of another `name`."""
    merged = dict(base)
    for key, value in over.items():
        here = (*keys, key)
        before = merged.get(key)
        if (
            isinstance(before, dict)
            and isinstance(value, dict)
            and before.get("name") == value.get("name", before.get("name"))
        ):
            merged[key] = _merge(before, value, origins, over_origins, here)
            origins[here] = over_origins[here]
            continue
        for stale in [k for k in origins if k[: len(here)] == here]:
            del origins[stale]
        origins |= {k: place for k, place in over_origins.items() if k[: len(here)] == here}
        merged[key] = value
    return merged


def _override(data: dict[str, Any], origins: dict[Keys, str], override: str) -> None:
    place = f"--set {override}"
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise UserError("not a setting", place=place, expected="--set key.key=value")
    keys: Keys = tuple(name.strip().split("."))
    value = parse_value(text, place)
    node = data
    for key in keys[:-1]:
        below = node.get(str(key))
        if isinstance(below, str):  # the short form of a choice
            below = {"name": below}
        if below is None:
            below = {}
        if not isinstance(below, dict):
            raise UserError(
                f"{key} holds no keys", place=place, value=below, expected="a key that stands in the recipe"
            )
        node[str(key)] = below
        node = below
    node[str(keys[-1])] = value
    origins[keys] = place
    for length in range(1, len(keys)):
        origins.setdefault(keys[:length], place)


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
            lines.append(f"{indent}{key}:")
            _write(value, here, origins, lines)
            continue
        text = f"{indent}{key}: {_scalar(value)}"
        if origins is not None:
            text = f"{text:<56}# {_origin(origins, here)}"
        lines.append(text)


def _origin(origins: dict[Keys, str], keys: Keys) -> str:
    if keys in origins:
        return origins[keys]
    # A list or a short form is written as a whole: its own place is that of the key around it.
    parent = origins.get(keys[:-1], "") if keys[-1] == "name" else ""
    return parent or "default"


def _scalar(value: Any) -> str:
    """One value in flow style, words without quotes where they can stand so."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_scalar(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, str) and _WORD.fullmatch(value) and parse_value(value, "") == value:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
