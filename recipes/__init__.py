"""Recipes that come with maekit, one folder a modality."""
