"""Radar maps drawn as usual: range upward, units on the axes, decibels as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from maekit.data.sample import Axis

FRAMES_DRAWN = 4


def draw_maps(
    axes: Axes,
    x: Float[np.ndarray, "channel *axes"],
    map_axes: Sequence[Axis],
    *,
    unit: str,
    channels: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw the first channel of a map, or four frames of a clip side by side.

    All bins have the same size around their coordinates; an axis that is even in the sine of an angle is drawn so, with ticks in
    degrees. The colour scale starts at the first percentile, and NaN is gray.

    Args:
        axes: of matplotlib.
        x: values; the axis after the channel is that of the frames of a clip.
        map_axes: two, or three of a clip; range is drawn upward whichever axis it is.
        unit: of the values, at the colour bar.
        channels: names; the first is added to the title where there are several.
        title: of the figure.
    """
    from matplotlib import colormaps

    up, along = map_axes[-2:]
    frames = x[0].reshape(-1, up.length, along.length)
    if along.name == "range":
        up, along, frames = along, up, frames.swapaxes(1, 2)
    (left, right), (bottom, top) = _edges(along), _edges(up)
    shown = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES_DRAWN, len(frames))).round().astype(int))
    measured = frames[shown][np.isfinite(frames[shown])]
    low, high = np.percentile(measured, (1, 100)) if measured.size else (0.0, 1.0)
    colours = colormaps["viridis"].with_extremes(bad="0.75")
    pitch = 1.06 * (right - left)
    for location, frame in enumerate(shown):
        picture = axes.imshow(
            frames[frame],
            origin="lower",
            aspect="auto",
            cmap=colours,
            vmin=low,
            vmax=high,
            interpolation="nearest",
            extent=(left + location * pitch, right + location * pitch, bottom, top),
        )
    axes.set_xlim(left, right + (len(shown) - 1) * pitch)
    axes.set_ylim(bottom, top)
    axes.set_ylabel(_label(up))
    axes.set_xlabel(_label(along))
    for axis, ticks in ((up, axes.set_yticks), (along, axes.set_xticks)):
        if axis.spacing == "sine":
            angles = _angles(axis)
            ticks(_drawn(axis, angles), [f"{angle:g}" for angle in angles])
    if len(frames) > 1:
        clip = map_axes[0]
        middles = [(left + right) / 2 + location * pitch for location in range(len(shown))]
        axes.set_xticks(middles, [_position(clip, frame) for frame in shown])
        first, last = along.points()[[0, -1]]
        axes.set_xlabel(f"{_label(along)}: {first:.3g} to {last:.3g} in each")
        title = f"{title} ({len(shown)} of {len(frames)} along {clip.name})".strip()
    if len(x) > 1 and channels:
        title = f"{title} ({channels[0]})".strip()
    axes.set_title(title)
    axes.figure.colorbar(picture, ax=axes, label=unit, fraction=0.05, extend="min")


def drawn_at(map_axes: Sequence[Axis], where: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
    """From (..., 2) coordinates on a map's two axes to x and y in the figure of `draw_maps`."""
    first, second = map_axes[-2:]
    x, y = _drawn(second, where[..., 1]), _drawn(first, where[..., 0])
    return np.stack((y, x) if second.name == "range" else (x, y), -1)


def _drawn(axis: Axis, value: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """Position in the figure along one axis."""
    if axis.spacing != "sine":
        return value
    return np.sin(np.deg2rad(value) if axis.unit == "deg" else value)


def _angles(axis: Axis) -> NDArray[np.float64]:
    """Round angles for the ticks of an axis whose bins are even in the sine."""
    from matplotlib.ticker import MaxNLocator

    low, high = axis.points()[[0, -1]]
    found = np.asarray(MaxNLocator(7, steps=[1, 1.5, 2, 3, 5, 10]).tick_values(low, high))
    half, quarter = abs(axis.step or 0) / 2, 90.0 if axis.unit == "deg" else np.pi / 2
    limits = np.sin(np.deg2rad((low, high)) if axis.unit == "deg" else (low, high)) + np.array([-half, half])
    places = _drawn(axis, np.asarray(found))
    return np.asarray(
        found[(places >= limits[0]) & (places <= limits[1]) & (np.abs(found) <= quarter)], dtype=np.float64
    )


def _edges(axis: Axis) -> tuple[float, float]:
    """Outer edges of the first and last bin, as sines where the axis is even in the sine; `axis.start` is the middle of the first."""
    step = axis.step if axis.step is not None else 1.0
    return axis.start - step / 2, axis.start + step * (axis.length - 0.5)


def _label(axis: Axis) -> str:
    name = "Doppler" if axis.name == "doppler" else axis.name
    return f"{name} [{axis.unit or '?'}]" if axis.step is not None else f"{name} [bin]"


def _position(axis: Axis, index: int) -> str:
    if axis.step is None:
        return f"{axis.name} {index}"
    return f"{axis.start + index * axis.step:.3g} {axis.unit}".strip()
