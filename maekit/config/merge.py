"""Merging a recipe over the one that it extends, and `--set` over both, with the origin of each value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.config.schema import EXCLUSIVE, PLUGIN_KEYS, is_choice
from maekit.config.shipped import related_recipe, shipped_name
from maekit.config.yaml import parse_value
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.yaml import Keys

Origins = dict["Keys", str]
SET = "--set "


def spell_out(data: dict[str, Any], origins: Origins) -> None:
    """Write the short form of a plug-in, `masking: span`, as `{name: span}`, so that both forms merge alike."""
    auxiliary = data.get("auxiliary")
    signals = [("auxiliary", name) for name in auxiliary] if isinstance(auxiliary, dict) else []
    for keys in (*PLUGIN_KEYS, *signals):
        holder: Any = data
        for key in keys[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(value := holder.get(keys[-1]), str):
            holder[keys[-1]] = {"name": value}
            origins[*keys, "name"] = origins[keys]


def rebase(data: dict[str, Any], parent: Path, child: Path) -> None:
    """Rewrite the relative paths in a recipe of the folder `parent` for a recipe of the folder `child` that extends it."""
    if parent.resolve() == child.resolve():
        return
    for section, key in (("data", "spec"), ("init", "recipe")):
        holder = data.get(section)
        value = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(value, str) and names_file(value) and not Path(value).is_absolute():
            relative = Path(os.path.relpath(parent.resolve() / value, child.resolve())).as_posix()
            holder[key] = (section == "init" and shipped_name(related_recipe(value, parent))) or relative


def names_file(text: str) -> bool:
    """Whether a text is the path of a file rather than the name of a data spec that comes with maekit."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def merge(
    base: dict[str, Any], over: dict[str, Any], origins: Origins, over_origins: Origins, keys: Keys = ()
) -> dict[str, Any]:
    """Merge mappings key by key and replace everything else, also plug-ins of another `name` and another kind of split.

    Args:
        base: what is extended.
        over: what extends it.
        origins: those of `base`; changed to those of the result.
        over_origins: those of `over`.
        keys: where both stand in the recipe.
    """
    merged = dict(base)
    for key, value in over.items():
        here = (*keys, key)
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _replaces(here, old, value):
            merged[key] = merge(old, value, origins, over_origins, here)
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
    _set_origins(origins, keys, value, location)
    spell_out(data, origins)


def _drop_what_the_new_key_replaces(node: dict[str, Any], origins: Origins, keys: tuple[str, ...], value: Any) -> None:
    """Drop what `merge` would replace, but keep what the same command line has set, in whichever order."""
    above = keys[:-1]
    stale: set[str] = set()
    if is_choice(above) and keys[-1] == "name" and node.get("name") != value:
        stale = set(node) - {"name"}
    for kept, excluded in _exclusive_sets(above):
        if keys[-1] in kept and set(node) & excluded:
            stale = set(node) - kept
    for key in stale:
        if not origins.get((*above, key), "").startswith(SET):
            del node[key]
            _forget(origins, (*above, key))


def _replaces(keys: Keys, old: dict[str, Any], new: dict[str, Any]) -> bool:
    if old.get("name") != new.get("name", old.get("name")):
        return True
    return any(kept & set(new) and excluded & set(old) for kept, excluded in _exclusive_sets(keys))


def _exclusive_sets(keys: Keys) -> list[tuple[set[str], set[str]]]:
    """Pairs of keys to keep and keys to drop."""
    first, second = EXCLUSIVE.get(keys, (set(), set()))
    return [(first, second), (second, first)]


def _forget(origins: Origins, keys: Keys) -> None:
    for stale in [other for other in origins if other[: len(keys)] == keys]:
        del origins[stale]


def _set_origins(origins: Origins, keys: Keys, value: Any, location: str) -> None:
    origins[keys] = location
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _set_origins(origins, (*keys, key), below, location)
