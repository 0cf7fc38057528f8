"""A trained run along a recording: one prediction for every window, streamed, or the reason why there is none."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.config.data_spec import load_spec
from maekit.data.hdf5.digest import recording_digest
from maekit.data.hdf5.safety import damage_as_error, open_hdf5
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.foreign_file import as_hdf5
from maekit.inference.predicting_run import make_output, open_predicting
from maekit.inference.recording import (
    RecordedAuxiliary,
    batched,
    describe_recording,
    find_record,
    rows_of,
    weights_digest,
    with_hop,
)
from maekit.inference.writers import UnfinishedFile, check_place
from maekit.tasks.label_kinds.recording_output import OpenRecording, PredictOptions
from maekit.training.distributed import init_distributed
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    from maekit.tasks.label_kinds.recording_output import RecordingOutput


@dataclass(frozen=True)
class PredictResult:
    """What `predict` wrote, and how fast.

    Attributes:
        location: the file.
        pictures: a line on each.
        output: of the label kind, with what it counted.
        rows: windows of the recording.
        lacking: auxiliary signals that the run reads and the recording lacks.
        recorded_s: length of what was gone through; None where the rate is not known.
        took_s: from the first window to the last, the model being loaded.
        side: the side of the run's split that has this recording; empty for one that the run has not seen.
    """

    location: Path
    pictures: list[str]
    output: RecordingOutput[Any]
    rows: int
    lacking: tuple[str, ...]
    recorded_s: float | None
    took_s: float
    side: str = ""

    @property
    def valid(self) -> int:
        """In how many windows something was predicted."""
        return self.output.valid

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"written: {self.location}"
        yield from self.pictures
        yield from self.output.summary()
        if self.side == "train":
            yield "this recording was in the training of the run: the predictions say nothing about new ones"
        elif self.side:
            yield f"this recording was in the {self.side} data of the run"
        for name in self.lacking:
            yield f"this recording has no signal {name!r}, which the run was trained with; it was left out"
        speed = f"{self.rows / self.took_s:.0f} {self.output.row_noun} a second"
        yield speed + (f", {_plain(self.recorded_s / self.took_s)} times real time" if self.recorded_s else "")


def _plain(factor: float) -> str:
    """Two significant digits without an exponent."""
    return f"{float(f'{factor:.2g}'):,g}"


def predict(
    run: Path,
    file: Path,
    to: Path | None = None,
    *,
    record: str | None = None,
    hop_s: float | None = None,
    gate: bool = True,
    smoothing: int = 1,
    track_s: float | None = None,
    uncertain_above: float | None = None,
    score_threshold: float | None = None,
    pictures: Sequence[Path] = (),
    frame: int | None = None,
    spec: str | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> PredictResult:
    """Predictions of a fine-tuned run along one recording: an estimate every `hop_s`, or the objects of every frame.

    The recording is read in pieces and rows are written as they come: memory does not grow with its length.

    Args:
        run: folder of a run of a task with labels; its training data need not be there.
        file: HDF5, laid out as the run's data spec says, or a file that the spec's `convert` section reads; labels are not needed.
        to: file to write, in a format of the run's labels; by default CSV, named after the recording, in the current folder.
        record: which recording of the file, where there are several.
        hop_s: seconds from window to window; the default depends on the labels.
        gate: predict nothing where the adapter finds the signal poorer than in training.
        smoothing: of values: each becomes the median over so many windows around it.
        track_s: of values: follow them along the recording, with windows until so many seconds later.
        uncertain_above: of values: no estimate whose uncertainty, in the unit of the label, is larger.
        score_threshold: of objects: score of what is written.
        pictures: of objects: files to draw.
        frame: of objects: row that still pictures show.
        spec: a data spec for another layout than the run's.
        overwrite: whether files may be replaced.
        overrides: of the run's recipe.
        device: the model runs there.

    Raises:
        UserError: no such run, one that predicts nothing, a recording that is not as the spec says or does not fit.
    """
    opened_run = open_predicting(run, overrides, gate=gate)
    experiment, task, stats = opened_run.experiment, opened_run.task, opened_run.stats
    layout = load_spec(spec) if spec else experiment.spec
    options = PredictOptions(smoothing, track_s, uncertain_above, score_threshold, tuple(pictures), frame)
    output = make_output(opened_run, options)
    with (
        as_hdf5(file, layout) as readable,
        open_hdf5(readable) as opened,
        damage_as_error(str(file)),
        init_distributed(device, alone=True) as process,
    ):
        path = find_record(opened, layout, record)
        recording, reader, clock = describe_recording(
            experiment, layout, opened, file, path, same_axes=output.needs_same_axes
        )
        reader = with_hop(
            reader, recording, clock.rate_hz, layout, hop_s or output.default_hop_s, asked=hop_s is not None
        )
        name = path.strip("/").replace("/", "_")
        to = to or Path(f"{file.stem}{f'_{name}' if name else ''}_predicted.csv")
        paths = output.picture_paths(to)
        _check_places(file, to, paths, output, overwrite=overwrite)
        auxiliary = RecordedAuxiliary(experiment, layout, opened, recording, reader, stats.auxiliary)
        described = OpenRecording(layout, opened, recording, reader, clock, f"{file.name} {name}".strip())
        output.begin(described, paths)
        side = stats.recordings.get(recording_digest(opened[recording.dataset]), "")
        facts = {
            "run": str(run),
            "weights_sha256": weights_digest(task),
            "spec": layout.name,
            "file": str(file),
            "record": recording.record,
            "gate": gate,
            "in_data_of_run": side,
            "auxiliary": auxiliary.names,
            "auxiliary_lacking": list(auxiliary.lacking),
            **output.facts(),
        }
        task.to(process.device).eval()
        started, count = time.perf_counter(), 0
        windows = stream(reader, opened, recording)
        with deferred_signals() as caught, UnfinishedFile(to, output, facts) as unfinished:
            rows = chain.from_iterable(
                rows_of(opened_run, batch, auxiliary, output, process.device)
                for batch in batched(windows, output.window_batch)
            )
            for batch in batched(output.process(rows), output.window_batch):
                unfinished.add(batch)
                output.add(batch)
                count += len(batch)
                if caught:  # between two writes, so that no column is longer than another
                    raise StoppedError(
                        f"stopped by {signal.Signals(caught[0]).name} after {count} {output.row_noun}.", 128 + caught[0]
                    )
        took = time.perf_counter() - started
        recorded = None if clock.rate_hz is None else recording.rows / clock.rate_hz
        return PredictResult(to, output.draw(), output, count, auxiliary.lacking, recorded, took, side)


def _check_places(
    file: Path, to: Path, pictures: Sequence[Path], output: RecordingOutput[Any], *, overwrite: bool
) -> None:
    """Refuse files that cannot be written.

    Raises:
        UserError: another ending, no such folder, a file that exists, or two of one name.
    """
    check_place(to, "--to", output.endings, overwrite=overwrite)
    for location in pictures:
        check_place(location, "--picture", (), overwrite=overwrite)
    paths = [location.resolve() for location in (file, to, *pictures)]
    for path in paths:
        if paths.count(path) > 1:
            problem = "would overwrite the recording itself" if path == paths[0] else "one file for two things"
            raise UserError(problem, location="--to, --picture", value=str(path), hint="Give another file.")
