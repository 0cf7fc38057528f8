"""A pinhole camera at the radar, and its view of a street without road users: colours, depth and surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.adapters.simulate.street_world import STOREY_M, Light, Street

Array = NDArray[Any]

SURFACES = ("building", "ground", "pole_or_tree")
SKY, BUILDING, GROUND, POST = -1, 0, 1, 2
FARTHEST_M = 100.0
"""Depth of the sky, and the largest depth."""
HAZE_M = 160.0
NEAREST_M = 0.2
"""Smallest depth in a projection; nearer points lie outside of the picture."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A level pinhole camera at the position of the radar, looking along y; x is to the right and z is up.

    Pixel (row, column) covers [row, row + 1) x [column, column + 1) of the image plane.

    Args:
        height, width: of the picture in pixels.
        field_deg: horizontal field of view.
        above_ground_m: height of the pinhole.
    """

    height: int = 64
    width: int = 128
    field_deg: float = 120.0
    above_ground_m: float = 1.6

    @property
    def focal(self) -> float:
        """Focal length in pixels; pixels are square."""
        return self.width / 2 / float(np.tan(np.deg2rad(self.field_deg / 2)))

    def project(self, points: Array) -> Array:
        """Project (..., 3) points x, y, z in m to (..., 2) column and row in fractional pixels."""
        x, y, z = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        y = np.maximum(y, NEAREST_M)
        return np.stack(
            [self.width / 2 + self.focal * x / y, self.height / 2 + self.focal * (self.above_ground_m - z) / y], -1
        )

    def finer(self, times: int) -> Camera:
        """The same camera with `times` as many pixels along each side."""
        return Camera(self.height * times, self.width * times, self.field_deg, self.above_ground_m)


@dataclass(slots=True)
class CameraView:
    """Picture, depth and surfaces of a camera.

    Attributes:
        colour: (height, width, 3) 0 to 255, float.
        depth_m: (height, width) along the optical axis, `FARTHEST_M` in the sky.
        surface: (height, width) index into `SURFACES`, -1 in the sky.
    """

    colour: Array
    depth_m: Array
    surface: Array


def look(street: Street, camera: Camera) -> CameraView:
    """Render the street without road users: each pixel shows the nearest surface along its ray."""
    columns = np.arange(camera.width) + 0.5 - camera.width / 2
    rows = camera.height / 2 - np.arange(camera.height) - 0.5
    tangent, rise = columns / camera.focal, rows / camera.focal
    view = _ground_and_sky(street, camera, tangent, rise)
    _walls(view, street, camera, tangent, rise)
    _posts(view, street, camera, tangent, rise)
    haze = np.exp(-view.depth_m / HAZE_M)[..., None]
    haze = np.where(view.surface[..., None] == SKY, 1.0, haze)
    view.colour = lit(view.colour * haze + street.light.sky[0] * (1 - haze), street.light)
    return view


def semantic_depth(view: CameraView) -> Array:
    """(1 + surfaces, height, width) float32: depth in m, then a mask of each of `SURFACES`."""
    seen = view.surface == np.arange(len(SURFACES))[:, None, None]
    return np.concatenate([view.depth_m[None], seen]).astype(np.float32)


def lit(colour: Array, light: Light) -> Array:
    """Apply the light to colours (..., 3) as at noon."""
    return np.clip(colour * light.strength * light.tint, 0, 255)


def _ground_and_sky(street: Street, camera: Camera, tangent: Array, rise: Array) -> CameraView:
    shape = (camera.height, camera.width)
    below = rise < -1e-6
    y = np.where(below, camera.above_ground_m / np.maximum(-rise, 1e-6), np.inf)
    down = (y < FARTHEST_M)[:, None].repeat(camera.width, 1)
    near = np.where(y < FARTHEST_M, y, FARTHEST_M)[:, None]
    x = near * tangent
    along = x * street.along[0] + near * street.along[1]
    across = x * street.across[0] + near * street.across[1] + street.radar_across_m
    away = np.abs(across)
    ground = np.empty((*shape, 3))
    ground[:] = 0.8 * street.paving
    ground[away < street.facade_m + 1.2] = street.paving
    ground[away < street.road_m + street.verge_m] = street.verge
    ground[away < street.road_m] = street.asphalt
    ground[(away > street.road_m - 0.05) & (away < street.road_m + 0.15)] = 1.15 * street.paving
    ground[(away < 0.08) & (along % 6 < 3)] = 225.0
    grain = _hash(np.floor(along / 0.4), np.floor(across / 0.4))
    ground *= (0.93 + 0.14 * grain)[..., None]
    up = np.clip(rise / 0.7, 0, 1)[:, None, None]
    sky = (street.light.sky[0] * (1 - up) + street.light.sky[1] * up).repeat(camera.width, 1)
    return CameraView(
        np.where(down[..., None], ground, sky), np.where(down, near, FARTHEST_M), np.where(down, GROUND, SKY)
    )


def _walls(view: CameraView, street: Street, camera: Camera, tangent: Array, rise: Array) -> None:
    """Facades; an upright wall has the same depth in a whole column of the picture."""
    rays = np.stack([tangent, np.ones_like(tangent)], -1)
    for wall, depth in enumerate(street.crossings(rays)):
        met = np.flatnonzero(depth < FARTHEST_M)
        if not len(met) or (street.facing[wall] * street.walls[wall, 0]).sum() > 0:
            continue
        part = slice(met[0], met[-1] + 1)
        y = np.where(depth < FARTHEST_M, depth, FARTHEST_M)[part]
        z = camera.above_ground_m + rise[:, None] * y
        seen = (z >= 0) & (z <= street.wall_height_m[wall]) & (y < view.depth_m[:, part])
        if not seen.any():
            continue
        places = rays[part] * y[:, None]
        at = np.hypot(*(places - street.walls[wall, 0]).T)
        row, column = np.nonzero(seen)
        view.colour[row, column + met[0]] = _facade(street, wall, at[column], z[row, column])
        view.depth_m[row, column + met[0]] = y[column]
        view.surface[row, column + met[0]] = BUILDING


def _facade(street: Street, wall: int, at: Array, z: Array) -> Array:
    """Colours of points on a wall: paint, rows of windows of which some are lit, a darker base and a ledge."""
    building = street.wall_building[wall]
    (wide, period), height = street.window_m[building], street.wall_height_m[wall]
    shade = 0.72 + 0.28 * max(0.0, float(street.facing[wall] @ street.light.sun))
    grain = _hash(np.floor(at / 0.3) + 977 * wall, np.floor(z / 0.15))
    colour = street.colours[building] * (shade * (0.94 + 0.12 * grain))[:, None]
    colour[(z < 0.6) | (z > height - 0.35)] *= 0.7
    column, storey = np.floor(at / period), np.floor(z / STOREY_M)
    in_window = (
        (np.abs(at - (column + 0.5) * period) < wide / 2)
        & (z % STOREY_M > 0.95)
        & (z % STOREY_M < 2.4)
        & (z < height - 0.6)
    )
    glow = _hash(column + 31 * wall, storey + 7) < street.lit[building]
    colour[in_window & ~glow] = shade * np.array([58, 70, 84])
    colour[in_window & glow] = np.array([238, 206, 128]) / street.light.strength * 0.8
    return colour


def _posts(view: CameraView, street: Street, camera: Camera, tangent: Array, rise: Array) -> None:
    """Poles and trunks as vertical strips and crowns as discs, each at the depth of its axis and facing the camera."""
    bark, metal, leaves = np.array([92, 72, 54]), np.array([96, 100, 104]), np.array([74, 108, 48])
    for (x, y, radius, height), wood in zip(street.posts, street.wooden, strict=True):
        if y > 1.0:
            across, z = tangent * y - x, camera.above_ground_m + rise * y
            inside = (np.abs(across) < radius)[None] & ((z > 0) & (z < height))[:, None] & (y < view.depth_m)
            row, column = np.nonzero(inside)
            view.colour[row, column] = (bark if wood else metal) * (1 - 0.3 * across[column] / radius)[:, None]
            view.depth_m[inside], view.surface[inside] = y, POST
    for x, y, middle, radius in street.crowns:
        if y > 1.0:
            across, z = tangent * y - x, camera.above_ground_m + rise * y - middle
            grain = _hash(np.floor(across / 0.22)[None] + 13 * x, np.floor(z / 0.22)[:, None] + 17 * y)
            edge = across[None] ** 2 + z[:, None] ** 2
            inside = (edge < radius**2 * (0.75 + 0.35 * grain)) & (y < view.depth_m)
            row, column = np.nonzero(inside)
            bright = 0.8 + 0.5 * (grain[row, column] - 0.5) + 0.25 * z[row] / radius
            view.colour[row, column] = leaves * bright[:, None]
            view.depth_m[inside], view.surface[inside] = y, POST


def _hash(a: Array, b: Array) -> Array:
    """Deterministic pseudo-random number from 0 to 1 of two numbers."""
    return np.modf(np.abs(np.sin(a * 12.9898 + b * 78.233) * 43758.5453))[0]
