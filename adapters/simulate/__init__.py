"""Simulators of recordings."""
