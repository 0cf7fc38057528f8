"""Rendering of road users into the picture of a street: simple bodies of projected polygons, far ones first, with occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from maekit.adapters.simulate.street_camera import GROUND, Camera, CameraView, lit
from maekit.adapters.simulate.street_traffic import Traveller
from maekit.adapters.simulate.street_world import Light

Array = NDArray[Any]

SKIN, TYRE, GLASS = np.array([205, 160, 130]), np.array([28, 28, 30]), np.array([46, 58, 72])
WHEEL_M = 0.32
CYCLE_WHEEL_M = 0.34
ROUND = np.linspace(0, 2 * np.pi, 16, endpoint=False)


@dataclass(slots=True)
class Pen:
    """Draws in the coordinates of one road user: (along its heading, to its left, up) in m from the ground below its centre."""

    draw: ImageDraw.ImageDraw
    camera: Camera
    light: Light
    centre: Array
    ahead: Array
    corner: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels per metre at the depth of the centre."""
        return self.camera.focal / max(float(self.centre[1]), 0.3)

    def at(self, points: ArrayLike) -> list[tuple[float, float]]:
        """Pixel coordinates of points, relative to the corner of the drawn region."""
        places = np.asarray(points, dtype=np.float64)
        left = np.array([-self.ahead[1], self.ahead[0]])
        plan = self.centre + places[:, :1] * self.ahead + places[:, 1:2] * left
        pixels = self.camera.project(np.concatenate([plan, places[:, 2:]], 1)) - self.corner
        return [(float(u), float(v)) for u, v in pixels]

    def face(self, points: ArrayLike, colour: Array) -> None:
        """Draw a filled polygon."""
        self.draw.polygon(self.at(points), fill=self._fill(colour))

    def limb(self, points: ArrayLike, width_m: float, colour: Array) -> None:
        """Draw a line of this width."""
        width = max(1, round(width_m * self.scale))
        self.draw.line(self.at(points), fill=self._fill(colour), width=width, joint="curve")

    def ball(self, point: ArrayLike, radius_m: float, colour: Array, tall: float = 1.0) -> None:
        """Draw an ellipse that faces the camera, `tall` times taller than wide."""
        ((u, v),) = self.at(np.asarray(point)[None])
        wide, high = radius_m * self.scale, tall * radius_m * self.scale
        self.draw.ellipse((u - wide, v - high, u + wide, v + high), fill=self._fill(colour))

    def _fill(self, colour: Array) -> tuple[int, int, int]:
        red, green, blue = lit(np.asarray(colour), self.light).astype(int)
        return int(red), int(green), int(blue)


def render(view: CameraView, camera: Camera, light: Light, users: list[Traveller], time_s: float) -> Image.Image:
    """Render road users into the view of a street.

    Each is drawn as a whole at the depth of its centre, and hidden by nearer parts of the street.

    Args:
        view: the street without road users.
        camera: of the view.
        light: of the street.
        users: road users of the drive.
        time_s: of the frame.
    """
    picture = Image.fromarray(view.colour.astype(np.uint8))
    moment = np.array([time_s])
    placed = [(user.centre(moment)[:, 0], user) for user in users if user.under_way(time_s)]
    for centre, user in sorted(placed, key=lambda one: -one[0][1]):
        if centre[1] < 0.5:
            continue
        box = _box(user, centre, camera)
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        part = picture.crop(box)
        pen = Pen(ImageDraw.Draw(part), camera, light, centre, user.direction(moment)[:, 0], box[:2])
        _shadow(pen, user)
        {"pedestrian": _pedestrian, "cyclist": _cyclist, "car": _car}[user.name](pen, user, time_s)
        behind = view.depth_m[box[1] : box[3], box[0] : box[2]] > centre[1] - 0.5 * user.width_m
        # The ground is below road users and never hides them.
        under = view.surface[box[1] : box[3], box[0] : box[2]] == GROUND
        picture.paste(part, box[:2], Image.fromarray(behind | under))
    return picture


def _box(user: Traveller, centre: Array, camera: Camera) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of a road user in the picture."""
    reach = 0.5 * float(np.hypot(user.length_m + 0.8, user.width_m + 0.4))
    corners = np.array(
        [(centre[0] + i * reach, centre[1] + j * reach, z) for i in (-1, 1) for j in (-1, 1) for z in (0.0, 2.0)]
    )
    pixels = camera.project(corners)
    low, high = np.floor(pixels.min(0)) - 2, np.ceil(pixels.max(0)) + 2
    left, top = np.clip(low, 0, (camera.width, camera.height)).astype(int)
    right, bottom = np.clip(high, 0, (camera.width, camera.height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _shadow(pen: Pen, user: Traveller) -> None:
    """Dark shadow on the ground below."""
    along, across = 0.52 * max(user.length_m, 0.4), 0.52 * user.width_m
    rim = np.stack([along * np.cos(ROUND), across * np.sin(ROUND), np.zeros_like(ROUND)], -1)
    pen.face(rim, np.array([46, 46, 50]))


def _pedestrian(pen: Pen, user: Traveller, time_s: float) -> None:
    """A person whose legs and arms swing with the scatterers, the two sides in opposite phase."""
    body, tall = user.body, user.height_m
    coat, trousers, hair = user.colours
    turn = 2 * np.pi * body.stride_hz
    step = 0.8 * user.kind.swing_mps / turn * np.sin(turn * time_s + body.swing_phase[0])
    hip, shoulder = 0.5 * tall, 0.82 * tall
    for side, swing in ((0.1, step), (-0.1, -step)):
        knee = 0.55 * swing + 0.04
        pen.limb([(0, side, hip), (knee, side, 0.27 * tall), (swing, side, 0.03)], 0.15, trousers)
    for side, swing in ((0.24, -step), (-0.24, step)):
        pen.limb(
            [(0, side, shoulder), (0.3 * swing, side, 0.64 * tall), (0.6 * swing, side, 0.48 * tall)], 0.1, coat * 0.9
        )
    for z in np.linspace(hip, shoulder, 4):
        pen.ball((0, 0, z), 0.17 + 0.05 * (z - hip) / (shoulder - hip), coat)
    pen.ball((0, 0, 0.92 * tall), 0.11, SKIN, tall=1.2)
    pen.ball((-0.02, 0, 0.955 * tall), 0.1, 0.5 * hair, tall=0.6)


def _cyclist(pen: Pen, user: Traveller, time_s: float) -> None:
    """Two wheels, a frame, and a rider whose feet move with the scatterers of the pedals."""
    body, tall = user.body, user.height_m
    jersey, trousers, frame = user.colours
    half = 0.5 * user.length_m - CYCLE_WHEEL_M
    for along in (-half, half):
        rim = np.stack([along + CYCLE_WHEEL_M * np.cos(ROUND), 0 * ROUND, CYCLE_WHEEL_M * (1 + np.sin(ROUND))], -1)
        pen.limb(np.concatenate([rim, rim[:2]]), 0.06, TYRE)
    pedals, saddle, bar = _place(-0.05, 0, 0.3), _place(-0.2, 0, 0.92), _place(half - 0.12, 0, 1.0)
    pen.limb([_place(-half, 0, CYCLE_WHEEL_M), pedals, saddle, _place(-half, 0, CYCLE_WHEEL_M)], 0.05, frame)
    pen.limb([saddle - _place(0, 0, 0.12), bar - _place(0, 0, 0.15), pedals], 0.05, frame)
    pen.limb([bar, _place(half, 0, CYCLE_WHEEL_M)], 0.05, frame)
    angle = 2 * np.pi * body.stride_hz * time_s + body.swing_phase[0]
    hip, shoulder = saddle + _place(0, 0, 0.06), _place(0.16, 0, 0.8 * tall)
    for side, phase in ((0.12, angle), (-0.12, angle + np.pi)):
        foot = pedals + _place(0.17 * np.sin(phase), side, 0.17 * np.cos(phase))
        knee = (hip + foot) / 2 + _place(0.18, side / 2, 0.08)
        pen.limb([hip, knee, foot], 0.13, trousers)
        pen.limb([shoulder + _place(0, 1.5 * side, -0.04), bar + _place(0, 1.8 * side, 0.02)], 0.09, jersey * 0.9)
    for share in np.linspace(0, 1, 4):
        pen.ball(hip + share * (shoulder - hip), 0.17, jersey)
    pen.ball(shoulder + _place(0.08, 0, 0.2), 0.12, SKIN, tall=1.2)
    pen.ball(shoulder + _place(0.06, 0, 0.27), 0.13, frame, tall=0.6)


def _car(pen: Pen, user: Traveller, _time_s: float) -> None:
    """A box on wheels with a narrower cabin; only the sides that face the camera are drawn, far ones first."""
    long, wide, tall = user.length_m / 2, user.width_m / 2, user.height_m
    body_colour = user.colours[0]
    waist = 0.58 * tall
    lower = _frustum((-long, long), (-long, long), wide, wide, 0.22, waist)
    upper = _frustum((-0.92 * long, 0.42 * long), (-0.62 * long, 0.1 * long), 0.94 * wide, 0.76 * wide, waist, tall)
    for face, points in _towards(pen, lower):
        shade = {"front": 0.95, "back": 0.85, "top": 1.1}.get(face, 0.75)
        pen.face(points, body_colour * shade)
        if face in ("left", "right"):
            y = points[0][1]
            for along in (-0.62 * long, 0.62 * long):
                for radius, colour in ((WHEEL_M, TYRE), (0.55 * WHEEL_M, TYRE + 110)):
                    rim = (along + radius * np.cos(ROUND), np.full_like(ROUND, y), WHEEL_M + radius * np.sin(ROUND))
                    pen.face(np.stack(rim, -1), colour)
        elif face in ("front", "back"):
            x, lamp = points[0][0], np.array([255, 250, 225]) if face == "front" else np.array([190, 24, 20])
            for left, right in ((0.95, 0.6), (-0.6, -0.95)):
                z = (0.66 * waist, 0.86 * waist)
                pen.face(
                    [(x, left * wide, z[0]), (x, right * wide, z[0]), (x, right * wide, z[1]), (x, left * wide, z[1])],
                    lamp / pen.light.strength,
                )
            pen.face(
                [(x, 0.9 * wide, 0.22), (x, -0.9 * wide, 0.22), (x, -0.9 * wide, 0.36), (x, 0.9 * wide, 0.36)],
                TYRE + 20,
            )
    for face, points in _towards(pen, upper):
        pen.face(points, body_colour * 1.12 if face == "top" else body_colour * 0.8)
        if face != "top":
            middle = np.mean(points, axis=0)
            pen.face(
                middle + 0.82 * (np.asarray(points) - middle), GLASS * (1.25 if face in ("front", "back") else 1.0)
            )


def _place(along: float, left: float, up: float) -> Array:
    return np.array([along, left, up])


def _frustum(
    low: tuple[float, float], high: tuple[float, float], wide: float, narrow: float, bottom: float, top: float
) -> dict[str, Array]:
    """Faces, each (4, 3), of a box whose top is shorter and narrower than its bottom; without the bottom."""
    (b0, b1), (t0, t1) = low, high
    return {
        "front": np.array([(b1, wide, bottom), (b1, -wide, bottom), (t1, -narrow, top), (t1, narrow, top)]),
        "back": np.array([(b0, -wide, bottom), (b0, wide, bottom), (t0, narrow, top), (t0, -narrow, top)]),
        "left": np.array([(b0, wide, bottom), (b1, wide, bottom), (t1, narrow, top), (t0, narrow, top)]),
        "right": np.array([(b1, -wide, bottom), (b0, -wide, bottom), (t0, -narrow, top), (t1, -narrow, top)]),
        "top": np.array([(t1, narrow, top), (t1, -narrow, top), (t0, -narrow, top), (t0, narrow, top)]),
    }


def _towards(pen: Pen, faces: dict[str, Array]) -> list[tuple[str, Array]]:
    """Faces of a convex body whose outside is visible."""
    left = np.array([-pen.ahead[1], pen.ahead[0]])
    eye = np.array([-pen.centre @ pen.ahead, -pen.centre @ left, pen.camera.above_ground_m])
    inside = np.mean([points.mean(0) for points in faces.values()], axis=0)
    shown = []
    for face, points in faces.items():
        normal = np.cross(points[1] - points[0], points[2] - points[0])
        normal = normal * np.sign(normal @ (points.mean(0) - inside))
        if normal @ (eye - points.mean(0)) > 0:
            shown.append((face, points))
    return shown
