"""Labels that are one number a window: constant or nearly so, or beyond what can be measured at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maekit.data.check.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_MOSTLY_EQUAL = 0.9
"""Share of equal labels from which on few windows teach anything."""
_MIN_LABELS = 20
_IMPOSSIBLE = 0.01
"""Share of labels beyond their range from which on they are no slips of a few windows."""


def label_problems(
    values: NDArray[np.float64], unit: str, ranges: Mapping[str, tuple[float, float]]
) -> Iterator[Problem]:
    """Problems of all labels together.

    Args:
        values: (windows,) labels.
        unit: of them; empty where none is stated.
        ranges: smallest and largest label that can be measured at all, by unit.
    """
    suffix = f" {unit}" if unit else ""
    if unit in ranges:
        low, high = ranges[unit]
        outside = int(((values < low) | (values > high)).sum())
        if outside:
            yield Problem(
                "error" if outside >= _IMPOSSIBLE * len(values) else "warning",
                f"labels beyond what is possible ({low:g} to {high:g}{suffix})",
                f"{outside} of {len(values)}, from {values.min():.4g} to {values.max():.4g}{suffix}",
                hint="Check which column or dataset `label` names, and its unit.",
            )
    unique, counts = np.unique(values, return_counts=True)
    share, usual = float(counts.max() / len(values)), f"{unique[counts.argmax()]:g}{suffix}"
    if len(values) > 1 and len(unique) == 1:
        yield Problem(
            "error",
            "labels that are all equal, from which nothing is learned",
            usual,
            hint="Check `label` in the data spec, and that all recordings are there.",
        )
    elif share >= _MOSTLY_EQUAL and len(values) >= _MIN_LABELS:
        yield Problem(
            "warning",
            "labels that are nearly all equal, from which little is learned",
            f"{usual} in {share:.0%} of the windows",
            hint="Check that `label` names what was measured.",
        )
