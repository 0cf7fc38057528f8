"""Who moves along a street: cars and cyclists on the carriageway, pedestrians on the pavements, and some who cross."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.adapters.simulate.road_users import CLASSES, KINDS, Body
from maekit.adapters.simulate.street_world import Street, hidden

Array = NDArray[Any]

NEAREST_M = 2.0
WIDEST_DEG = 60.0
CROSSING = 0.25
"""Share of the pedestrians who cross the carriageway."""
BEYOND_M = 80.0
TRIES = 200
"""And one more for each frame."""
PATIENCE, EAGERNESS = 8, np.array([1.0, 1.5, 3.0])
"""Frames that a class has been in view before it is drawn half as often, and how often each is: cars are gone soon."""
HEIGHT_M = {"pedestrian": (1.55, 1.92), "cyclist": (1.65, 1.85), "car": (1.4, 1.75)}
BEHIND_DB = -10.0
"""Two-way, of what is behind a car: some goes under it, over it and around it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where scatterers are at one moment; (scatterer,) each.

    Attributes:
        places: (scatterer, 2) plan, m.
        range_m, sine: of the azimuth, positive to the right.
        velocity_mps: radial, positive receding.
    """

    places: Array
    range_m: Array
    sine: Array
    velocity_mps: Array


class Traveller:
    """A road user on its way through a street at constant speed.

    Args:
        name: one of `CLASSES`.
        way: (corner, 2) plan: it goes from the first to the last, straight between them.
        at_m: how far along its way it is at time zero.
        speed_mps: of walking or driving.
        rng: size, colours and scatterers are drawn from here.
    """

    def __init__(self, name: str, way: Array, at_m: float, speed_mps: float, rng: np.random.Generator) -> None:
        self.name, self.kind, self.label = name, KINDS[name], CLASSES.index(name)
        self.way, self.at_m, self.speed_mps = way, at_m, speed_mps
        legs = np.diff(way, axis=0)
        self.leg_m = np.hypot(*legs.T)
        self.headings = legs / self.leg_m[:, None]
        self.body = Body(self.kind, rng)
        stretch = rng.uniform(0.85, 1.15) if name == "car" else rng.uniform(0.95, 1.05)
        self.length_m, self.width_m = self.kind.length_m * stretch, self.kind.width_m
        self.height_m = rng.uniform(*HEIGHT_M[name])
        self.colours = rng.uniform(25, 235, (3, 3))
        if name == "car":  # mostly gray
            self.colours += 0.6 * (self.colours.mean(-1, keepdims=True) - self.colours)
        self.normals: Array | None = None
        if name == "car":
            self._on_the_outside()

    def centre(self, time_s: Array) -> Array:
        """(2, time) of the body, m."""
        gone = np.concatenate([[0.0], self.leg_m.cumsum()])
        return np.stack([np.interp(self.at_m + self.speed_mps * time_s, gone, part) for part in self.way.T])

    def direction(self, time_s: Array) -> Array:
        """(2, time): unit vector of the heading."""
        turns = self.leg_m.cumsum()[:-1]
        return self.headings[np.searchsorted(turns, self.at_m + self.speed_mps * np.asarray(time_s))].T

    def under_way(self, time_s: float) -> bool:
        """Whether it is on its way then, neither before its beginning nor past its end: both are far outside the range."""
        return bool(0 < self.at_m + self.speed_mps * time_s < self.leg_m.sum())

    def footprint(self, time_s: float) -> Array:
        """(4, 2): corners of the rectangle that it covers, front left first, then clockwise."""
        (x, y), (ahead_x, ahead_y) = self.centre(np.array([time_s]))[:, 0], self.direction(np.array([time_s]))[:, 0]
        ahead = 0.5 * self.length_m * np.array([ahead_x, ahead_y])
        left = 0.5 * self.width_m * np.array([-ahead_y, ahead_x])
        return np.array([x, y]) + np.array([ahead + left, ahead - left, -ahead - left, -ahead + left])

    def seen(self, time_s: float, span_s: float = 1e-3) -> Seen:
        """Its scatterers at one moment, velocities from the way made in `span_s` around it."""
        when = time_s + span_s * np.array([-0.5, 0.0, 0.5])
        x, y = self.body.positions(self.centre(when), self.direction(when), when)
        ranges = np.hypot(x, y)
        return Seen(
            np.stack([x[:, 1], y[:, 1]], -1),
            ranges[:, 1],
            x[:, 1] / ranges[:, 1],
            (ranges[:, 2] - ranges[:, 0]) / span_s,
        )

    def shown(self, time_s: float, seen: Seen) -> Array:
        """(scatterer,): share of the cross section that faces the radar: sides of a car do, or do not."""
        if self.normals is None:
            return np.ones(len(seen.range_m))
        ahead = self.direction(np.array([time_s]))[:, 0]
        towards = -seen.places / seen.range_m[:, None]
        facing = towards @ ahead * self.normals[:, 0] + towards @ np.array([-ahead[1], ahead[0]]) * self.normals[:, 1]
        return 0.1 + 2 * np.clip(facing, 0, None)

    def _on_the_outside(self) -> None:
        """Scatterers of a car are on its four sides, each with the side's outward normal (ahead, left)."""
        body, half = self.body, np.array([self.length_m / 2, self.width_m / 2])
        share = np.stack([body.along * 2 / self.kind.length_m, body.across * 2 / self.kind.width_m], -1)
        side = np.abs(share).argmax(-1)
        share /= np.abs(share).max(-1, keepdims=True)
        body.along, body.across = (share * half).T
        self.normals = np.sign(share) * (side[:, None] == np.arange(2))


def traffic(street: Street, times_s: Array, most: int, farthest_m: float, rng: np.random.Generator) -> list[Traveller]:
    """Those who pass while a drive lasts: seldom nobody in view, never more than `most`.

    They are drawn one after another, each so that it is in view at the frame that has had the fewest so far, of a class
    that has been in view less, and left out where it would run into somebody. A drive has a mean number of its own,
    from one to two thirds of `most`.

    Args:
        times_s: of the frames.
        most: in view at a time.
        farthest_m: range up to which somebody is in view.
        rng: everything is drawn from here.
    """
    present: list[Traveller] = []
    places: list[Array] = []
    count, of_class = np.zeros(len(times_s), dtype=int), np.zeros(len(CLASSES))
    mean = rng.uniform(1.0, max(1.0, most * 2 / 3))
    for _ in range(TRIES + len(times_s)):
        if count.min() >= 1 and count.mean() >= mean:
            break
        quiet = rng.choice(np.flatnonzero(count == count.min()))
        likely = EAGERNESS / (PATIENCE + of_class)
        name = str(rng.choice(CLASSES, p=likely / likely.sum()))
        one = _somebody(name, street, rng, float(times_s[quiet]), farthest_m)
        if one is None:
            continue
        centre = one.centre(times_s).T
        view = in_view(centre, street, farthest_m)
        near = np.hypot(*centre.T).min() < NEAREST_M / 2 + one.width_m
        if near or not view[quiet] or (count + view).max() > most:
            continue
        if any(_touch(one, centre, other, there, times_s) for other, there in zip(present, places, strict=True)):
            continue
        present.append(one)
        places.append(centre)
        count += view
        of_class[one.label] += view.sum()
    return present


def in_view(centre: Array, street: Street, farthest_m: float) -> NDArray[np.bool_]:
    """Whether places (..., 2) are ahead, near enough, and not behind a building."""
    distance = np.hypot(centre[..., 0], centre[..., 1])
    azimuth = np.degrees(np.arctan2(centre[..., 0], centre[..., 1]))
    near = (distance > NEAREST_M) & (distance < farthest_m) & (np.abs(azimuth) < WIDEST_DEG)
    return near & ~hidden(centre, street.walls)


def _somebody(
    name: str, street: Street, rng: np.random.Generator, time_s: float, farthest_m: float
) -> Traveller | None:
    """A road user who is somewhere ahead at that time, on the side of the street where it belongs."""
    speed = rng.uniform(*KINDS[name].speed_mps)
    sense, side = rng.choice([-1, 1]), rng.choice([-1, 1])
    walk = street.road_m + street.verge_m
    pavement = side * (walk + rng.uniform(0.5, street.pavement_m - 0.5))
    # Even in range and azimuth rather than along the street, or most would be far away.
    distance, azimuth = rng.uniform(NEAREST_M + 1, farthest_m), np.deg2rad(rng.uniform(-WIDEST_DEG, WIDEST_DEG))
    meeting = distance * np.array([np.sin(azimuth), np.cos(azimuth)])
    at = float(meeting @ street.along)
    if name == "pedestrian" and rng.random() < CROSSING:
        # Met in the middle of the carriageway; at most as far along it as one can see.
        other = -side * (walk + rng.uniform(0.5, street.pavement_m - 0.5))
        corners = [
            (at - sense * BEYOND_M, pavement),
            (at, pavement),
            (at + sense, other),
            (at + sense * BEYOND_M, other),
        ]
        way = street.plan(*np.array(corners).T)
        met = float(np.hypot(*np.diff(way[:3], axis=0).T) @ [1.0, 0.5])
    else:
        lane = {
            "pedestrian": pavement,
            "cyclist": sense * (street.road_m - rng.uniform(0.5, 0.8)),
            "car": sense * street.road_m * rng.uniform(0.43, 0.5),
        }[name]
        ends = at + sense * BEYOND_M * np.array([-1, 1])
        way, met = street.plan(ends, np.array([lane, lane])), BEYOND_M
    there = way[0] + (way[1] - way[0]) / np.hypot(*(way[1] - way[0])) * met if len(way) == 2 else way[1:3].mean(0)
    if not in_view(there, street, farthest_m):
        return None
    return Traveller(name, way, met - speed * time_s, speed, rng)


def _touch(one: Traveller, centre: Array, other: Traveller, there: Array, times_s: Array) -> bool:
    """Whether two come too near each other at any time, seen along and across the heading of the first."""
    ahead = one.direction(times_s).T
    apart = there - centre
    along = np.abs((apart * ahead).sum(-1))
    across = np.abs(apart[:, 0] * ahead[:, 1] - apart[:, 1] * ahead[:, 0])
    crosswise = np.abs((ahead * other.direction(times_s).T).sum(-1)) < 0.5
    length = np.where(crosswise, other.width_m, other.length_m)
    width = np.where(crosswise, other.length_m, other.width_m)
    return bool(((along < (one.length_m + length) / 2 + 0.6) & (across < (one.width_m + width) / 2 + 0.2)).any())
