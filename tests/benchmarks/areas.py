"""What is measured, each area in a process of its own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

from benchmarks.rows import Row

AREAS = ("step", "loader", "maps", "tokens", "predict", "startup", "study")
"""Modules with `rows()`."""
LONG = ("step", "layouts")
"""Modules with `long_rows()`."""


def measure(area: str, function: str = "rows") -> list[Row]:
    """The rows of one area, measured in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_call, f"benchmarks.{area}", function).result()


def _call(module: str, function: str) -> list[Row]:
    found: list[Row] = getattr(import_module(module), function)()
    return found
