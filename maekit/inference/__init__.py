"""Predictions of a trained run along a recording."""
