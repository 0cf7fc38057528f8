"""Recipes: YAML files that say what to train on what, and how. Nothing here imports torch."""
