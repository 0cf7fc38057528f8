"""Scenes of objects for drawing: the sample, detected and true objects, and a picture of the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.config.data_spec import CHANNEL, OBJECT_CLASS
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.objects import ObjectReader
from maekit.errors import UserError
from maekit.report.detection_figures import Objects, Scene, SceneView

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from maekit.adapter import Adapter
    from maekit.config.data_spec import DataSpec
    from maekit.data.hdf5.recording import Recording, RecordingReader
    from maekit.data.sample import Sample
    from maekit.tasks.label_kinds.objects import ObjectLabels


class SceneMaker:
    """From samples and tables of objects to scenes.

    Args:
        adapter: of the samples.
        kind: of the labels.
    """

    def __init__(self, adapter: Adapter, kind: ObjectLabels) -> None:
        self.adapter, self.kind, self.plane = adapter, kind, kind.plane
        self.front = adapter.make_front()
        self.corners, self.unit = None, ""
        if self.plane.angle is not None:
            self.corners, self.unit = self._corners(), self.plane.units[1 - self.plane.angle]

    def values(self, sample: Sample) -> NDArray[Any]:
        """(*sample_shape) in the adapter's unit, NaN where invalid; of a clip the last frame alone."""
        signal, valid = self.adapter.prepare(sample)
        measured = None if valid is None else torch.from_numpy(valid)[None]
        with torch.inference_mode():
            x, measured = self.front.transform(torch.from_numpy(signal)[None], measured)
        values = x[0].float().numpy()
        if measured is not None:
            values = np.where(measured[0].numpy(), values, np.nan)
        return values if values.ndim == 3 else values[:, -1:]

    def scene(
        self,
        sample: Sample,
        detections: NDArray[np.float64],
        truth: NDArray[np.float64] | None = None,
        picture: NDArray[np.float64] | None = None,
        title: str = "",
    ) -> Scene:
        """The scene of one sample.

        Args:
            sample: as it was read.
            detections: (detection, column), class and score last.
            truth: (object, column), class last; None where it is not known.
            picture: (height, width, 3), if there is one.
            title: of the scene.
        """
        x = self.values(sample)
        true_objects = None if truth is None else self._objects(truth, truth[:, -1], None)
        cells = x[0].reshape(-1, *x.shape[-2:])[-1]
        return Scene(
            x, cells, self._objects(detections, detections[:, -2], detections[:, -1]), true_objects, picture, title
        )

    def view(self, first: Scene, **options: Any) -> SceneView:
        """A figure for scenes of this kind; for `options` see `SceneView`."""
        return SceneView(self.adapter.draw, first, self.kind.classes, corners=self.corners, unit=self.unit, **options)

    def _objects(
        self, table: NDArray[np.float64], kind: NDArray[np.float64], score: NDArray[np.float64] | None
    ) -> Objects:
        where = np.asarray(table[:, :2], dtype=np.float64)
        from_above = outline = None
        if self.plane.angle is not None:
            from_above = self.plane.location(torch.from_numpy(where)).numpy()
        if self.kind.boxes:
            half = table[:, None, 2:4] / 2 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
            outline = self.adapter.drawn_at(where[:, None] + half)
        return Objects(self.adapter.drawn_at(where), kind.astype(np.int64), score, from_above, outline)

    def _corners(self) -> NDArray[np.float64]:
        """Corners of the cells seen from above, clipped to the half plane before the sensor."""
        plane = self.plane
        assert plane.angle is not None
        first, second = (torch.arange(n + 1, dtype=torch.float64) - 0.5 for n in plane.shape)
        where = plane.at(torch.stack(torch.meshgrid(first, second, indexing="ij"), -1))
        quarter = np.pi / 2 / plane.radians
        where[..., plane.angle].clamp_(-quarter, quarter)
        where[..., 1 - plane.angle].clamp_(min=0)
        return np.asarray(plane.location(where).numpy())


class Moments:
    """What a recording has of the same moment as a window: true objects, and a picture.

    Args:
        kind: of the labels.
        layout: data spec of the recording.
        file: open.
        recording: in the file.
        reader: of the recording's windows.
    """

    def __init__(
        self, kind: ObjectLabels, layout: DataSpec, file: h5py.File, recording: Recording, reader: RecordingReader
    ) -> None:
        self.file, self.recording = file, recording
        self.name = _picture_name(layout)
        self._pictures = AuxiliarySignals(
            layout, reader.window, [self.name] if self.name else [], reader.max_sample_bytes
        )
        try:
            self._pictures.describe(file, recording.file, recording.record, recording.rows)
        except UserError:  # a picture that cannot be read is left out
            self.name = ""
        label = layout.label
        columns = [*kind.coordinate_columns, *([OBJECT_CLASS] if OBJECT_CLASS in kind.columns else [])]
        self._objects = None
        if (
            label is not None
            and label.objects is not None
            and set(columns) <= set(label.objects)
            and (label.classes is None or tuple(label.classes) == kind.classes)
        ):
            self._objects = ObjectReader(label)
            self._columns = [self._objects.columns.index(name) for name in columns]
        self._has_classes = OBJECT_CLASS in columns

    def truth(self, start: int, stop: int) -> NDArray[np.float64] | None:
        """(object, column) with the class last, of a window from row `start` to before `stop`; None where it is not known."""
        if self._objects is None:
            return None
        dataset, record = self.file[self.recording.dataset], self.file[self.recording.record]
        try:
            table = self._objects.read(dataset, record, self.recording.rows, [(start, stop)])
        except UserError:
            return None
        if table is None:
            return None
        objects = table[0][np.isfinite(table[0]).all(-1)][:, self._columns].astype(np.float64)
        return objects if self._has_classes else np.pad(objects, ((0, 0), (0, 1)))

    def picture(self, start: int, stop: int) -> NDArray[np.float64] | None:
        """(height, width, 3) from 0 to 1, of a window from row `start` to before `stop`; None where there is none."""
        samples = self._pictures.samples(self.file, 0, start, stop, "") if self.name else {}
        if self.name not in samples:
            return None
        values: NDArray[Any] = samples[self.name].signal
        values = values.reshape(3, -1, *values.shape[-2:])[:, -1]  # the last frame of a clip
        if values.dtype.kind in "iu":
            scale = float(np.iinfo(values.dtype).max)
        else:
            scale = 1.0 if not values.size or np.nanmax(values) <= 1 else 255.0
        return np.moveaxis(np.nan_to_num(values / scale).clip(0, 1), 0, -1).astype(np.float64)


def _picture_name(layout: DataSpec) -> str:
    """The first auxiliary signal with three channels and two axes (and time); empty where there is none."""
    for name, signal in layout.auxiliary.items():
        axes = [axis for axis in signal.axes if axis != CHANNEL]
        if len(signal.channels) == 3 and len(axes) in (2, 3):
            return name
    return ""
