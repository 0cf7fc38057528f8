"""Pictures of what was found along a recording: one frame, or an animation; the truth and a picture of the moment beside it."""

from __future__ import annotations

from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image

from maekit.adapter import Front
from maekit.config.data_spec import CHANNEL
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.objects import ObjectReader
from maekit.errors import UserError
from maekit.report.detection_figures import Objects, Scene, View
from maekit.tasks.detection import CLASS, EXTENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from maekit.build.experiment import Experiment
    from maekit.config.data_spec import DataSpec
    from maekit.data.hdf5.recording import Recording, RecordingReader
    from maekit.data.sample import Sample
    from maekit.inference.object_writers import Frame
    from maekit.tasks.detection import Detection

ENDINGS = (".svg", ".png", ".gif")
ANIMATED = ".gif"
MOST_FRAMES = 100
"""Of an animation; of a longer recording every so many are drawn, so that file and memory do not grow with it."""
FASTEST_PER_S, USUAL_PER_S = 20.0, 10.0
FOR_COLOURS = 8
"""Frames, evenly spread, that the colours of an animation are made for."""
DPI = {".png": 150, ".gif": 80}


class Scenes:
    """From samples and tables of objects to what is drawn.

    Args:
        experiment, task: of the run.
    """

    def __init__(self, experiment: Experiment, task: Detection) -> None:
        self.adapter, self.task, self.plane = experiment.adapter, task, task.plane
        self.corners, self.unit = None, ""
        if self.plane.angle is not None:
            self.corners, self.unit = self._corners(), self.plane.units[1 - self.plane.angle]

    def values(self, sample: Sample) -> NDArray[Any]:
        """(*sample_shape) in the adapter's unit, NaN where not measured; of a clip the last frame alone."""
        signal, valid = self.adapter.prepare(sample)
        front = self.task.front
        assert isinstance(front, Front)
        measured = None if valid is None else torch.from_numpy(valid)[None].to(front.mean.device)
        with torch.inference_mode():
            x, measured = front.transform(torch.from_numpy(signal)[None].to(front.mean.device), measured)
        found = x[0].float().cpu().numpy()
        if measured is not None:
            found = np.where(measured[0].cpu().numpy(), found, np.nan)
        return found if found.ndim == 3 else found[:, -1:]

    def scene(
        self,
        sample: Sample,
        found: NDArray[np.float64],
        truth: NDArray[np.float64] | None = None,
        picture: NDArray[np.float64] | None = None,
        title: str = "",
    ) -> Scene:
        """One sample.

        Args:
            sample: as it was read.
            found: (object, column) as `Detection.rows` gives them, class and score last.
            truth: the same without scores.
            picture: (height, width, 3), if there is one.
            title: of it all.
        """
        x = self.values(sample)
        marked = None if truth is None else self._objects(truth, truth[:, -1], None)
        cells = x[0].reshape(-1, *x.shape[-2:])[-1]
        return Scene(x, cells, self._objects(found, found[:, -2], found[:, -1]), marked, picture, title)

    def view(self, first: Scene, **options: Any) -> View:
        """A figure for scenes like this."""
        return View(self.adapter.draw, first, self.task.classes, corners=self.corners, unit=self.unit, **options)

    def _objects(
        self, table: NDArray[np.float64], kind: NDArray[np.float64], score: NDArray[np.float64] | None
    ) -> Objects:
        where = np.asarray(table[:, :2], dtype=np.float64)
        above = outline = None
        if self.plane.angle is not None:
            above = self.plane.location(torch.from_numpy(where)).numpy()
        if self.task.boxes:
            half = table[:, None, 2:4] / 2 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
            outline = self.adapter.drawn_at(where[:, None] + half)
        return Objects(self.adapter.drawn_at(where), kind.astype(np.int64), score, above, outline)

    def _corners(self) -> NDArray[np.float64]:
        """Of the cells, seen from above; not beyond what is beside the sensor."""
        plane = self.plane
        assert plane.angle is not None
        first, second = (torch.arange(n + 1, dtype=torch.float64) - 0.5 for n in plane.shape)
        where = plane.at(torch.stack(torch.meshgrid(first, second, indexing="ij"), -1))
        quarter = np.pi / 2 / plane.radians
        where[..., plane.angle].clamp_(-quarter, quarter)
        where[..., 1 - plane.angle].clamp_(min=0)
        return np.asarray(plane.location(where).numpy())


class Moments:
    """What the recording itself has of a moment: the true objects, and a picture.

    Args:
        task: of the run.
        layout: of the recording.
        file: open.
        recording: in it.
        reader: of the recording, whose windows are asked for.
    """

    def __init__(
        self, task: Detection, layout: DataSpec, file: h5py.File, recording: Recording, reader: RecordingReader
    ) -> None:
        self.file, self.recording = file, recording
        self.name = _picture_of(layout)
        self._pictures = AuxiliarySignals(
            layout, reader.window, [self.name] if self.name else [], reader.max_sample_bytes
        )
        try:
            self._pictures.describe(file, recording.file, recording.record, recording.rows)
        except UserError:  # a picture is not needed here, and this one is of no use
            self.name = ""
        label = layout.label
        wanted = [*task.plane.axes, *(f"{axis}{EXTENT}" for axis in task.plane.axes if task.boxes)]
        wanted += [CLASS] if CLASS in task.columns else []
        known = label is not None and label.objects is not None and set(wanted) <= set(label.objects)
        known = known and label is not None and (label.classes is None or tuple(label.classes) == task.classes)
        self._objects = ObjectReader(label) if known and label is not None else None
        self._columns = [] if self._objects is None else [self._objects.columns.index(name) for name in wanted]
        self._classes = CLASS in wanted

    def truth(self, start: int, stop: int) -> NDArray[np.float64] | None:
        """(object, column) with the class last; None where it is not known."""
        if self._objects is None:
            return None
        dataset, record = self.file[self.recording.dataset], self.file[self.recording.record]
        try:
            table = self._objects.read(dataset, record, self.recording.rows, [(start, stop)])
        except UserError:
            return None
        if table is None:
            return None
        there = table[0][np.isfinite(table[0]).all(-1)][:, self._columns].astype(np.float64)
        return there if self._classes else np.pad(there, ((0, 0), (0, 1)))

    def picture(self, start: int, stop: int) -> NDArray[np.float64] | None:
        """(height, width, 3) from 0 to 1; None where there is none."""
        found = self._pictures.samples(self.file, 0, start, stop, "") if self.name else {}
        if self.name not in found:
            return None
        values: NDArray[Any] = found[self.name].signal
        values = values.reshape(3, -1, *values.shape[-2:])[:, -1]  # of a clip the last
        if values.dtype.kind in "iu":
            scale = float(np.iinfo(values.dtype).max)
        else:
            scale = 1.0 if not values.size or np.nanmax(values) <= 1 else 255.0
        return np.moveaxis(np.nan_to_num(values / scale).clip(0, 1), 0, -1).astype(np.float64)


class Drawing(Protocol):
    """A picture in the making."""

    location: Path

    def add(self, frame: Frame, window: tuple[int, int], sample: Sample) -> None: ...
    def close(self) -> str: ...


class Still:
    """One frame: the one that is asked for, or the first of those with the most objects.

    Args:
        location: ends in `.svg` or `.png`.
        scenes, moments: see there.
        title: of the recording.
        row: of the frame.
    """

    def __init__(self, location: Path, scenes: Scenes, moments: Moments, title: str, row: int | None) -> None:
        self.location, self.scenes, self.moments, self.title, self.row = location, scenes, moments, title, row
        self._kept: tuple[Frame, tuple[int, int], Sample] | None = None

    def add(self, frame: Frame, window: tuple[int, int], sample: Sample) -> None:
        """Keep it, where it is the better one."""
        more = self._kept is None or len(frame.found) > len(self._kept[0].found)
        if frame.row == self.row or (self.row is None and more):
            self._kept = (frame, window, sample)

    def close(self) -> str:
        """Draw; gives what there is to say."""
        if self._kept is None:
            return f"{self.location}: not drawn, since there is no frame"
        frame, window, sample = self._kept
        scene = _scene(self.scenes, self.moments, frame, window, sample, self.title)
        on_page = self.location.suffix.lower() == ".svg"
        view = self.scenes.view(scene, beside=self.moments.name, page=on_page)
        if on_page:
            self.location.write_text(view.picture(scene.title).svg)
        else:
            Image.fromarray(view.pixels(DPI[".png"])).save(self.location)
        which = "" if self.row is not None else ", the first with the most objects" if len(frame.found) else ""
        return f"{self.location}: frame {frame.row}{which}"


class Animation:
    """At most `MOST_FRAMES` frames, evenly spread.

    Args:
        location: ends in `.gif`.
        scenes, moments: see there.
        title: of the recording.
        count: of frames in the recording.
        interval_s: between them; None where it is not known.
        limits: of the colours.
    """

    def __init__(
        self,
        location: Path,
        scenes: Scenes,
        moments: Moments,
        title: str,
        *,
        count: int,
        interval_s: float | None,
        limits: tuple[float, float] | None,
    ) -> None:
        self.location, self.scenes, self.moments, self.title, self.limits = location, scenes, moments, title, limits
        self.count, self.every = count, max(ceil(count / MOST_FRAMES), 1)
        recorded = None if interval_s is None else 1 / (interval_s * self.every)
        self.per_s = USUAL_PER_S if recorded is None else min(recorded, FASTEST_PER_S)
        self.real_time = recorded is not None and recorded <= FASTEST_PER_S
        self._view: View | None = None
        self._drawn: list[Image.Image] = []
        self._seen = 0

    def add(self, frame: Frame, window: tuple[int, int], sample: Sample) -> None:
        """Draw it, where its turn is."""
        self._seen += 1
        if (self._seen - 1) % self.every:
            return
        scene = _scene(self.scenes, self.moments, frame, window, sample, self.title)
        if self._view is None:
            self._view = self.scenes.view(scene, limits=self.limits, beside=self.moments.name)
        else:
            self._view.show(scene)
        self._drawn.append(_indexed(self._view.pixels(DPI[ANIMATED]), self._view.colours()))

    def close(self) -> str:
        """Write what was drawn; gives what there is to say."""
        if not self._drawn:
            return f"{self.location}: not drawn, since there is no frame"
        unfinished = self.location.with_name(f".{self.location.name}.unfinished")
        first, *rest = self._drawn
        first.save(unfinished, "GIF", save_all=True, append_images=rest, duration=round(1000 / self.per_s), loop=0)
        unfinished.replace(self.location)
        which = (
            f"every {_ordinal(self.every)} of {self.count} frames" if self.every > 1 else f"{len(self._drawn)} frames"
        )
        pace = "as fast as recorded" if self.real_time else "not the pace of the recording"
        return f"{self.location}: {which}, {self.per_s:g} a second ({pace})"


def _indexed(pixels: NDArray[np.uint8], fixed: NDArray[np.uint8]) -> Image.Image:
    """With the 256 colours that a GIF has: these, which have a meaning, and those that serve the picture best."""
    picture = Image.fromarray(pixels)
    fitting = picture.quantize(256 - len(fixed), Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed.ravel().tolist(), *fitting])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def drawings(
    places: Sequence[Path],
    experiment: Experiment,
    task: Detection,
    moments: Moments,
    reader: RecordingReader,
    *,
    title: str,
    row: int | None,
    interval_s: float | None,
) -> list[Drawing]:
    """A picture in the making for each place."""
    scenes = Scenes(experiment, task)
    made: list[Drawing] = []
    for location in places:
        if location.suffix.lower() != ANIMATED:
            made.append(Still(location, scenes, moments, title, row))
            continue
        count = sum(1 for _ in reader.windows(moments.recording))
        limits = _limits(scenes, moments, reader, count)
        made.append(Animation(location, scenes, moments, title, count=count, interval_s=interval_s, limits=limits))
    return made


def _limits(scenes: Scenes, moments: Moments, reader: RecordingReader, count: int) -> tuple[float, float] | None:
    """Colours that some frames of a recording have in common: the least as of most, the highest of all."""
    from matplotlib.figure import Figure

    found = []
    chosen = np.unique(np.linspace(0, max(count - 1, 0), FOR_COLOURS).round().astype(int))
    windows = reader.windows(moments.recording)
    at = 0
    for number in chosen.tolist():
        window = next(islice(windows, number - at, None), None)
        at = number + 1
        if window is None:
            break
        start, stop = window
        signal, valid = reader.read(moments.file, moments.recording, start, min(stop, moments.recording.rows))
        axes = Figure().subplots()
        scenes.adapter.draw(axes, scenes.values(reader.sample(signal, valid, moments.recording, start)))
        if not axes.images:
            return None
        found.append(axes.images[-1].get_clim())
    return (float(np.median([low for low, _ in found])), max(high for _, high in found)) if found else None


def _scene(
    scenes: Scenes, moments: Moments, frame: Frame, window: tuple[int, int], sample: Sample, title: str
) -> Scene:
    time = "" if frame.time_s is None else f", {frame.time_s:.2f} s"
    nothing = f" ({frame.reason})" if frame.reason else ""
    number = "" if frame.number in (None, frame.row) else f" (number {frame.number})"
    full = f"{title}, frame {frame.row}{number}{time}{nothing}"
    return scenes.scene(sample, frame.found, moments.truth(*window), moments.picture(*window), full)


def _picture_of(layout: DataSpec) -> str:
    """The first signal beside that can be shown as a picture; empty where there is none."""
    for name, signal in layout.auxiliary.items():
        rest = [axis for axis in signal.axes if axis != CHANNEL]
        if len(signal.channels) == 3 and len(rest) in (2, 3):
            return name
    return ""
