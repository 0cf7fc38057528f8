"""Reading, extending and overriding recipes, with the origin of each value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.config.merge import merge, override, rebase, spell_out
from maekit.config.render import render
from maekit.config.schema import PLUGIN_KEYS, Recipe
from maekit.config.shipped import find_recipe, related_recipe, shipped_name
from maekit.config.validate import validate
from maekit.config.yaml import Keys, is_file, is_folder, read_yaml
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe.

    Attributes:
        recipe: its values.
        path: its file.
        origins: where each value came from: `file:line:column`, or the `--set` that gave it.
    """

    recipe: Recipe
    path: Path
    origins: dict[Keys, str]

    def locate(self, *keys: str | int) -> str:
        """Where a value came from; for a default, the location of what surrounds it."""
        return _locate(self.origins, keys, str(self.path))

    @property
    def pretraining_path(self) -> Path | None:
        """The recipe that `init.recipe` names, which may not exist; None where there is no `init`."""
        init = self.recipe.init
        return None if init is None else related_recipe(init.recipe, self.path.parent)

    def yaml(self, *, origins: bool = False, defaults: Mapping[Keys, tuple[Any, str]] | None = None) -> str:
        """The resolved recipe with its defaults, as YAML that loads as a recipe.

        Args:
            origins: write where each value came from as a comment.
            defaults: values and origins of options of plug-ins that the recipe does not give, to be written as well.
        """
        data = self.recipe.model_dump(mode="json", exclude_none=True)
        complete = self.recipe.model_dump(mode="json")
        for section, *inner in PLUGIN_KEYS:  # an option that is set to null differs from one that is left out
            if inner:
                data[section][inner[0]] = complete[section][inner[0]]
            else:
                data[section] = complete[section]
        for several in ("augment", "auxiliary"):
            data[several] = complete[several]
            if not data[several]:
                del data[several]
        sources = dict(self.origins)
        for keys, (value, origin) in (defaults or {}).items():
            holder: Any = data
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = value
            sources[keys] = origin
        return render(data, sources if origins else None)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe and those that it extends, apply `key.key=value` overrides, and check the result.

    Raises:
        UserError: every error that can be found at once.
    """
    path = find_recipe(str(name))
    data, origins = _read(path, path, ())
    for setting in overrides:
        override(data, origins, setting)
    recipe = validate(Recipe, data, lambda keys: _locate(origins, keys, str(path)))
    return LoadedRecipe(recipe, path, origins)


def _read(path: Path, top: Path, chain: tuple[Path, ...]) -> tuple[dict[str, Any], dict[Keys, str]]:
    """One file, merged over the file that it extends.

    Args:
        path: the file.
        top: the first file of its folder of recipes that was read; what it extends lies in the same folder.
        chain: files that extend this one.
    """
    document = read_yaml(path)
    data, origins = document.data, dict(document.locations)
    chain = (*chain, path.resolve())
    parent_name = data.pop("extends", None)
    spell_out(data, origins)
    if parent_name is None:
        return data, origins
    parent = _parent(path, top, parent_name, origins["extends",])
    if parent.resolve() in chain:
        circle = " -> ".join(file.name for file in (*chain, parent.resolve()))
        raise UserError(
            "recipes extend each other in a circle",
            location=origins["extends",],
            value=circle,
            hint="Remove one `extends`.",
        )
    base, base_origins = _read(parent, top if _inside(parent, top) else parent, chain)
    if base.pop("reference", None) is not None:  # it belongs to that recipe, not to one that changes it
        base_origins = {keys: location for keys, location in base_origins.items() if keys[:1] != ("reference",)}
    rebase(base, parent.parent, path.parent)
    return merge(base, data, base_origins, origins), base_origins


def _parent(path: Path, top: Path, name: Any, location: str) -> Path:
    """The file that a recipe extends.

    Raises:
        UserError: no such file, or one outside the folder of the recipes.
    """
    expected = "a path relative to this file, or a name from `maekit recipe list`"
    if not isinstance(name, str) or Path(name).is_absolute():
        raise UserError("extends names one file", location=location, value=name, expected=expected)
    parent = related_recipe(name, path.parent)
    if _inside(parent, top) or shipped_name(parent):
        if is_file(parent):
            return parent
        neighbours = [file.name for file in parent.parent.glob("*.yaml")] if is_folder(parent.parent) else []
        raise UserError(
            "extends a folder" if is_folder(parent) else "extends a file that does not exist",
            location=location,
            value=name,
            expected=expected,
            hint=nearest(parent.name, neighbours),
        )
    raise UserError(
        "extends leaves the folder of the recipes",
        location=location,
        value=name,
        expected=f"a file below {top.resolve().parent.parent}",
        hint="Copy that recipe here and extend the copy.",
    )


def _inside(parent: Path, child: Path) -> bool:
    """Whether a file lies at most one level above a recipe, or below: recipes and what they build on travel together."""
    try:
        return parent.resolve().is_relative_to(child.resolve().parent.parent)
    except (OSError, ValueError):
        return True  # no file can have this path: the message that it does not exist says more


def _locate(origins: Mapping[Keys, str], keys: Keys, otherwise: str) -> str:
    for length in range(len(keys), 0, -1):
        if keys[:length] in origins:
            return origins[keys[:length]]
    return otherwise
