"""`maekit recipe ...`: list, show, check and copy recipes. Everything heavy is imported inside a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from maekit.cli.console import RecipeArgument, Sets, VerbGroup, err, out
from maekit.errors import UserError

recipe_app = typer.Typer(cls=VerbGroup, no_args_is_help=True, help="List, show, check and copy recipes.")


@recipe_app.command("list")
def recipe_list(
    under: Annotated[str, typer.Argument(help="Only those of this folder, e.g. image/imagenet.")] = "",
) -> None:
    """Recipes that come with maekit; deep folders are only counted until you name them."""
    from maekit.config.shipped import header, list_recipes

    for name, found in list_recipes(under).items():
        if isinstance(found, int):
            out.print(f"[bold]{escape(name)}/[/]  {found} recipes: `maekit recipe list {escape(name)}`")
        else:
            out.print(f"[bold]{escape(name)}[/]  {escape(header(found).split(chr(10))[0])}")


@recipe_app.command("show")
def recipe_show(recipe: RecipeArgument, set_: Sets = None) -> None:
    """The whole recipe with defaults written out, and where each value came from."""
    from maekit.config.load import load_recipe

    out.print(escape(load_recipe(recipe, set_ or []).yaml(origins=True)), end="")


@recipe_app.command("check")
def recipe_check(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipes; by default all that come with maekit.")] = None,
    set_: Sets = None,
    data: Annotated[bool, typer.Option("--data", help="Also open the data and build the model (slower).")] = False,
) -> None:
    """Check recipes without training."""
    from maekit.config.load import load_recipe
    from maekit.config.shipped import shipped_recipes

    failures = []
    for name in recipes or list(shipped_recipes()):
        try:
            loaded = load_recipe(name, set_ or [])
            if data:
                from maekit.build.experiment import build_experiment
                from maekit.build.models import make_task

                make_task(build_experiment(loaded))
            out.print(f"{escape(name)}: right")
        except UserError as error:
            failures.append(error)
            err.print(escape(str(error)))
    if failures:
        raise typer.Exit(2)


@recipe_app.command("copy")
def recipe_copy(recipe: RecipeArgument, target: Annotated[Path, typer.Argument(help="File or folder.")]) -> None:
    """Copy a recipe, and those it builds on, to edit them."""
    from maekit.config.copying import copy_recipe

    out.print(escape(str(copy_recipe(recipe, target))))


@recipe_app.command("schema")
def recipe_schema() -> None:
    """JSON Schema of recipes, for editors."""
    from maekit.config.schema import json_schema

    out.print_json(json.dumps(json_schema()))
