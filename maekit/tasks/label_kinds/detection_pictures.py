"""Pictures of detections along a recording: one frame, or an animation, with true objects and a picture of the moment beside it."""

from __future__ import annotations

from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from maekit.files import replacing, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import RecordingReader
    from maekit.report.detection_figures import Scene, SceneView
    from maekit.tasks.label_kinds.detections import Frame
    from maekit.tasks.label_kinds.object_scenes import Moments, SceneMaker

ENDINGS = (".svg", ".png", ".gif")
ANIMATED = ".gif"
MOST_FRAMES = 100
"""Of an animation; of a longer recording every nth frame is drawn, so that file and memory do not grow with it."""
FASTEST_PER_S, USUAL_PER_S = 20.0, 10.0
FOR_COLOURS = 8
"""Frames, evenly spread, that the colour limits of an animation are computed from."""
DPI = {".png": 150, ".gif": 80}


class Drawing(Protocol):
    """A picture in the making."""

    location: Path

    def add(self, frame: Frame) -> None:
        """Take note of the next frame."""

    def close(self) -> str:
        """Write the file; gives a line on it."""


class StillPicture:
    """One frame: the one that is asked for, or the first of those with the most objects.

    Args:
        location: ends in `.svg` or `.png`.
        scenes: makes scenes.
        moments: of the recording.
        title: of the recording.
        row: of the frame; None: the one with the most objects.
    """

    def __init__(self, location: Path, scenes: SceneMaker, moments: Moments, title: str, row: int | None) -> None:
        self.location, self.scenes, self.moments, self.title, self.row = location, scenes, moments, title, row
        self._frame: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Keep it, where it is the one to draw so far."""
        has_more = self._frame is None or len(frame.detections) > len(self._frame.detections)
        if frame.row == self.row or (self.row is None and has_more):
            self._frame = frame

    def close(self) -> str:
        """Draw the frame; gives a line on it."""
        frame = self._frame
        if frame is None:
            return f"{self.location}: not drawn, since there is no frame"
        scene = _scene(self.scenes, self.moments, frame, self.title)
        is_svg = self.location.suffix.lower() == ".svg"
        view = self.scenes.view(scene, beside=self.moments.name, page=is_svg)
        if is_svg:
            write_text(self.location, view.picture(scene.title).svg)
        else:
            with replacing(self.location) as partial:
                Image.fromarray(view.pixels(DPI[".png"])).save(partial, "PNG")
        which = "" if self.row is not None else ", the first with the most objects" if len(frame.detections) else ""
        return f"{self.location}: frame {frame.row}{which}"


class Animation:
    """At most `MOST_FRAMES` frames, evenly spread.

    Args:
        location: ends in `.gif`.
        scenes: makes scenes.
        moments: of the recording.
        title: of the recording.
        count: of frames in the recording.
        interval_s: between frames; None where it is not known.
        limits: of the colours.
    """

    def __init__(
        self,
        location: Path,
        scenes: SceneMaker,
        moments: Moments,
        title: str,
        *,
        count: int,
        interval_s: float | None,
        limits: tuple[float, float] | None,
    ) -> None:
        self.location, self.scenes, self.moments, self.title, self.limits = location, scenes, moments, title, limits
        self.count, self.step = count, max(ceil(count / MOST_FRAMES), 1)
        recorded = None if interval_s is None else 1 / (interval_s * self.step)
        self.per_s = USUAL_PER_S if recorded is None else min(recorded, FASTEST_PER_S)
        self.is_real_time = recorded is not None and recorded <= FASTEST_PER_S
        self._view: SceneView | None = None
        self._images: list[Image.Image] = []
        self._seen = 0

    def add(self, frame: Frame) -> None:
        """Draw every nth frame."""
        self._seen += 1
        if (self._seen - 1) % self.step:
            return
        scene = _scene(self.scenes, self.moments, frame, self.title)
        if self._view is None:
            self._view = self.scenes.view(scene, limits=self.limits, beside=self.moments.name)
        else:
            self._view.show(scene)
        self._images.append(_indexed(self._view.pixels(DPI[ANIMATED]), self._view.colours()))

    def close(self) -> str:
        """Write the animation; gives a line on it."""
        if not self._images:
            return f"{self.location}: not drawn, since there is no frame"
        first, *rest = self._images
        with replacing(self.location) as partial:
            first.save(partial, "GIF", save_all=True, append_images=rest, duration=round(1000 / self.per_s), loop=0)
        which = (
            f"every {_ordinal(self.step)} of {self.count} frames" if self.step > 1 else f"{len(self._images)} frames"
        )
        speed = "as fast as recorded" if self.is_real_time else "not the speed of the recording"
        return f"{self.location}: {which}, {self.per_s:g} a second ({speed})"


def make_drawings(
    paths: Sequence[Path],
    scenes: SceneMaker,
    moments: Moments,
    reader: RecordingReader,
    *,
    title: str,
    row: int | None,
    interval_s: float | None,
) -> list[Drawing]:
    """A picture in the making for each path."""
    drawings: list[Drawing] = []
    for path in paths:
        if path.suffix.lower() != ANIMATED:
            drawings.append(StillPicture(path, scenes, moments, title, row))
            continue
        count = sum(1 for _ in reader.windows(moments.recording))
        limits = _colour_limits(scenes, moments, reader, count)
        drawings.append(Animation(path, scenes, moments, title, count=count, interval_s=interval_s, limits=limits))
    return drawings


def _indexed(pixels: NDArray[np.uint8], fixed: NDArray[np.uint8]) -> Image.Image:
    """A picture in the 256 colours of a GIF: `fixed`, which have a meaning, and those that fit the picture best."""
    picture = Image.fromarray(pixels)
    fitting = picture.quantize(256 - len(fixed), Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed.ravel().tolist(), *fitting])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _colour_limits(
    scenes: SceneMaker, moments: Moments, reader: RecordingReader, count: int
) -> tuple[float, float] | None:
    """Colour limits that some frames of a recording have in common: the median of the lower ones, the largest upper one."""
    from matplotlib.figure import Figure

    limits = []
    chosen = np.unique(np.linspace(0, max(count - 1, 0), FOR_COLOURS).round().astype(int))
    windows = reader.windows(moments.recording)
    position = 0
    for number in chosen.tolist():
        window = next(islice(windows, number - position, None), None)
        position = number + 1
        if window is None:
            break
        start, stop = window
        signal, valid = reader.read(moments.file, moments.recording, start, min(stop, moments.recording.rows))
        axes = Figure().subplots()
        scenes.adapter.draw(axes, scenes.values(reader.sample(signal, valid, moments.recording, start)))
        if not axes.images:
            return None
        limits.append(axes.images[-1].get_clim())
    return (float(np.median([low for low, _ in limits])), max(high for _, high in limits)) if limits else None


def _scene(scenes: SceneMaker, moments: Moments, frame: Frame, title: str) -> Scene:
    time = "" if frame.time_s is None else f", {frame.time_s:.2f} s"
    reason = f" ({frame.reason})" if frame.reason else ""
    number = "" if frame.number in (None, frame.row) else f" (number {frame.number})"
    full = f"{title}, frame {frame.row}{number}{time}{reason}"
    return scenes.scene(
        frame.sample, frame.detections, moments.truth(*frame.window), moments.picture(*frame.window), full
    )
