"""The static scene of a simulated street: buildings, poles, trees and ground.

Radar and camera are at the origin and look along y; x is to the right. The street runs at an angle to y, with carriageway, verge
(poles and trees), pavement and a row of buildings on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

STOREY_M = 3.0
POLE_RADIUS_M = 0.09
TRUNK_RADIUS_M = 0.16
CLEAR_M = 2.5
"""Smallest distance of poles and trees from the radar."""
WIDEST_SINE = float(np.sin(np.deg2rad(75.0)))
"""Sine of the largest azimuth of static echoes, beyond which the antenna elements receive nothing."""
FACADE_RAYS, GROUND_POINTS, LEAVES = 320, 160, 8
FACADE_M2, CORNER_M2, POLE_M2, LEAF_M2, GROUND_M2 = 0.15, 0.7, 0.5, 0.05, 0.0006
"""Mean radar cross sections of a point of a facade, a corner, a pole, a point of a crown, and a point of the ground."""


@dataclass(frozen=True, slots=True)
class Scatterers:
    """Static scatterers.

    Attributes:
        places: (scatterer, 2) positions in m.
        rcs_m2: (scatterer,) radar cross sections.
        sways: (scatterer,) whether wind moves it, so that its echo changes between frames.
    """

    places: Array
    rcs_m2: Array
    sways: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Light:
    """Daylight.

    Attributes:
        strength: 1 at noon.
        tint: (3,) factors of red, green and blue.
        sun: (2,) horizontal unit vector towards the sun.
        sky: (2, 3) colours at the horizon and above.
    """

    strength: float
    tint: Array
    sun: Array
    sky: Array


class Street:
    """A random street.

    Args:
        rng: source of all random properties.

    Attributes:
        along, across: unit vectors of the street; across is to the right of along.
        radar_across_m: position of the radar across the street, on the verge.
        road_m, verge_m, pavement_m: half width of the carriageway, and widths of the strips beside it.
        walls: (wall, 2, 2) ends of the facades; facing: outward unit normals.
        wall_height_m, wall_building: (wall,) height, and index of the building.
        colours, window_m, lit: (building, ...) paint, (width, period) of the windows, share of lit windows.
        posts: (post, 4) x, y, radius, height of poles and trunks; wooden: mask of the trunks.
        crowns: (crown, 4) x, y, height of the centre, radius.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        side = int(rng.choice([-1, 1]))  # -1: on the left verge, and looking to the right
        angle = side * rng.uniform(0.05, 1.1)
        self.along = np.array([np.sin(angle), np.cos(angle)])
        self.across = np.array([np.cos(angle), -np.sin(angle)])
        self.road_m, self.verge_m, self.pavement_m = rng.uniform(3.5, 5.0), 1.4, rng.uniform(2.5, 4.0)
        self.radar_across_m = side * (self.road_m + 0.4)
        self.facade_m = self.road_m + self.verge_m + self.pavement_m
        self._build(rng)
        self._plant(rng)
        self.light = self._weather(rng)
        self.asphalt = rng.uniform(60, 100) * np.array([1.0, 1.0, 1.03])
        self.paving = rng.uniform(120, 165) * np.array([1.03, 1.0, 0.94])
        self.verge = np.array([86, 112, 58]) if rng.random() < 0.6 else 0.9 * self.paving

    def plan(self, along_m: ArrayLike, across_m: ArrayLike) -> Array:
        """(..., 2) x and y of positions along and across the street; the radar is at 0 along."""
        return (
            np.asarray(along_m)[..., None] * self.along
            + (np.asarray(across_m) - self.radar_across_m)[..., None] * self.across
        )

    def crossings(self, directions: Array) -> Array:
        """(wall, ray) distance, in lengths of the direction, at which each ray from the origin meets each wall; inf if never.

        Args:
            directions: (ray, 2) of the rays.
        """
        starts, sides = self.walls[:, 0, None], (self.walls[:, 1] - self.walls[:, 0])[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = _cross(directions[None], sides)
            far = _cross(starts, sides) / turn
            share = _cross(starts, directions[None]) / turn
        return np.where((far > 0) & (share >= 0) & (share <= 1), far, np.inf)

    def clutter(self, rng: np.random.Generator, farthest_m: float) -> Scatterers:
        """Scatterers on the surfaces of the street that are visible from the radar.

        Facades scatter where rays meet them first, mostly at normal incidence; corners, poles and trees scatter where nothing hides
        them, and the ground scatters weakly everywhere. Cross sections are exponentially distributed.

        Args:
            rng: source of positions and cross sections.
            farthest_m: largest range.
        """
        sines = rng.uniform(-WIDEST_SINE, WIDEST_SINE, FACADE_RAYS)
        rays = np.stack([sines, np.sqrt(1 - sines**2)], -1)
        met = self.crossings(rays)
        first, distance = met.argmin(0), met.min(0)
        rays, first, distance = (values[distance < farthest_m] for values in (rays, first, distance))
        squarely = np.abs((self.facing[first] * rays).sum(-1))
        corners = self.walls.reshape(-1, 2)
        leaf = rng.uniform(-1, 1, (len(self.crowns), LEAVES, 2)) * self.crowns[:, None, 3:] * 0.7
        ground_m, ground_sine = rng.uniform(1.5, farthest_m, GROUND_POINTS), rng.uniform(-0.97, 0.97, GROUND_POINTS)
        ground = ground_m[:, None] * np.stack([ground_sine, np.sqrt(1 - ground_sine**2)], -1)
        parts = (
            (rays * distance[:, None], FACADE_M2 * (0.2 + 6 * squarely**16), False),
            (corners, CORNER_M2, False),
            (self.posts[:, :2], POLE_M2, False),
            ((self.crowns[:, None, :2] + leaf).reshape(-1, 2), LEAF_M2, True),
            (ground, GROUND_M2, False),
        )
        places = np.concatenate([location for location, _, _ in parts])
        rcs = np.concatenate([np.broadcast_to(mean, len(location)) for location, mean, _ in parts])
        sways = np.concatenate([np.full(len(location), sway) for location, _, sway in parts])
        distance = np.hypot(*places.T)
        seen = (
            (distance < farthest_m)
            & (np.abs(places[:, 0]) < WIDEST_SINE * distance)
            & (places[:, 1] > 0)
            & ~hidden(places, self.walls)
        )
        return Scatterers(places[seen], (rcs * rng.exponential(1.0, len(rcs)))[seen], sways[seen])

    def _build(self, rng: np.random.Generator) -> None:
        """Two rows of buildings with alleys between some of them, and one building across each end."""
        blocks: list[tuple[float, float, float, float]] = []
        for side in (-1, 1):
            at = -70.0 + rng.uniform(0, 8)
            while at < 85:
                front, setback = rng.uniform(7, 16), rng.uniform(0, 1.2)
                near = self.facade_m + setback
                blocks.append((at, at + front, side * near, side * (near + rng.uniform(8, 12))))
                at += front + (rng.uniform(2, 7) if rng.random() < 0.45 else 0.0)
        blocks += [(95.0, 105.0, -25.0, 25.0), (-105.0, -95.0, -25.0, 25.0)]
        count = len(blocks)
        corners = np.array([[(a, c), (b, c), (b, d), (a, d)] for a, b, c, d in blocks])
        in_plan = self.plan(corners[..., 0], corners[..., 1])
        self.walls = np.stack([in_plan, np.roll(in_plan, -1, axis=1)], 2).reshape(-1, 2, 2)
        sides = self.walls[:, 1] - self.walls[:, 0]
        normals = np.stack([sides[:, 1], -sides[:, 0]], -1) / np.hypot(*sides.T)[:, None]
        outward = ((self.walls.mean(1) - np.repeat(in_plan.mean(1), 4, axis=0)) * normals).sum(-1, keepdims=True)
        self.facing = normals * np.sign(outward)
        self.wall_building = np.repeat(np.arange(count), 4)
        self.wall_height_m = np.repeat(STOREY_M * rng.integers(2, 6, count) + rng.uniform(0.3, 1.0, count), 4)
        hue = rng.uniform(0, 1, (count, 1))
        plaster = np.array([222, 205, 170]) * (1 - hue) + np.array([196, 196, 200]) * hue
        brick = np.array([150, 84, 62]) * (1 - hue) + np.array([120, 96, 84]) * hue
        self.colours = np.where(rng.random((count, 1)) < 0.45, brick, plaster) * rng.uniform(0.75, 1.05, (count, 1))
        self.window_m = np.stack([rng.uniform(0.9, 1.5, count), rng.uniform(2.0, 3.2, count)], -1)
        self.lit = rng.uniform(0, 0.4, count)

    def _plant(self, rng: np.random.Generator) -> None:
        """Lamp posts on the verges, and in two of three streets trees."""
        posts, crowns, wooden = [], [], []
        leafy = rng.random() < 0.65
        for side in (-1, 1):
            across = side * (self.road_m + 0.7)
            for what, pitch in (("lamp", rng.uniform(12, 20)), ("tree", rng.uniform(7, 13))):
                if what == "tree" and not leafy:
                    continue
                for at in np.arange(-50 + rng.uniform(0, pitch), 70, pitch):
                    location = self.plan(at + rng.uniform(-0.8, 0.8), across)
                    tall, radius = rng.uniform(2.2, 3.0), rng.uniform(1.0, 1.8)
                    if np.hypot(*location) < CLEAR_M + (radius if what == "tree" else 0):
                        continue
                    wooden.append(what == "tree")
                    posts.append((*location, *((TRUNK_RADIUS_M, tall) if wooden[-1] else (POLE_RADIUS_M, 5.5))))
                    if wooden[-1]:
                        crowns.append((*location, tall + 0.7 * radius, radius))
        self.posts, self.wooden = np.array(posts).reshape(-1, 4), np.array(wooden, dtype=bool)
        self.crowns = np.array(crowns).reshape(-1, 4)

    def _weather(self, rng: np.random.Generator) -> Light:
        strength, warmth, sun = rng.uniform(0.45, 1.1), rng.uniform(-0.1, 0.14), rng.uniform(0, 2 * np.pi)
        overcast = rng.random() < 0.4
        above = np.array([176.0, 182.0, 190.0]) if overcast else np.array([96.0, 148.0, 214.0])
        tint = np.array([1 + warmth, 1.0, 1 - warmth])
        return Light(strength, tint, np.array([np.cos(sun), np.sin(sun)]), np.stack([0.5 * above + 112, above]))


def hidden(places: Array, walls: Array) -> NDArray[np.bool_]:
    """(...,) whether a wall lies between the origin and each position; a point on a wall is not hidden by that wall.

    Args:
        places: (..., 2) positions.
        walls: (wall, 2, 2) ends.
    """
    there = 0.995 * np.asarray(places)[..., None, :]
    start, end = walls[:, 0], walls[:, 1]
    on_both_sides = _cross(there, start) * _cross(there, end) < 0
    beyond = _cross(end - start, -start) * _cross(end - start, there - start) < 0
    return np.asarray((on_both_sides & beyond).any(-1))


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
