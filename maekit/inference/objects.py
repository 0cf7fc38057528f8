"""A trained detector along a recording: the objects of every frame, streamed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.config.data_spec import TIME, DataSpec, Window
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.labels import read_rate
from maekit.data.hdf5.recording import Recording, RecordingReader
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.loading import blank, collate, to_device
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.object_pictures import ENDINGS as PICTURES
from maekit.inference.object_pictures import Moments, drawings
from maekit.inference.object_writers import ENDINGS, Columns, CsvObjects, Frame, JsonObjects
from maekit.inference.recording import batched, check_alike, check_fits, digest, reason_against, record_of
from maekit.inference.writers import Unfinished, check_place
from maekit.tasks.detection import present
from maekit.training.distributed import init_distributed
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from maekit.build.experiment import Experiment
    from maekit.build.training_stats import TrainingStats
    from maekit.data.sample import Sample, SignalInfo
    from maekit.tasks.detection import Detection

AT_ONCE = 16
"""Frames that go through the model together."""
LOWEST_SCORE = 0.3
"""Of what is written, where nothing else is asked for: a detector also finds much that it hardly believes in."""


@dataclass
class Found:
    """What `predict` wrote of a detection run, and how fast.

    Attributes:
        location: the file.
        pictures: what there is to say of each.
        score_threshold: score of what was written.
        highest: score of all that was found; 0: of nothing it was above `floor`, from which it is looked for.
        frames, valid, occupied: how many there were, in how many something was looked for, and was found.
        objects: of each class.
        lacking: signals beside that the run reads and the recording lacks.
        interval_s: between frames; None where it is not known.
        took_s: from opening the recording to its last frame, the model being loaded.
    """

    location: Path
    score_threshold: float
    pictures: list[str] = field(default_factory=list)
    highest: float = 0.0
    floor: float = 0.0
    frames: int = 0
    valid: int = 0
    occupied: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    lacking: tuple[str, ...] = ()
    interval_s: float | None = None
    took_s: float = 0.0

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"written: {self.location}"
        yield from self.pictures
        of = ", ".join(f"{name} {count}" for name, count in self.objects.items())
        yield (
            f"{self.frames} frames, in {self.occupied} of them {self.objects.total()} objects of a score of {self.score_threshold:g} or more"
            + (f": {of}" if of else "")
        )
        if self.valid < self.frames:
            yield f"in {self.frames - self.valid} frames nothing was looked for: too little was measured, or it is poorer than in training"
        if not self.objects and self.valid:
            surest = (
                f"the surest has a score of {self.highest:.2g}"
                if self.highest
                else f"nothing has one of {self.floor:g}"
            )
            yield f"{surest}: --score-threshold shows what is less sure"
        for name in self.lacking:
            yield f"this recording has no signal {name!r}, which the run was trained with; it was left out"
        yield f"{self.frames / self.took_s:.0f} frames a second, pictures included" + (
            f"; {self.frames * self.interval_s / self.took_s:.2g} times real time" if self.interval_s else ""
        )


class Clock:
    """Number and time of a recording's rows.

    A rate is that of a `time` axis, or the attribute `AXIS_rate_hz` that files of frames have. Where a dataset named as the
    axis numbers the rows, as it does where frames were lost, time follows the numbers.

    Args:
        reader, file, recording: see there.
    """

    def __init__(self, reader: RecordingReader, file: h5py.File, recording: Recording) -> None:
        import h5py

        axis, dataset, record = reader.row_axis, file[recording.dataset], file[recording.record]
        self.rate_hz, self._numbers, self._first = recording.rate_hz, None, 0
        if axis == TIME:
            return
        name = f"{axis}_rate_hz"
        if any(name in item.attrs for item in (dataset, record, file)):
            self.rate_hz = read_rate(name, dataset, record)
        numbers = record.get(axis)
        if isinstance(numbers, h5py.Dataset) and numbers.shape == (recording.rows,) and numbers.dtype.kind in "iu":
            self._numbers, self._first = numbers, int(numbers[0])

    @property
    def numbered(self) -> bool:
        """Whether the recording numbers its rows."""
        return self._numbers is not None

    def at(self, row: int) -> tuple[int | None, float | None]:
        """Number, and seconds from the first row."""
        number = None if self._numbers is None else int(self._numbers[row])
        passed = row if number is None else number - self._first
        return number, None if self.rate_hz is None else passed / self.rate_hz


def find_along(
    experiment: Experiment,
    task: Detection,
    known: TrainingStats,
    file: Path,
    to: Path | None,
    *,
    run: Path,
    layout: DataSpec,
    record: str | None = None,
    hop_s: float | None = None,
    gate: bool = True,
    score_threshold: float | None = None,
    pictures: Sequence[Path] = (),
    row: int | None = None,
    overwrite: bool = False,
    device: str | None = None,
) -> Found:
    """The objects of every frame of a recording, written as they come: memory does not grow with its length.

    Args:
        experiment, task, known: of the run, and what it was trained on.
        file, to, record, gate, overwrite, device: see `maekit.inference.predict.predict`; `to` ends in `.csv` or `.json`.
        run: folder of the run.
        layout: of the recording.
        hop_s: from frame to frame; by default every one.
        score_threshold: score of what is written.
        pictures: files to draw; by default one SVG beside `to`.
        row: the frame that still pictures show.

    Raises:
        UserError: a recording that does not fit, or files that cannot be written.
    """
    score_threshold = LOWEST_SCORE if score_threshold is None else score_threshold
    if not 0 <= score_threshold < 1:
        raise UserError(
            "not a score", location="--score-threshold", value=score_threshold, expected="a number from 0 to below 1"
        )
    if row is not None and not any(location.suffix.lower() != ".gif" for location in pictures or [Path()]):
        raise UserError(
            "an animation shows all frames", location="--frame", value=row, expected="a --picture in PNG or SVG"
        )
    task.score_threshold = min(task.score_threshold, score_threshold)
    with open_hdf5(file) as opened, init_distributed(device, alone=True) as process:
        path = record_of(opened, layout, record)
        recording, reader, clock = _described(experiment, layout, opened, file, path, hop_s)
        name = path.strip("/").replace("/", "_")
        to = to or Path(f"{file.stem}{f'_{name}' if name else ''}_predicted.csv")
        pictures = list(pictures) or [to.with_suffix(".svg")]
        _check_places(file, to, pictures, overwrite=overwrite)
        _check_row(row, recording, reader)
        auxiliary = _auxiliary(experiment, layout, opened, recording, reader, known)
        lacking = tuple(name for name in experiment.auxiliary if name not in auxiliary.names)
        rate, hop = clock.rate_hz, _hop(reader, recording)
        found = Found(
            to,
            score_threshold,
            floor=task.score_threshold,
            lacking=lacking,
            interval_s=None if rate is None else hop / rate,
        )
        columns = Columns(task)
        facts = {
            "run": str(run),
            "weights_sha256": digest(task),
            "spec": layout.name,
            "file": str(file),
            "record": recording.record,
            "frame_rate_hz": rate,
            "gate": gate,
            "lowest_score": score_threshold,
            "classes": list(task.classes),
            "units": dict(zip(task.plane.axes, task.plane.units, strict=True)),
            "places": columns.meaning,
            "signals_beside": list(auxiliary.names),
            "signals_lacking": list(lacking),
        }

        def opening(location: Path) -> CsvObjects | JsonObjects:
            if to.suffix.lower() == ".json":
                return JsonObjects(location, columns, facts)
            return CsvObjects(location, columns, numbered=clock.numbered, timed=rate is not None)

        task.to(process.device).eval()
        begun = time.perf_counter()
        moments = Moments(task, layout, opened, recording, reader)
        drawn = drawings(
            pictures,
            experiment,
            task,
            moments,
            reader,
            title=f"{file.name} {name}".strip(),
            row=row,
            interval_s=found.interval_s,
        )
        with deferred_signals() as caught, Unfinished(to, opening) as output:
            for some in batched(stream(reader, opened, recording), AT_ONCE):
                samples = [(start, sample, auxiliary.at(opened, start, recording)) for start, sample in some]
                reasons = [reason_against(experiment, sample, known if gate else None) for _, sample, _ in samples]
                usable = [one for one, reason in zip(samples, reasons, strict=True) if not reason]
                tables = iter(_through_model(experiment, task, usable, auxiliary, process.device) if usable else [])
                frames = []
                for (start, sample, _), reason in zip(samples, reasons, strict=True):
                    table = np.zeros((0, 4)) if reason else next(tables)
                    found.highest = max([found.highest, *table[:, -1].tolist()])
                    last = min(start + recording.length, recording.rows) - 1
                    frame = Frame(last, *clock.at(last), table[table[:, -1] >= score_threshold], reason)
                    frames.append(frame)
                    for drawing in drawn:
                        drawing.add(frame, (start, start + recording.length), sample)
                output.writer.add(frames)
                _count(found, frames, task.classes)
                if caught:  # between two writes
                    raise StoppedError(
                        f"stopped by {signal.Signals(caught[0]).name}; {found.frames} frames are in {to}",
                        128 + caught[0],
                    )
        found.pictures = [drawing.close() for drawing in drawn]
        found.took_s = time.perf_counter() - begun
    return found


def _count(found: Found, frames: Sequence[Frame], classes: Sequence[str]) -> None:
    for frame in frames:
        found.frames += 1
        found.valid += not frame.reason
        found.occupied += len(frame.found) > 0
        found.objects.update(classes[int(kind)] for kind in frame.found[:, -2])


class _Beside:
    """The signals beside that the run reads, along one recording, and what stands in for those that it lacks."""

    def __init__(
        self, signals: AuxiliarySignals, names: Sequence[str], infos: dict[str, SignalInfo], experiment: Experiment
    ) -> None:
        self.signals, self.names, self.adapters = signals, names, experiment.auxiliary
        self.blank = {name: blank(infos[name], adapter) for name, adapter in experiment.auxiliary.items()}

    def at(self, file: h5py.File, start: int, recording: Recording) -> dict[str, Sample]:
        """Of one window."""
        stop = min(start + recording.length, recording.rows)
        return self.signals.samples(file, 0, start, stop, str(recording.file)) if self.names else {}

    def prepared(self, name: str, samples: dict[str, Sample]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """As the model takes it."""
        return self.adapters[name].prepare(samples[name]) if name in samples else self.blank[name]


def _auxiliary(
    experiment: Experiment,
    layout: DataSpec,
    file: h5py.File,
    recording: Recording,
    reader: RecordingReader,
    known: TrainingStats,
) -> _Beside:
    """Signals beside that the run reads.

    Raises:
        UserError: one that is not what the run was trained on.
    """
    stated = [name for name in experiment.auxiliary if name in layout.auxiliary]
    signals = AuxiliarySignals(layout, reader.window, stated, reader.max_sample_bytes)
    signals.describe(file, recording.file, recording.record, recording.rows)
    there = [name for name in stated if signals.readers[name].signal.path in file[recording.record]]
    for name in there:
        info = signals.infos([0], [name])[name]
        location = f"{recording.file}:{recording.record}, {name!r} beside"
        check_alike(experiment.auxiliary[name], known.auxiliary[name], info, None, location)
    return _Beside(signals, there, dict(known.auxiliary), experiment)


def _through_model(
    experiment: Experiment,
    task: Detection,
    samples: Sequence[tuple[int, Sample, dict[str, Sample]]],
    auxiliary: _Beside,
    device: torch.device,
) -> list[NDArray[np.float64]]:
    """Of each sample (object, column), the surest first."""
    items: list[dict[str, Any]] = []
    for _, sample, others in samples:
        values, valid = experiment.adapter.prepare(sample)
        item: dict[str, Any] = {"signal": values, "valid": valid, "noise": np.zeros(0), "index": 0}
        for name in experiment.auxiliary:
            item[f"{name}.signal"], item[f"{name}.valid"] = auxiliary.prepared(name, others)
            item[f"{name}.noise"] = np.zeros(0)
        items.append(item)
    with torch.inference_mode():
        rows = task.eval_step(to_device(collate(items), device))
    return present(rows["detections"].cpu().double().numpy())


def _described(
    experiment: Experiment, layout: DataSpec, opened: h5py.File, file: Path, record: str, hop_s: float | None
) -> tuple[Recording, RecordingReader, Clock]:
    """The recording, what reads its windows, and its clock.

    Raises:
        UserError: a recording that the model cannot go along.
    """
    window = experiment.recipe.data.window or experiment.spec.window
    reader = RecordingReader(layout, window)
    recording = reader.describe(opened, file, record)
    location = f"{file}:{recording.record}"
    if recording.rows < recording.length and not (window is not None and window.pad):
        raise UserError(
            "a recording shorter than a window of the run",
            location=location,
            value=f"{recording.rows} along {reader.row_axis}",
            expected=f"{recording.length} or more",
        )
    info = reader.info([recording])
    check_fits(experiment, info, window, str(file))
    for own, other in zip(experiment.source.info.axes, info.axes, strict=True):
        if (own.name, own.unit, own.spacing) != (other.name, other.unit, other.spacing) or not np.allclose(
            own.points(), other.points()
        ):
            first, last = own.points()[[0, -1]]
            raise UserError(
                "other axes than the run was trained on",
                location=f"data spec {layout.name}: signal",
                value=f"{other.name}: {other.points()[0]:g} to {other.points()[-1]:g} {other.unit}",
                expected=f"{own.name}: {first:g} to {last:g} {own.unit}, since what it finds are places on them",
            )
    clock = Clock(reader, opened, recording)
    if window is None:
        return recording, reader, clock
    if hop_s is not None and clock.rate_hz is None:
        raise UserError(
            "seconds between frames, of a recording whose frame rate is not known",
            location="--hop",
            value=hop_s,
            expected=f"the attribute `{reader.row_axis}_rate_hz` in {location}",
            hint="Leave --hop out: every frame is looked at.",
        )
    hop = 1 if hop_s is None else max(round(hop_s * (clock.rate_hz or 1)), 1)
    points = Window(axis=window.axis, length=recording.length, hop=hop, pad=window.pad)
    return recording, RecordingReader(layout, points), clock


def _hop(reader: RecordingReader, recording: Recording) -> int:
    return recording.length if reader.window is None else reader.window.hop or recording.length


def _check_row(row: int | None, recording: Recording, reader: RecordingReader) -> None:
    if row is None:
        return
    rows = [min(stop, recording.rows) - 1 for _, stop in reader.windows(recording)]
    if row not in rows:
        step = f", every {_hop(reader, recording)}th" if _hop(reader, recording) > 1 else ""
        raise UserError(
            "no such frame", location="--frame", value=row, expected=f"one from {rows[0]} to {rows[-1]}{step}"
        )


def _check_places(file: Path, to: Path, pictures: Sequence[Path], *, overwrite: bool) -> None:
    """Whether all that is asked for can be written.

    Raises:
        UserError: another ending, no such folder, a file that is there, or two of one name.
    """
    check_place(to, "--to", "neither CSV nor JSON, which objects are written as", ENDINGS, overwrite=overwrite)
    for location in pictures:
        check_place(location, "--picture", "no picture that is drawn here", PICTURES, overwrite=overwrite)
    names = [location.resolve() for location in (file, to, *pictures)]
    for name in names:
        if names.count(name) > 1:
            what = "would overwrite the recording itself" if name == names[0] else "one file for two things"
            raise UserError(what, location="--to, --picture", value=str(name), hint="Give another file.")
