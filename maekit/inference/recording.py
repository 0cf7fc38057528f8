"""A recording for a run: which one of a file, whether it fits the run, and its auxiliary signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from maekit.config.data_spec import TIME, Window
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.clock import Clock
from maekit.data.hdf5.recording import Recording, RecordingReader
from maekit.data.hdf5.safety import find_records
from maekit.data.loading import blank
from maekit.data.sample import Sample
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from maekit.adapter import Adapter
    from maekit.build.experiment import Experiment
    from maekit.config.data_spec import DataSpec
    from maekit.data.sample import SignalInfo

MOST_NAMED = 8


def find_record(file: h5py.File, spec: DataSpec, name: str | None) -> str:
    """The path of a recording in a file: the one of this name, or without a name the only one.

    Raises:
        UserError: no such recording, or several.
    """
    records = {path.strip("/"): path for path in find_records(file, spec.records)}
    if name is None and len(records) > 1:
        raise UserError(
            "several recordings in one file",
            location=str(file.filename),
            value=_listed(records),
            expected="one",
            hint="Give one with --record, or for all of them a folder with --to.",
        )
    if name is None:
        return next(iter(records.values()))
    if name.strip("/") not in records:
        raise UserError(
            "no such recording",
            location="--record",
            value=name,
            expected="one of " + _listed(records),
            hint=nearest(name, records),
        )
    return records[name.strip("/")]


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:MOST_NAMED]) + (f" ... ({len(every)} in all)" if len(every) > MOST_NAMED else "")


def describe_recording(
    experiment: Experiment, layout: DataSpec, opened: h5py.File, file: Path, record: str, *, same_axes: bool
) -> tuple[Recording, RecordingReader, Clock]:
    """The recording, a reader of windows like those of training, and its clock.

    Args:
        experiment: of the run.
        layout: data spec of the recording.
        opened: the file.
        file: its path.
        record: path of the recording in the file.
        same_axes: whether its axes must have the coordinates of training.

    Raises:
        UserError: a recording whose windows are not what the model was trained on.
    """
    window = experiment.recipe.data.window or experiment.spec.window
    reader = RecordingReader(layout, window)
    recording = reader.describe(opened, file, record)
    if recording.rows < recording.length and not (window is not None and window.pad):
        rate = recording.rate_hz if reader.row_axis == TIME else None
        has, needs = (
            f"{rows} along {reader.row_axis}" if rate is None else f"{rows / rate:g} s"
            for rows in (recording.rows, recording.length)
        )
        raise UserError(
            "a recording shorter than a window of the run",
            location=f"{file}:{recording.record}",
            value=has,
            expected=f"{needs} or more",
        )
    info = reader.info([recording])
    check_same_signal(experiment.adapter, experiment.source.info, info, window, str(file))
    if same_axes:
        _check_same_axes(experiment.source.info, info, layout)
    return recording, reader, Clock(reader, opened, recording)


def with_hop(
    reader: RecordingReader,
    recording: Recording,
    rate_hz: float | None,
    layout: DataSpec,
    hop_s: float | None,
    *,
    asked: bool,
) -> RecordingReader:
    """A reader of the same windows at another distance.

    Args:
        reader: of windows like those of training.
        recording: that they are of.
        rate_hz: rows in a second, if that is known.
        layout: data spec of the recording.
        hop_s: seconds from window to window; None: a window at every row.
        asked: whether a person gave the seconds.

    Raises:
        UserError: seconds, of a recording whose rate is not known.
    """
    window = reader.window
    if window is None:
        return reader
    if hop_s is not None and rate_hz is None:
        raise UserError(
            "seconds between windows, of a recording whose rate is not known",
            location="--hop" if asked else f"{recording.file}:{recording.record}",
            value=hop_s,
            expected=f"the attribute `{reader.row_axis}_rate_hz` in {recording.file}:{recording.record}",
            hint="Leave --hop out." if asked else "",
        )
    if hop_s is not None and window.seconds is not None:
        return RecordingReader(layout, window.model_copy(update={"hop_seconds": hop_s}))
    hop = 1 if hop_s is None else max(round(hop_s * (rate_hz or 1)), 1)
    return RecordingReader(layout, Window(axis=window.axis, length=recording.length, hop=hop, pad=window.pad))


def check_same_signal(
    adapter: Adapter, own: SignalInfo, info: SignalInfo, window: Window | None, location: str
) -> None:
    """Refuse a signal that is not what a run was trained on.

    Args:
        adapter: of the signal.
        own: what the adapter was made for.
        info: of the recording.
        window: of the run.
        location: of the recording, for messages.

    Raises:
        UserError: other channels, another unit, other lengths, or a rate that the adapter does not turn into its own.
    """
    hint = "Give the layout of the recording with --spec, or convert it to what the run was trained on."
    if (len(info.channels), info.unit) != (len(own.channels), own.unit):
        raise UserError(
            "another signal than the run was trained on",
            location=location,
            value=_described(info),
            expected=_described(own),
            hint=hint,
        )
    if info.rate_hz == own.rate_hz and info.shape == own.shape:
        return
    shapes = [_prepared_shape(adapter, info, location), _prepared_shape(adapter, own, "")]
    if shapes[0] != shapes[1] or (window is not None and window.length is not None and own.rate_hz is not None):
        raise UserError(
            "windows of another length or rate than the run was trained on",
            location=location,
            value=_described(info),
            expected=_described(own),
            hint=hint,
        )


def _check_same_axes(own: SignalInfo, info: SignalInfo, layout: DataSpec) -> None:
    for mine, other in zip(own.axes, info.axes, strict=True):
        if (mine.name, mine.unit, mine.spacing) != (other.name, other.unit, other.spacing) or not np.allclose(
            mine.points(), other.points()
        ):
            first, last = mine.points()[[0, -1]]
            raise UserError(
                "other axes than the run was trained on",
                location=f"data spec {layout.name}: signal",
                value=f"{other.name}: {other.points()[0]:g} to {other.points()[-1]:g} {other.unit}",
                expected=f"{mine.name}: {first:g} to {last:g} {mine.unit}, since predictions are coordinates on them",
            )


def _prepared_shape(adapter: Adapter, info: SignalInfo, location: str) -> tuple[int, ...]:
    """Shape of a sample after the adapter's preparation."""
    zeros = np.zeros(info.shape, dtype=np.complex64 if info.complex else np.float32)
    return adapter.prepare(Sample(zeros, None, None, "", location, info.rate_hz))[0].shape


def _described(info: SignalInfo) -> str:
    lengths = ", ".join(f"{axis.length} along {axis.name}" for axis in info.axes)
    rate = f", {info.rate_hz:g} Hz" if info.rate_hz else ""
    return f"{len(info.channels)} channel(s) in {info.unit or 'no unit'}, {lengths}{rate}"


class AuxiliaryOfWindows(Protocol):
    """Auxiliary signals beside the windows of a recording."""

    def prepared(self, start: int) -> Mapping[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Signal and validity of each in the window that begins at a row."""


class NoAuxiliary:
    """No auxiliary signals: those of the run are all invalid, as in training where a recording lacks them.

    Args:
        experiment: of the run.
        infos: what the run was trained on, by name.
    """

    def __init__(self, experiment: Experiment, infos: Mapping[str, SignalInfo]) -> None:
        self.blank = {name: blank(infos[name], adapter) for name, adapter in experiment.auxiliary.items()}

    def prepared(self, start: int) -> Mapping[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """See `AuxiliaryOfWindows.prepared`."""
        del start
        return self.blank


class RecordedAuxiliary:
    """Auxiliary signals of a run along one recording; those that it lacks are all invalid, as in training.

    Args:
        experiment: of the run.
        layout: data spec of the recording.
        file: open.
        recording: in the file.
        reader: of its windows.
        infos: what the run was trained on, by name.

    Attributes:
        names: of the signals that the recording has.
        lacking: of those that it lacks.

    Raises:
        UserError: a signal that is not what the run was trained on.
    """

    def __init__(
        self,
        experiment: Experiment,
        layout: DataSpec,
        file: h5py.File,
        recording: Recording,
        reader: RecordingReader,
        infos: Mapping[str, SignalInfo],
    ) -> None:
        self.file, self.recording, self.adapters = file, recording, experiment.auxiliary
        in_layout = [name for name in experiment.auxiliary if name in layout.auxiliary]
        self.signals = AuxiliarySignals(layout, reader.window, in_layout, reader.max_sample_bytes)
        self.signals.describe(file, recording.file, recording.record, recording.rows)
        record = file[recording.record]
        self.names = [name for name in in_layout if self.signals.readers[name].signal.path in record]
        self.lacking = tuple(name for name in experiment.auxiliary if name not in self.names)
        for name in self.names:
            info = self.signals.infos([0], [name])[name]
            location = f"{recording.file}:{recording.record}, auxiliary {name!r}"
            check_same_signal(experiment.auxiliary[name], infos[name], info, None, location)
        self.blank = {name: blank(infos[name], adapter) for name, adapter in experiment.auxiliary.items()}

    def prepared(self, start: int) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Signal and validity of each auxiliary signal in the window that begins at a row."""
        stop, path = min(start + self.recording.length, self.recording.rows), str(self.recording.file)
        samples = self.signals.samples(self.file, 0, start, stop, path) if self.names else {}
        return {
            name: adapter.prepare(samples[name]) if name in samples else self.blank[name]
            for name, adapter in self.adapters.items()
        }
