"""Axes of radar maps: where their zero lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maekit.data.sample import Axis


def twice_zero(axis: Axis) -> int:
    """Two times the bin of an axis' zero (no velocity, straight ahead), which may lie between two bins.

    Without a step it is the middle of the axis.

    Raises:
        ValueError: zero is not on the axis.
    """
    if axis.step is None:
        return 2 * (axis.length // 2)
    twice = round(-2 * axis.start / axis.step)
    if not 0 <= twice <= 2 * (axis.length - 1):
        raise ValueError(
            f"zero {axis.name} is not on the map: {axis.length} bins of {axis.step:g} {axis.unit} from {axis.start:g}; correct "
            f"`signal.steps.{axis.name}` of the data spec"
        )
    return twice
