"""Traffic on a simulated street: cars and cyclists on the carriageway, pedestrians on the pavements, some of whom cross."""

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
"""Share of pedestrians that cross the carriageway."""
BEYOND_M = 80.0
TRIES = 200
"""Attempts to place road users, in addition to one per frame."""
PATIENCE, EAGERNESS = 8, np.array([1.0, 1.5, 3.0])
"""Frames in view after which a class is drawn half as often, and relative frequency of each class; cars leave the view soon."""
HEIGHT_M = {"pedestrian": (1.55, 1.92), "cyclist": (1.65, 1.85), "car": (1.4, 1.75)}
BEHIND_DB = -10.0
"""Two-way attenuation behind a car, where part of the echo passes below, above and around it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Scatterers at one moment; (scatterer,) each.

    Attributes:
        places: (scatterer, 2) positions in m.
        range_m: range.
        sine: of the azimuth, positive to the right.
        velocity_mps: radial velocity, positive receding.
    """

    places: Array
    range_m: Array
    sine: Array
    velocity_mps: Array


class Traveller:
    """A road user on a path through a street at constant speed.

    Args:
        name: one of `CLASSES`.
        way: (corner, 2) path in m, straight between the corners.
        at_m: distance travelled along the path at time zero.
        speed_mps: speed.
        rng: source of size, colours and scatterers.
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
        """(2, time) position of the body in m."""
        gone = np.concatenate([[0.0], self.leg_m.cumsum()])
        return np.stack([np.interp(self.at_m + self.speed_mps * time_s, gone, part) for part in self.way.T])

    def direction(self, time_s: Array) -> Array:
        """(2, time) unit vector of the heading."""
        turns = self.leg_m.cumsum()[:-1]
        return self.headings[np.searchsorted(turns, self.at_m + self.speed_mps * np.asarray(time_s))].T

    def under_way(self, time_s: float) -> bool:
        """Whether the road user is on its path, whose ends are far outside of the range."""
        return bool(0 < self.at_m + self.speed_mps * time_s < self.leg_m.sum())

    def footprint(self, time_s: float) -> Array:
        """(4, 2) corners of its footprint, clockwise from the front left."""
        (x, y), (ahead_x, ahead_y) = self.centre(np.array([time_s]))[:, 0], self.direction(np.array([time_s]))[:, 0]
        ahead = 0.5 * self.length_m * np.array([ahead_x, ahead_y])
        left = 0.5 * self.width_m * np.array([-ahead_y, ahead_x])
        return np.array([x, y]) + np.array([ahead + left, ahead - left, -ahead - left, -ahead + left])

    def seen(self, time_s: float, span_s: float = 1e-3) -> Seen:
        """Scatterers at one moment, with velocities from the motion within `span_s` around it."""
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
        """(scatterer,) share of the cross section towards the radar, which depends on the side of a car."""
        if self.normals is None:
            return np.ones(len(seen.range_m))
        ahead = self.direction(np.array([time_s]))[:, 0]
        towards = -seen.places / seen.range_m[:, None]
        facing = towards @ ahead * self.normals[:, 0] + towards @ np.array([-ahead[1], ahead[0]]) * self.normals[:, 1]
        return 0.1 + 2 * np.clip(facing, 0, None)

    def _on_the_outside(self) -> None:
        """Move the scatterers of a car to its four sides, each with the outward normal (ahead, left)."""
        body, half = self.body, np.array([self.length_m / 2, self.width_m / 2])
        share = np.stack([body.along * 2 / self.kind.length_m, body.across * 2 / self.kind.width_m], -1)
        side = np.abs(share).argmax(-1)
        share /= np.abs(share).max(-1, keepdims=True)
        body.along, body.across = (share * half).T
        self.normals = np.sign(share) * (side[:, None] == np.arange(2))


def traffic(street: Street, times_s: Array, most: int, farthest_m: float, rng: np.random.Generator) -> list[Traveller]:
    """Road users of a drive: rarely nobody in view, never more than `most`.

    They are drawn one after the other, each in view at the frame with the fewest so far, preferably of a class that was in view
    less, and discarded if they would collide. The mean number in view differs between drives, from one to two thirds of `most`.

    Args:
        street: on which they move.
        times_s: of the frames.
        most: largest number in view at a time.
        farthest_m: largest range in view.
        rng: source of all random properties.
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
        one = _road_user(name, street, rng, float(times_s[quiet]), farthest_m)
        if one is None:
            continue
        centre = one.centre(times_s).T
        view = in_view(centre, street, farthest_m)
        near = np.hypot(*centre.T).min() < NEAREST_M / 2 + one.width_m
        if near or not view[quiet] or (count + view).max() > most:
            continue
        if any(_collide(one, centre, other, there, times_s) for other, there in zip(present, places, strict=True)):
            continue
        present.append(one)
        places.append(centre)
        count += view
        of_class[one.label] += view.sum()
    return present


def in_view(centre: Array, street: Street, farthest_m: float) -> NDArray[np.bool_]:
    """Whether positions (..., 2) are within the range and the azimuths in view, and not behind a building."""
    distance = np.hypot(centre[..., 0], centre[..., 1])
    azimuth = np.degrees(np.arctan2(centre[..., 0], centre[..., 1]))
    near = (distance > NEAREST_M) & (distance < farthest_m) & (np.abs(azimuth) < WIDEST_DEG)
    return near & ~hidden(centre, street.walls)


def _road_user(
    name: str, street: Street, rng: np.random.Generator, time_s: float, farthest_m: float
) -> Traveller | None:
    """A road user in front of the radar at that time, on its side of the street; None if it is not in view."""
    speed = rng.uniform(*KINDS[name].speed_mps)
    sense, side = rng.choice([-1, 1]), rng.choice([-1, 1])
    walk = street.road_m + street.verge_m
    pavement = side * (walk + rng.uniform(0.5, street.pavement_m - 0.5))
    # Uniform in range and azimuth; uniform along the street, most would be far away.
    distance, azimuth = rng.uniform(NEAREST_M + 1, farthest_m), np.deg2rad(rng.uniform(-WIDEST_DEG, WIDEST_DEG))
    meeting = distance * np.array([np.sin(azimuth), np.cos(azimuth)])
    at = float(meeting @ street.along)
    if name == "pedestrian" and rng.random() < CROSSING:
        # At that time it is in the middle of the carriageway.
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


def _collide(one: Traveller, centre: Array, other: Traveller, there: Array, times_s: Array) -> bool:
    """Whether two road users come too close at any time, along and across the heading of the first."""
    ahead = one.direction(times_s).T
    apart = there - centre
    along = np.abs((apart * ahead).sum(-1))
    across = np.abs(apart[:, 0] * ahead[:, 1] - apart[:, 1] * ahead[:, 0])
    crosswise = np.abs((ahead * other.direction(times_s).T).sum(-1)) < 0.5
    length = np.where(crosswise, other.width_m, other.length_m)
    width = np.where(crosswise, other.length_m, other.width_m)
    return bool(((along < (one.length_m + length) / 2 + 0.6) & (across < (one.width_m + width) / 2 + 0.2)).any())
