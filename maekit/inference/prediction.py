"""The prediction of one recording, from its description to the file of its rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maekit.data.hdf5.digest import recording_digest
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.predicting_run import make_output
from maekit.inference.recording import RecordedAuxiliary, describe_recording, with_hop
from maekit.inference.windows import PreparedWindows, prepare_windows
from maekit.inference.writers import UnfinishedFile, check_place
from maekit.tasks.label_kinds.recording_output import OpenRecording, Stages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    import h5py

    from maekit.config.data_spec import DataSpec
    from maekit.data.sample import Sample
    from maekit.inference.predicting_run import PredictingRun
    from maekit.tasks.label_kinds.recording_output import PredictOptions, RecordingOutput


@dataclass(frozen=True)
class Settings:
    """What the predictions of several recordings have in common.

    Attributes:
        run: that predicts.
        layout: data spec of the recordings.
        options: of the label kind.
        hop_s: seconds from window to window; None: the default of the labels.
        overwrite: whether files may be replaced.
        inputs: files that are read, resolved.
    """

    run: PredictingRun
    layout: DataSpec
    options: PredictOptions
    hop_s: float | None
    overwrite: bool
    inputs: Collection[Path]


@dataclass(frozen=True)
class PredictResult:
    """What was written of one recording, and how fast.

    Attributes:
        file: with the recording.
        record: path of the recording in it.
        location: the file that was written.
        pictures: a line on each.
        summary: lines on what was predicted.
        row_noun: what a row is called.
        rows: windows of the recording.
        valid: in how many of them something was predicted.
        lacking: auxiliary signals that the run reads and the recording lacks.
        recorded_s: length of what was gone through; None where the rate is not known.
        took_s: from the first window to the last, the model being loaded.
        side: the side of the run's split that has this recording; empty for one that the run has not seen.
    """

    file: Path
    record: str
    location: Path
    pictures: list[str]
    summary: list[str]
    row_noun: str
    rows: int
    valid: int
    lacking: tuple[str, ...]
    recorded_s: float | None
    took_s: float
    side: str = ""

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of recording over seconds of computing; None where the rate is not known."""
        return None if self.recorded_s is None else self.recorded_s / self.took_s

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"written: {self.location}"
        yield from self.pictures
        yield from self.summary
        if self.side == "train":
            yield "this recording was in the training of the run: the predictions say nothing about new ones"
        elif self.side:
            yield f"this recording was in the {self.side} data of the run"
        for name in self.lacking:
            yield f"this recording has no signal {name!r}, which the run was trained with; it was left out"
        yield speed(self.rows, self.row_noun, self.took_s, self.real_time_factor)


def speed(rows: int, noun: str, took_s: float, real_time_factor: float | None) -> str:
    """A line on how fast predictions were made; two significant digits, without an exponent."""
    factor = "" if real_time_factor is None else f", {float(f'{real_time_factor:.2g}'):,g} times real time"
    return f"{rows / took_s:.0f} {noun} a second{factor}"


class Prediction:
    """One recording on its way through a run.

    Args:
        settings: of all recordings.
        opened: the file; open until the prediction is finished or abandoned.
        file: its path, as it was given.
        record: path of the recording in it.
        to: file to write.

    Raises:
        UserError: a recording that is not as the spec says or does not fit, or a file that cannot be written.
    """

    def __init__(self, settings: Settings, opened: h5py.File, file: Path, record: str, to: Path) -> None:
        self.file, self.record, self._to = file, record, to
        self._run, layout = settings.run, settings.layout
        experiment, stats = self._run.experiment, self._run.stats
        self.output = output = make_output(self._run, settings.options)
        recording, reader, clock = describe_recording(
            experiment, layout, opened, file, record, same_axes=output.needs_same_axes
        )
        hop_s, asked = settings.hop_s or output.default_hop_s, settings.hop_s is not None
        reader = with_hop(reader, recording, clock.rate_hz, layout, hop_s, asked=asked)
        paths = output.picture_paths(to)
        _check_places(to, paths, settings, output)
        self._auxiliary = RecordedAuxiliary(experiment, layout, opened, recording, reader, stats.auxiliary)
        title = f"{file.name} {record.strip('/').replace('/', '_')}".strip()
        output.begin(OpenRecording(layout, opened, recording, reader, clock, title), paths)
        self._side = stats.recordings.get(recording_digest(opened[recording.dataset]), "")
        facts = {
            "run": str(self._run.folder),
            "weights_sha256": self._run.weights_sha256,
            "spec": layout.name,
            "file": str(file),
            "record": recording.record,
            "gate": self._run.limits is not None,
            "in_data_of_run": self._side,
            "auxiliary": self._auxiliary.names,
            "auxiliary_lacking": list(self._auxiliary.lacking),
            **output.facts(),
        }
        self._recorded_s = None if clock.rate_hz is None else recording.rows / clock.rate_hz
        self._windows = stream(reader, opened, recording)
        self._stages: Stages[Any] = Stages(output.stages())
        self._unfinished = UnfinishedFile(to, output, facts)  # the last: from here on there is something to clear

    @property
    def rows(self) -> int:
        """Rows that were written."""
        return self._unfinished.count

    def windows(self) -> Iterator[tuple[int, Sample]]:
        """First row and sample of each window, in order.

        Raises:
            UnreadableError: damaged values; the windows before them have been given.
        """
        self._began = time.perf_counter()
        yield from self._windows

    def prepare(self, windows: Sequence[tuple[int, Sample]]) -> PreparedWindows:
        """See `prepare_windows`."""
        return prepare_windows(self._run, windows, self._auxiliary)

    def add(self, prepared: PreparedWindows, predictions: Sequence[Any]) -> None:
        """Write the rows of the next windows, as far as these do not wait for later windows.

        Args:
            prepared: the windows.
            predictions: of those from which something is predicted.
        """
        rows = prepared.rows(self.output, predictions)
        self._write([ready for row in rows for ready in self._stages.push(row)])

    def finish(self) -> PredictResult:
        """Write what was held back, give the file its name, and draw."""
        with self._unfinished:
            self._write(self._stages.finish())
        took_s = time.perf_counter() - self._began
        return PredictResult(
            self.file,
            self.record,
            self._to,
            self.output.draw(),
            list(self.output.summary()),
            self.output.row_noun,
            self.rows,
            self.output.valid,
            self._auxiliary.lacking,
            self._recorded_s,
            took_s,
            self._side,
        )

    def abandon(self, error: BaseException) -> None:
        """Keep what was written so far under another name, of which the error gets a note."""
        self._unfinished.__exit__(type(error), error, error.__traceback__)

    def _write(self, rows: Sequence[Any]) -> None:
        if rows:
            self._unfinished.add(rows)
            self.output.add(rows)


def _check_places(to: Path, pictures: Sequence[Path], settings: Settings, output: RecordingOutput[Any]) -> None:
    """Refuse files that cannot be written.

    Raises:
        UserError: another ending, no such folder, a file that exists, or two of one name.
    """
    check_place(to, "--to", output.endings, overwrite=settings.overwrite)
    for location in pictures:
        check_place(location, "--picture", (), overwrite=settings.overwrite)
    paths = [location.resolve() for location in (to, *pictures)]
    for path in paths:
        if path in settings.inputs or paths.count(path) > 1:
            problem = "would overwrite the recording itself" if path in settings.inputs else "one file for two things"
            raise UserError(problem, location="--to, --picture", value=str(path), hint="Give another file.")
