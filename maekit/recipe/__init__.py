"""Recipes: YAML files that say what to train on what, and how. Importing this does not import torch."""

from maekit.recipe.load import LoadedRecipe, load_recipe
from maekit.recipe.schema import Recipe

__all__ = ["LoadedRecipe", "Recipe", "load_recipe"]
