"""Maps and objects from the formats of published radar data sets: functions that data specs name under `through`.

Objects are rows whose columns have the names and units of the maps' axes: range in m, azimuth in degrees (positive to the right
of boresight), Doppler in m/s (positive receding), `class` as an index, and box sizes as `<axis>_extent`. Maps and objects of a
data set with other conventions are flipped here, so that all converted sets agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch.nn.functional import adaptive_avg_pool2d

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Transformed

    Array = NDArray[Any]

POLAR = ("range", "azimuth", "class")
BOXES = ("range", "azimuth", "doppler", "class", "range_extent", "azimuth_extent", "doppler_extent")


def power_map(
    values: Array, *, pairs: bool = False, over: Sequence[int] = (), flip: Sequence[int] = (), floor: float = 1e-12
) -> Transformed:
    """Power in dB re 1 of the stored unit from complex amplitudes, averaged over some axes (chirps, receivers).

    Args:
        values: complex, or with `pairs` real and imaginary parts in a last axis of 2.
        pairs: whether a last axis of 2 holds real and imaginary parts.
        over: axes over which power is averaged.
        flip: remaining axes to reverse.
        floor: lower limit of the power, since zero has no decibels.

    Raises:
        ValueError: values of another type or shape.
    """
    if pairs and values.shape[-1:] != (2,):
        raise ValueError(f"shape {values.shape}, expected a last axis of 2: real and imaginary part")
    if not pairs and values.dtype.kind != "c":
        raise ValueError(f"numbers of type {values.dtype}, expected complex ones")
    axes = values.ndim - pairs
    if any(not 0 <= axis < axes for axis in over):
        raise ValueError(f"`over` {list(over)}, but the axes are 0 to {axes - 1}")
    power = np.square(values, dtype=np.float32).sum(-1) if pairs else np.square(values.real) + np.square(values.imag)
    power = power.mean(axis=tuple(over)) if over else power
    decibels = 10 * np.log10(np.maximum(power, np.float32(floor)))
    return np.flip(decibels, tuple(flip)).astype(np.float32), {}, []


def oriented(values: Array, *, flip: Sequence[int]) -> Transformed:
    """A stored map with some axes reversed."""
    return np.ascontiguousarray(np.flip(values, tuple(flip))).astype(np.float32), {}, []


def polar_objects(document: Any, *, classes: Sequence[str], angle: str = "rad") -> Transformed:
    """Objects by frame from lines `frame range azimuth class` (CRUW, RadarCity) of one file or several.

    Args:
        document: words of each line; range in m.
        classes: names in the order of their index.
        angle: unit of the azimuth, `rad` or `deg`.

    Raises:
        UserError: a line of another format, or an unknown class.
    """
    one = all(line and isinstance(line[0], str) for line in document)
    lines = document if one else [line for part in document for line in part]
    scale = {"rad": 180 / math.pi, "deg": 1.0}[angle]
    found: dict[int, list[tuple[float, ...]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            frame, distance, azimuth, name = line
            location = (float(distance), float(azimuth) * scale)
            found.setdefault(int(frame), []).append((*location, _class_of(name, classes)))
        except ValueError:
            raise UserError(
                "a line that is no object",
                value=" ".join(line) + f" (line {number})",
                expected="frame, range, azimuth, class",
            ) from None
    return found, {"columns": POLAR}, []  # type: ignore[return-value]


def cartesian_objects(values: NDArray[Any], *, codes: Sequence[float]) -> Transformed:
    """Objects of one frame from a table of their class and place on the ground, as the Raw ADC radar dataset (UWCR) has it.

    Args:
        values: (object, 3) class code, distance to the right in m, distance ahead in m; no rows for no objects.
        codes: class codes of the files, in the order of the classes of the data spec.

    Returns:
        (object, 3) range in m, azimuth in degrees, index of the class.

    Raises:
        UserError: other columns, or a code that is not listed.
    """
    if values.ndim != 2 or values.shape[1] != 3:
        raise UserError(
            "not the class and place of objects",
            value=values.shape,
            expected="(object, 3): `columns` of class, distance to the right, distance ahead",
        )
    right, ahead = values[:, 1], values[:, 2]
    unknown = set(values[:, 0].tolist()) - set(map(float, codes))
    if unknown:
        raise UserError(
            "an unknown class",
            value=min(unknown),
            expected="one of " + ", ".join(f"{code:g}" for code in codes),
            hint="Add its code to `codes`, and its name to the classes of the data spec in the same place.",
        )
    index = [list(map(float, codes)).index(code) for code in values[:, 0].tolist()]
    table = np.stack([np.hypot(right, ahead), np.degrees(np.arctan2(right, ahead)), np.array(index)], axis=-1)
    return table.reshape(-1, 3), {"columns": POLAR}, []


def carrada_objects(
    document: Any,
    *,
    classes: Sequence[str],
    range_m: float,
    azimuth_deg: float,
    doppler_ms: float,
    bins: tuple[int, int, int] = (256, 256, 64),
) -> Transformed:
    """Objects by frame from the boxes of CARRADA (`range_angle_light.json` and `range_doppler_light.json`, in this order).

    Boxes are [row, column, row, column] on maps whose first row is far (range-angle) or near (range-Doppler) and whose positive
    Doppler is approaching; both maps are reversed when converted (`oriented`). Range is taken from the range-angle box. Frames in
    which the two files disagree about the objects are left out.

    Args:
        document: the two files: {frame: {"boxes": [...], "labels": [1, ...]}}.
        classes: names of the labels 1, 2, ...
        range_m: size of a range bin.
        azimuth_deg: size of an azimuth bin.
        doppler_ms: size of a Doppler bin in m/s.
        bins: numbers of bins along range, azimuth and Doppler.

    Raises:
        ValueError: other files, or an unknown label.
    """
    if not isinstance(document, list) or len(document) != 2 or not all(isinstance(part, dict) for part in document):
        raise ValueError("expected two files, of boxes in range and angle and in range and Doppler")
    by_angle, by_doppler = document
    found: dict[int, list[tuple[float, ...]]] = {}
    odd = 0
    for frame, boxes in by_angle.items():
        other = by_doppler.get(frame, {"labels": None})
        if other["labels"] != boxes["labels"] or len(boxes["boxes"]) != len(other["boxes"]):
            odd += 1
            continue
        rows = found.setdefault(int(frame), [])
        for (top, left, bottom, right), (_, slow, _, fast), label in zip(
            boxes["boxes"], other["boxes"], boxes["labels"], strict=True
        ):
            if not 1 <= label <= len(classes):
                raise ValueError(f"label {label} in frame {frame}, expected 1 to {len(classes)}")
            rows.append(
                (
                    (bins[0] - 1 - (top + bottom) / 2) * range_m,
                    ((left + right) / 2 - bins[1] // 2) * azimuth_deg,
                    (bins[2] // 2 - (slow + fast) / 2) * doppler_ms,
                    label - 1,
                    (bottom - top) * range_m,
                    (right - left) * azimuth_deg,
                    (fast - slow) * doppler_ms,
                )
            )
    findings = [f"{odd} frames left out, for which the two files of boxes disagree"] if odd else []
    return found, {"columns": BOXES}, findings  # type: ignore[return-value]


def raddet_objects(
    document: Any,
    *,
    classes: Sequence[str],
    range_m: float,
    azimuth_sine: float,
    doppler_ms: float,
    bins: tuple[int, int, int] = (256, 256, 64),
) -> Transformed:
    """Objects of one frame from the boxes of RADDet: centres and sizes in bins of range (the first is farthest), azimuth, Doppler.

    Args:
        document: {"classes": names, "boxes": (object, 6)}.
        classes: names in the order of their index.
        range_m: size of a range bin.
        azimuth_sine: size of an azimuth bin, as a sine; the middle bin is boresight.
        doppler_ms: size of a Doppler bin in m/s; the middle bin is zero.
        bins: numbers of bins along range, azimuth and Doppler.

    Raises:
        ValueError: other contents.
    """
    if not isinstance(document, Mapping) or not {"classes", "boxes"} <= set(document):
        raise ValueError("expected `classes` and `boxes`")
    boxes = np.asarray(document["boxes"], dtype=np.float64).reshape(-1, 6)
    names = [str(name) for name in document["classes"]]
    if len(boxes) != len(names):
        raise ValueError(f"{len(boxes)} boxes, but {len(names)} classes")
    rows = []
    for (far, across, fast, length, width, spread), name in zip(boxes.tolist(), names, strict=True):
        left, middle, right = (
            math.degrees(math.asin(max(-1.0, min(1.0, (across + side * width / 2 - bins[1] // 2) * azimuth_sine))))
            for side in (-1, 0, 1)
        )
        rows.append(
            (
                (bins[0] - 1 - far) * range_m,
                middle,
                (fast - bins[2] // 2) * doppler_ms,
                _class_of(name, classes),
                length * range_m,
                right - left,
                spread * doppler_ms,
            )
        )
    return np.array(rows, dtype=np.float32).reshape(-1, len(BOXES)), {"columns": BOXES}, []


def point_map(points: Array, *, axes: Sequence[Mapping[str, Any]]) -> Transformed:
    """Map with the number of detected cells in each bin.

    Args:
        points: (cell, column).
        axes: of the map: `column` of the points, `start` and `step` of the bin centres, number of `bins`, and `cosine: true` where
            bins are even in the cosine of the column.

    Raises:
        ValueError: cells outside of the map.
    """
    shape = tuple(int(axis["bins"]) for axis in axes)
    places = []
    for axis, bins in zip(axes, shape, strict=True):
        along = points[:, axis["column"]].astype(np.float64)
        along = np.cos(along) if axis.get("cosine") else along
        location = np.round((along - axis["start"]) / axis["step"]).astype(np.int64)
        if len(location) and (location.min() < 0 or location.max() >= bins):
            raise ValueError(
                f"cells in bins {location.min()} to {location.max()} of column {axis['column']}, of {bins}"
            )
        places.append(location)
    counted = np.zeros(shape, dtype=np.float32)
    np.add.at(counted, tuple(places), 1)
    return counted, {}, []


def point_objects(points: Array, *, label: int, steps: tuple[float, float, float]) -> Transformed:
    """Objects of one class from clusters of detected cells: mean position and extent.

    Args:
        points: (cell, column): range in m, azimuth in rad counter-clockwise from the right (pi / 2: boresight), velocity
            in m/s, and the number of the cluster, negative for none.
        label: column with the number of the cluster.
        steps: bin sizes in range (m), sine of the azimuth, velocity (m/s).
    """
    rows = []
    for cluster in np.unique(points[:, label][points[:, label] >= 0]):
        cells = points[points[:, label] == cluster].astype(np.float64)
        distance, sine, speed = cells[:, 0], np.cos(cells[:, 1]), cells[:, 2]
        edges = np.degrees(np.arcsin(np.clip([sine.min() - steps[1] / 2, sine.max() + steps[1] / 2], -1, 1)))
        rows.append(
            (
                distance.mean(),
                math.degrees(math.asin(sine.mean())),
                speed.mean(),
                0,
                np.ptp(distance) + steps[0],
                edges[1] - edges[0],
                np.ptp(speed) + steps[2],
            )
        )
    return np.array(rows, dtype=np.float32).reshape(-1, len(BOXES)), {"columns": BOXES}, []


def shrunk(picture: Array, *, by: int, left_half: bool = False) -> Transformed:
    """A picture (height, width, channel) reduced by a factor along each side, by averaging.

    Args:
        picture: uint8.
        by: factor; sides are rounded down.
        left_half: use the left one of two pictures side by side.

    Raises:
        ValueError: another shape, or fewer pixels than `by`.
    """
    if picture.ndim != 3 or min(picture.shape[:2]) < by:
        raise ValueError(f"a picture of {picture.shape}, expected (height, width, channel), at least {by} each way")
    if left_half:
        picture = picture[:, : picture.shape[1] // 2]
    channels = rearrange(
        torch.from_numpy(np.ascontiguousarray(picture)).float(), "height width channel -> channel height width"
    )
    small = adaptive_avg_pool2d(channels, (picture.shape[0] // by, picture.shape[1] // by))
    return rearrange(small.round().to(torch.uint8), "channel height width -> height width channel").numpy(), {}, []


TRANSFORMATIONS = {
    "power_map": power_map,
    "oriented": oriented,
    "polar_objects": polar_objects,
    "carrada_objects": carrada_objects,
    "cartesian_objects": cartesian_objects,
    "raddet_objects": raddet_objects,
    "point_map": point_map,
    "point_objects": point_objects,
    "shrunk": shrunk,
}


def _class_of(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise UserError(
            "an unknown class",
            value=name,
            expected="one of " + ", ".join(classes),
            hint=nearest(name, classes) or "Add it to the classes of the data spec, here and in `label`.",
        )
    return list(classes).index(name)
