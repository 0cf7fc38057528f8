"""What a label kind makes of the predictions along one recording: rows of a file, figures and a summary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from maekit.adapter import Adapter
    from maekit.config.data_spec import DataSpec
    from maekit.data.hdf5.clock import Clock
    from maekit.data.hdf5.recording import Recording, RecordingReader
    from maekit.data.sample import Sample
    from maekit.tasks.task import Task
    from maekit.tracking import LabelDynamics

Row = TypeVar("Row")
Column = tuple[str, type]
"""Name, and `float`, `int` or `str`."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of `maekit predict` that have a meaning for some label kinds only.

    Attributes:
        smoothing: each value becomes the median over so many windows around it.
        track_s: follow the value along the recording, with windows until so many seconds later.
        uncertain_above: no prediction whose uncertainty, in the unit of the label, is larger.
        score_threshold: score of what is written.
        picture: files to draw.
        frame: row that still pictures show.
    """

    smoothing: int = 1
    track_s: float | None = None
    uncertain_above: float | None = None
    score_threshold: float | None = None
    picture: Sequence[Path] = ()
    frame: int | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not at their defaults, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}


def flag(name: str) -> str:
    """The option of the command line that sets a field of `PredictOptions`."""
    return "--" + name.removesuffix("_s").replace("_", "-")


@dataclass(frozen=True)
class TrainedRun:
    """The run that predicts.

    Attributes:
        folder: of the run.
        task: with its weights.
        adapter: of the samples.
        label_dynamics: of its training labels, if they are known.
    """

    folder: Path
    task: Task
    adapter: Adapter
    label_dynamics: LabelDynamics | None


@dataclass(frozen=True)
class OpenRecording:
    """A recording that predictions are made along.

    Attributes:
        layout: its data spec.
        file: open.
        recording: in the file.
        reader: of the windows, at the distance that was asked for.
        clock: of its rows.
        title: for figures.
    """

    layout: DataSpec
    file: h5py.File
    recording: Recording
    reader: RecordingReader
    clock: Clock
    title: str


class Stage(Protocol[Row]):
    """A step that rows go through one by one; it may hold some back until later ones have come."""

    def push(self, row: Row) -> Sequence[Row]:
        """Take the next row; gives those that are ready, in order."""

    def finish(self) -> Sequence[Row]:
        """Those that were held back, when no more come."""

    def rows_held(self, hop_s: float) -> int:
        """How many later rows a row waits for, when they are so many seconds apart."""


class Stages(Generic[Row]):
    """Several stages, one after another, as one.

    Args:
        stages: the first comes first.
    """

    def __init__(self, stages: Sequence[Stage[Row]]) -> None:
        self.stages = stages

    def push(self, row: Row) -> list[Row]:
        """See `Stage.push`."""
        return self._from(0, [row])

    def finish(self) -> list[Row]:
        """See `Stage.finish`."""
        return [row for i, stage in enumerate(self.stages) for row in self._from(i + 1, stage.finish())]

    def rows_held(self, hop_s: float) -> int:
        """See `Stage.rows_held`."""
        return sum(stage.rows_held(hop_s) for stage in self.stages)

    def _from(self, first: int, rows: Iterable[Row]) -> list[Row]:
        for stage in self.stages[first:]:
            rows = [out for row in rows for out in stage.push(row)]
        return list(rows)


def through(rows: Iterable[Row], stage: Stage[Row]) -> Iterator[Row]:
    """All rows after a stage, as soon as they are ready."""
    for row in rows:
        yield from stage.push(row)
    yield from stage.finish()


class RecordingOutput(ABC, Generic[Row]):
    """Post-processing, writing and drawing of the predictions along one recording.

    Args:
        run: the run that predicts.
        options: of `maekit predict`.

    Raises:
        UserError: options that are not in `options_used`, or do not go with the run.

    Attributes:
        options_used: fields of `PredictOptions` that mean something here.
        endings: of files that can be written.
        row_noun: what a row is called in messages.
        window_batch: windows that go through the model together.
        default_hop_s: seconds between windows; None: every row.
        streams: whether rows need no more than the window's position in time, so that samples may be pushed as they come.
        needs_same_axes: whether predictions refer to the coordinates of the sample's axes, which must be those of training.
    """

    options_used: ClassVar[frozenset[str]] = frozenset()
    endings: ClassVar[tuple[str, ...]]
    row_noun: ClassVar[str] = "rows"
    window_batch: ClassVar[int] = 64
    default_hop_s: ClassVar[float | None] = 1.0
    streams: ClassVar[bool] = False
    needs_same_axes: ClassVar[bool] = False

    def __init__(self, run: TrainedRun, options: PredictOptions) -> None:
        for name, value in options.given().items():
            if name not in self.options_used:
                raise UserError(
                    "an option that means nothing here",
                    location=f"{flag(name)} of {run.folder}",
                    value=value if not isinstance(value, list | tuple) else [str(path) for path in value],
                    expected=", ".join(sorted(map(flag, self.options_used)))
                    or "no option of this kind for these labels",
                )
        self.run, self.options = run, options

    def picture_paths(self, to: Path) -> list[Path]:
        """Files that are drawn beside the file of predictions."""
        return list(self.options.picture) or [to.with_suffix(".svg")]

    def begin(self, recording: OpenRecording, pictures: Sequence[Path]) -> None:
        """Prepare for the first window.

        Args:
            recording: open until `draw` has been called.
            pictures: as `picture_paths` gave them.

        Raises:
            UserError: options that do not go with the recording.
        """
        self.recording, self.pictures = recording, pictures

    def begin_stream(self, reader: RecordingReader, recording: Recording) -> None:
        """Prepare for windows of samples that are pushed, instead of `begin`; only where `streams`.

        Args:
            reader: of the windows.
            recording: whose length is not known.
        """

    @abstractmethod
    def predictions(self, rows: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        """The prediction of each window, from what `Task.eval_step` gives of them."""

    @abstractmethod
    def row(self, start: int, sample: Sample, prediction: Any, reason: str) -> Row:
        """The row of one window.

        Args:
            start: first row of the window in the recording.
            sample: the window.
            prediction: None where there is a reason against one.
            reason: why nothing was predicted; empty where something was.
        """

    def stages(self) -> list[Stage[Row]]:
        """What rows go through in the order of time, such as smoothing; new ones for each recording. Default: nothing."""
        return []

    @abstractmethod
    def columns(self) -> list[Column]:
        """Columns of a table."""

    @abstractmethod
    def cells(self, row: Row) -> Iterable[Sequence[float | str]]:
        """Lines of a table for one row; NaN is an empty cell."""

    def document(self, row: Row) -> dict[str, Any]:
        """One row as JSON. Default: its line of the table, by column; rows of several lines bring their own."""
        (line,) = self.cells(row)
        return {name: cell for (name, _), cell in zip(self.columns(), line, strict=True)}

    def facts(self) -> dict[str, Any]:
        """What else a file says of how it was made."""
        return {}

    @abstractmethod
    def add(self, rows: Sequence[Row]) -> None:
        """Take note of rows that have been written, for the figures and the summary."""

    @abstractmethod
    def draw(self) -> list[str]:
        """Write the figures; gives a line on each."""

    @abstractmethod
    def summary(self) -> Iterator[str]:
        """Lines on what was predicted."""

    @property
    @abstractmethod
    def valid(self) -> int:
        """In how many rows something was predicted."""
