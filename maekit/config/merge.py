"""Laying one recipe over another, and `--set` over both, without losing where each value came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.config.schema import EXCLUSIVE, NAMED, is_choice
from maekit.config.yaml import parse_value
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.yaml import Keys

Origins = dict["Keys", str]
SET = "--set "


def spell_out(data: dict[str, Any], origins: Origins) -> None:
    """The short form of a choice, `masking: span`, as `{name: span}`: then both forms merge alike."""
    auxiliary = data.get("auxiliary")
    others = [("auxiliary", name) for name in auxiliary] if isinstance(auxiliary, dict) else []
    for keys in (*NAMED, *others):
        holder: Any = data
        for key in keys[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(value := holder.get(keys[-1]), str):
            holder[keys[-1]] = {"name": value}
            origins[*keys, "name"] = origins[keys]


def rebase(data: dict[str, Any], parent: Path, child: Path) -> None:
    """Files that a recipe names beside itself, as the recipe in another folder that extends it must name them."""
    if parent.resolve() == child.resolve():
        return
    for section, key in (("data", "spec"), ("init", "recipe")):
        holder = data.get(section)
        value = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(value, str) and names_file(value) and not Path(value).is_absolute():
            holder[key] = Path(os.path.relpath(parent.resolve() / value, child.resolve())).as_posix()


def names_file(text: str) -> bool:
    """Whether this is the path of a file rather than the name of something that comes with maekit."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def merge(
    base: dict[str, Any], over: dict[str, Any], origins: Origins, over_origins: Origins, keys: Keys = ()
) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced, and so are another `name` and another kind of split.

    `origins` are those of `base` and become those of the result.
    """
    merged = dict(base)
    for key, value in over.items():
        here = (*keys, key)
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and not _replaces(here, before, value):
            merged[key] = merge(before, value, origins, over_origins, here)
            origins[here] = over_origins[here]
            continue
        _forget(origins, here)
        origins |= {k: location for k, location in over_origins.items() if k[: len(here)] == here}
        merged[key] = value
    return merged


def override(data: dict[str, Any], origins: Origins, setting: str) -> None:
    """Apply one `key.key=value` to `data` and `origins`.

    Raises:
        UserError: not of that form, no YAML value, or a key below something that holds none.
    """
    location = SET + setting
    name, equals, text = setting.partition("=")
    keys: tuple[str, ...] = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise UserError("not a setting", location=location, expected="--set key.key=value")
    if keys[0] == "extends":
        raise UserError(
            "extends stands in a file", location=location, hint="Name the recipe itself, or write one that extends it."
        )
    value = parse_value(text, location)
    node = data
    for depth, key in enumerate(keys[:-1], start=1):
        below = node.get(key)
        if below is None:
            below = {}
        if not isinstance(below, dict):
            raise UserError(
                f"{'.'.join(keys[:depth])} holds no keys",
                location=location,
                value=below,
                hint=f"Give the whole of it: `--set {'.'.join(keys[:depth])}={{{keys[depth]}: ..., ...}}`.",
            )
        if depth == len(keys) - 1:
            _drop_what_the_new_key_replaces(below, origins, keys, value)
        node[key] = below
        node = below
    _forget(origins, keys)
    node[keys[-1]] = value
    for length in range(1, len(keys)):
        origins.setdefault(keys[:length], location)
    _note(origins, keys, value, location)
    spell_out(data, origins)


def _drop_what_the_new_key_replaces(node: dict[str, Any], origins: Origins, keys: tuple[str, ...], value: Any) -> None:
    """As in `merge`; but what the same command line has set stays, in whichever order it did."""
    above = keys[:-1]
    stale: set[str] = set()
    if is_choice(above) and keys[-1] == "name" and node.get("name") != value:
        stale = set(node) - {"name"}
    for one, other in _sides(above):
        if keys[-1] in one and set(node) & other:
            stale = set(node) - one
    for key in stale:
        if not origins.get((*above, key), "").startswith(SET):
            del node[key]
            _forget(origins, (*above, key))


def _replaces(keys: Keys, before: dict[str, Any], value: dict[str, Any]) -> bool:
    if before.get("name") != value.get("name", before.get("name")):
        return True
    return any(one & set(value) and other & set(before) for one, other in _sides(keys))


def _sides(keys: Keys) -> list[tuple[set[str], set[str]]]:
    one, other = EXCLUSIVE.get(keys, (set(), set()))
    return [(one, other), (other, one)]


def _forget(origins: Origins, keys: Keys) -> None:
    for stale in [known for known in origins if known[: len(keys)] == keys]:
        del origins[stale]


def _note(origins: Origins, keys: Keys, value: Any, location: str) -> None:
    origins[keys] = location
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _note(origins, (*keys, key), below, location)
