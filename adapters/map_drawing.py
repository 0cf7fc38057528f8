"""Radar maps as people of the field draw them: range upward, units on the axes, decibels in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """The first channel of a map, or of a clip four frames side by side.

    Bins are drawn around their coordinates. Colours start at the first percentile, and NaN is gray.

    Args:
        axes: of matplotlib.
        x: values; of a clip the first axis is that of its frames.
        map_axes: two, or three of a clip; range goes upward wherever it stands.
        unit: of the values, beside the colours.
        channels: names; the first is said where there are several.
        title: above it all.
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
    for place, frame in enumerate(shown):
        picture = axes.imshow(
            frames[frame], origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest",
            extent=(left + place * pitch, right + place * pitch, bottom, top),
        )  # fmt: skip
    axes.set_xlim(left, right + (len(shown) - 1) * pitch)
    axes.set_ylim(bottom, top)
    axes.set_ylabel(_label(up))
    axes.set_xlabel(_label(along))
    if len(frames) > 1:
        clip = map_axes[0]
        middles = [(left + right) / 2 + place * pitch for place in range(len(shown))]
        axes.set_xticks(middles, [_position(clip, frame) for frame in shown])
        axes.set_xlabel(f"{_label(along)}: {left:.3g} to {right:.3g} in each")
        title = f"{title} ({len(shown)} of {len(frames)} along {clip.name})".strip()
    if len(x) > 1 and channels:
        title = f"{title} ({channels[0]})".strip()
    axes.set_title(title)
    axes.figure.colorbar(picture, ax=axes, label=unit, fraction=0.05, extend="min")


def _edges(axis: Axis) -> tuple[float, float]:
    """Outer edges of the first and last bin; `axis.start` is the middle of the first."""
    step = axis.step if axis.step is not None else 1.0
    return axis.start - step / 2, axis.start + step * (axis.length - 0.5)


def _label(axis: Axis) -> str:
    name = "Doppler" if axis.name == "doppler" else axis.name
    return f"{name} [{axis.unit or '?'}]" if axis.step is not None else f"{name} [bin]"


def _position(axis: Axis, index: int) -> str:
    if axis.step is None:
        return f"{axis.name} {index}"
    return f"{axis.start + index * axis.step:.3g} {axis.unit}".strip()
