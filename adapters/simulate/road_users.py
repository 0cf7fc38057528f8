"""Pedestrians, cyclists and cars: sizes, speeds, and their radar scatterers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CLASSES = ("pedestrian", "cyclist", "car")


@dataclass(frozen=True, slots=True)
class Kind:
    """Speed, extent and scattering of a class of road users.

    Args:
        speed_mps: lowest and highest speed.
        length_m: along the heading.
        width_m: across the heading.
        points: number of scatterers; every second one swings.
        rcs_m2: radar cross section of all scatterers together (order of magnitude at 77 GHz).
        swing_mps: peak velocity of limbs or pedals relative to the body.
        stride_hz: lowest and highest frequency of the swing.
    """

    speed_mps: tuple[float, float]
    length_m: float
    width_m: float
    points: int
    rcs_m2: float
    swing_mps: float
    stride_hz: tuple[float, float]


KINDS = {
    "pedestrian": Kind((0.7, 2.0), 0.3, 0.5, 5, 0.3, 2.5, (0.8, 1.1)),
    "cyclist": Kind((3.0, 7.0), 1.7, 0.6, 7, 1.0, 1.5, (1.0, 1.5)),
    "car": Kind((4.0, 14.0), 4.3, 1.8, 12, 10.0, 0.0, (1.0, 1.0)),
}


class Body:
    """Scatterers of one road user; limbs and pedals of the two sides swing in opposite phase.

    Args:
        kind: class of the road user.
        rng: source of positions, stride and phase.

    Attributes:
        along, across: (scatterer,) positions in m from the body's centre, ahead and to the left.
        swing_mps: (scatterer,) peak velocity along the heading, zero for scatterers that do not swing.
        swing_phase: (scatterer,) phase at time zero in radians.
        stride_hz: frequency of the swing.
    """

    def __init__(self, kind: Kind, rng: np.random.Generator) -> None:
        self.along = rng.uniform(-0.5, 0.5, kind.points) * kind.length_m
        self.across = rng.uniform(-0.5, 0.5, kind.points) * kind.width_m
        self.stride_hz = rng.uniform(*kind.stride_hz)
        swinging = np.arange(kind.points) % 2
        side = np.arange(kind.points) // 2
        self.swing_mps = kind.swing_mps * swinging * rng.uniform(0.5, 1.0, kind.points)
        self.swing_phase = rng.uniform(0, 2 * np.pi) + np.pi * side

    def positions(self, centre: Array, direction: Array, time_s: Array) -> tuple[Array, Array]:
        """Positions x and y of the scatterers, (scatterer, time) each.

        Args:
            centre: (2, time) x and y of the body in m.
            direction: (2,) or (2, time) unit vector of the heading.
            time_s: (time,) in seconds.
        """
        turn = 2 * np.pi * self.stride_hz
        phase = turn * time_s + self.swing_phase[:, None]
        along = self.along[:, None] + self.swing_mps[:, None] / turn * np.sin(phase)
        to_left = (-direction[1], direction[0])
        x, y = (centre[i] + direction[i] * along + to_left[i] * self.across[:, None] for i in (0, 1))
        return x, y
