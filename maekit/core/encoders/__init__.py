"""Encoders over a grid of patches."""
