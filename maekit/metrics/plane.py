"""Where the cells of a sample with two axes lie in space, and how alike two places are there."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maekit.metrics.constant import Constant


@dataclass(frozen=True)
class Plane:
    """Two axes of cells, each with the coordinates of its cells, which rise.

    Attributes:
        axes: names, in the order of the sample's.
        coordinates: of the cells along each, in its unit.
        angle: which axis is an angle from straight ahead, the other one then being the distance from the sensor; None where the
            axes are no places, as a velocity is none.
        radians: the unit of that angle.
        units: of both axes, for people.
    """

    axes: tuple[str, str]
    coordinates: tuple[Float[Tensor, " first"], Float[Tensor, " second"]]
    angle: int | None = None
    radians: float = 1.0
    units: tuple[str, str] = ("", "")
    _constants: tuple[Constant, Constant] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, values in zip(self.axes, self.coordinates, strict=True):
            if len(values) < 2 or not bool((values.diff() > 0).all()):
                raise ValueError(f"the cells along {name!r} have no coordinates that rise: {values[:4].tolist()}...")
        first, second = self.coordinates
        object.__setattr__(self, "_constants", (Constant(first), Constant(second)))

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along each axis."""
        return len(self.coordinates[0]), len(self.coordinates[1])

    def cells(self, where: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Coordinates to cells and fractions of them, going on evenly beyond the ends; NaN stays."""
        found = []
        for axis, coordinates in enumerate(self._constants):
            known, value = coordinates.like(where), where[..., axis].contiguous()
            upper = torch.searchsorted(known, value.nan_to_num()).clamp(1, len(known) - 1)
            low, high = known[upper - 1], known[upper]
            found.append(upper - 1 + (value - low) / (high - low))
        return torch.stack(found, -1)

    def at(self, cells: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Coordinates of cells and fractions of them."""
        found = []
        for axis, coordinates in enumerate(self._constants):
            known, cell = coordinates.like(cells), cells[..., axis]
            lower = cell.nan_to_num().floor().long().clamp(0, len(known) - 2)
            found.append(known[lower] + (cell - lower) * (known[lower + 1] - known[lower]))
        return torch.stack(found, -1)

    def within(self, cells: Float[Tensor, "*batch 2"]) -> Bool[Tensor, "*batch"]:
        """Whether places in cells are on the plane; NaN is not."""
        return torch.stack([(cells[..., i] > -0.5) & (cells[..., i] < n - 0.5) for i, n in enumerate(self.shape)]).all(
            0
        )

    def sizes(self, cells: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Of the cell at some place, along both axes."""
        return (self.at(cells + 0.5) - self.at(cells - 0.5)).abs().clamp(min=1e-9)

    def location(self, where: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Cartesian: to the right and straight ahead, in the unit of the distance.

        Raises:
            ValueError: axes that are no places.
        """
        distance, angle = self._polar(where)
        return torch.stack([distance * angle.sin(), distance * angle.cos()], -1)

    def distance(self, where: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """From the sensor.

        Raises:
            ValueError: axes that are no places.
        """
        return self._polar(where)[0]

    def similarity(
        self, one: Float[Tensor, "... 2"], other: Float[Tensor, "... 2"], kappa: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Object location similarity exp(-d^2 / (2 s^2 kappa)): d between the places, s the distance of `one` from the sensor.

        Source: Wang et al., RODNet, IEEE JSTSP 2021, as its published evaluation computes it.

        Args:
            one: coordinates of one object.
            other: of another.
            kappa: of the class.
        """
        apart = (self.location(one) - self.location(other)).square().sum(-1)
        return torch.exp(-apart / (2 * self.distance(one).square() * kappa))

    def _polar(self, where: Tensor) -> tuple[Tensor, Tensor]:
        if self.angle is None:
            raise ValueError(f"the axes {self.axes} are no distance and angle, so there are no places on them")
        return where[..., 1 - self.angle], where[..., self.angle] * self.radians
