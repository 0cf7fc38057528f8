"""Recipes that come with maekit, and finding a recipe by its name or its path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from maekit.config.yaml import is_file, is_folder
from maekit.errors import UserError, nearest


def shipped_folder() -> Path:
    """The folder of the recipes that come with maekit."""
    import maekit.recipes

    return Path(maekit.recipes.__file__).parent


@cache
def shipped_recipes() -> dict[str, Path]:
    """Files of the recipes that come with maekit, by name: `image/imagenet/pretrain_base_800`."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def list_recipes(folder: str = "") -> dict[str, Path | int]:
    """Shipped recipes to show: those one level below `folder`, and the number of recipes in each folder deeper down.

    Raises:
        UserError: no folder or recipe has this name.
    """
    parts = tuple(part for part in folder.split("/") if part)
    recipes = {tuple(name.split("/")): path for name, path in shipped_recipes().items()}
    inside = {name: path for name, path in recipes.items() if name[: len(parts)] == parts}
    if not inside:
        folders = {"/".join(name[:depth]) for name in recipes for depth in range(1, len(name))}
        raise UserError(
            "no recipes under this name",
            location="recipe list",
            value=folder,
            expected="one of " + ", ".join(sorted(folders)),
            hint=nearest(folder, folders),
        )
    shown: dict[str, Path | int] = {}
    depth = len(parts) + (1 if parts else 2)
    for name, path in inside.items():
        if len(name) <= depth:
            shown["/".join(name)] = path
        else:
            subfolder = "/".join(name[:depth])
            shown[subfolder] = int(str(shown.get(subfolder, 0))) + 1
    return shown


def header(path: Path) -> str:
    """The comment at the top of a recipe: what it is, its command, hardware and result."""
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
    shipped = shipped_recipes()
    plain = name.removesuffix(".yaml")
    if not is_file(path) and plain in shipped:
        return shipped[plain]
    if not is_file(path) and not is_folder(path):
        neighbours = [str(file) for file in path.parent.glob("*.yaml")] if is_folder(path.parent) else []
        raise UserError(
            "no such recipe",
            location=name,
            expected="a YAML file, or a name from `maekit recipe list`",
            hint=nearest(plain, shipped) or nearest(name, neighbours),
        )
    return path


def related_recipe(name: str, folder: Path) -> Path:
    """The file that a recipe in `folder` names by `extends` or `init.recipe`: relative to the folder, or a shipped name.

    The file may not exist.
    """
    path = folder / name
    return path if is_file(path) else shipped_recipes().get(name, path)


def shipped_name(path: Path) -> str | None:
    """The name of the shipped recipe at `path`; None for a file of the user's."""
    resolved = path.resolve()
    return next((name for name, file in shipped_recipes().items() if file.resolve() == resolved), None)
