"""Lists of arrays, as cell arrays, struct arrays and datasets of variable length hold them, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES, OFFSETS = ".values", ".offsets"
"""Added to the name of a list: its arrays end to end, and where each begins, for `offsets` of a stream."""
WAY_ON = "`key: {name}.values` with `offsets: {name}.offsets` makes a recording of each."


def arrays_of_list(name: str, parts: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A list of arrays as arrays by name.

    Args:
        name: of the list.
        parts: its arrays.

    Returns:
        Under the name itself, the arrays stacked along a new first axis, or numbers and texts one beside the other, if they
        are of one shape. Under `NAME.values` the arrays end to end, and under `NAME.offsets` the rows where they begin,
        if they differ in the number of their rows only. Nothing for a list of something else.
    """
    if not parts or any(part.dtype.kind not in "biufcU" for part in parts):
        return {}
    arrays = {}
    shapes = {part.shape for part in parts}
    if len({part.dtype.kind == "U" for part in parts}) > 1:
        return {}
    if len(shapes) == 1:
        stacked = np.stack(parts)
        arrays[name] = stacked.reshape(-1) if parts[0].shape == (1,) else stacked
    rows_differ = len({shape[1:] for shape in shapes}) == 1 and all(shapes) and shapes != {(1,)}
    if rows_differ and parts[0].dtype.kind != "U":
        arrays[name + VALUES] = np.concatenate(parts)
        arrays[name + OFFSETS] = np.cumsum([0, *(len(part) for part in parts)])
    return arrays
