"""Spectrograms of 1-D signals."""
