"""`maekit recipe ...`: list, show, check and copy recipes. Everything heavy is imported inside a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from maekit.cli.console import Axes, RecipeArgument, Sets, VerbGroup, err, out, read_lengths, show
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.config.load import LoadedRecipe

recipe_app = typer.Typer(cls=VerbGroup, no_args_is_help=True, help="List, show, check and copy recipes.")


@recipe_app.command("list")
def recipe_list(
    folder: Annotated[str, typer.Argument(help="Only the recipes of this folder, e.g. image/imagenet.")] = "",
) -> None:
    """List the recipes that come with maekit; deep folders are only counted until you name them."""
    from maekit.config.shipped import header, list_recipes

    for name, entry in list_recipes(folder).items():
        if isinstance(entry, int):
            out.print(f"[bold]{escape(name)}/[/]  {entry} recipes: `maekit recipe list {escape(name)}`")
        else:
            out.print(f"[bold]{escape(name)}[/]  {escape(header(entry).splitlines()[0])}")


@recipe_app.command("show")
def recipe_show(recipe: RecipeArgument, set_: Sets = None) -> None:
    """Print the whole recipe with all defaults, those of plug-ins included, and where each value came from."""
    from maekit.build.plugin_options import default_options
    from maekit.config.load import load_recipe

    loaded = load_recipe(recipe, set_ or [])
    out.print(escape(loaded.yaml(origins=True, defaults=default_options(loaded))), end="")


@recipe_app.command("check")
def recipe_check(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipes; by default all that come with maekit.")] = None,
    set_: Sets = None,
    axis: Axes = None,
    data: Annotated[bool, typer.Option("--data", help="Also open the data (slower).")] = False,
) -> None:
    """Check recipes without training: every key and option, and whether adapter, model and task can be made."""
    from maekit.config.shipped import shipped_recipes

    lengths = read_lengths(axis or [])
    failures = 0
    for name in recipes or list(shipped_recipes()):
        try:
            note = _check(name, set_ or [], lengths, data=data)
        except UserError as error:
            failures += 1
            err.print(f"[red]error[/] {escape(str(error))}")
        else:
            out.print(
                f"{escape(name)}: right" + (f" as far as can be told without data: {escape(note)}" if note else "")
            )
    if failures:
        raise typer.Exit(2)


def _check(name: str, overrides: list[str], lengths: Mapping[str, int], *, data: bool) -> str:
    """Check one recipe; what needs no torch first.

    Returns:
        Why not everything could be checked, or an empty string.
    """
    from maekit.build.plugin_options import check_options
    from maekit.config.load import load_recipe

    loaded = load_recipe(name, overrides)
    check_options(loaded)
    if data:
        _open_data(loaded)
        return ""
    from maekit.build.recipe_check import construct_recipe

    return construct_recipe(loaded, lengths)


def _open_data(loaded: LoadedRecipe) -> None:
    from maekit.build.experiment import build_experiment
    from maekit.build.tasks import make_task

    make_task(build_experiment(loaded))


@recipe_app.command("copy")
def recipe_copy(recipe: RecipeArgument, target: Annotated[Path, typer.Argument(help="File or folder.")]) -> None:
    """Copy a recipe, and those that it builds on, to edit them."""
    from maekit.config.copying import copy_recipe

    show(str(copy_recipe(recipe, target)))


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from maekit.config.schema import json_schema

    out.print_json(json.dumps(json_schema()))
