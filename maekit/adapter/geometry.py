"""What patches and cells of a sample stand for: values of the label, and positions on a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.metrics.plane import Plane

Array = np.ndarray[Any, np.dtype[Any]]


class Geometry:
    """Coordinates of a modality; by default a sample has none."""

    def patch_values(self) -> NDArray[np.float64] | None:
        """(patch,) rising values of the label that the patches stand for; None where they stand for none.

        Where the label is a position on an axis of the sample, a task can read a score for each value off its patch.
        """
        return None

    def plane(self) -> Plane | None:
        """Coordinates of the cells of a sample's last two axes, for tasks that find objects there; None without coordinates.

        Raises:
            ValueError: axes whose coordinates cannot be.
        """
        return None

    def drawn_at(self, where: Array) -> Array:
        """From (..., 2) coordinates on the axes of `plane` to the x and y at which `draw` puts them. Default: the second axis is x."""
        return where[..., ::-1]
