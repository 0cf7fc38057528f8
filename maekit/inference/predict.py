"""A trained estimator along a recording: one estimate for every window, streamed, or the reason why there is none."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
import torch

from maekit.build import training_stats
from maekit.build.open_run import open_run
from maekit.config.data_spec import TIME, DataSpec, Window, load_spec
from maekit.data.hdf5.recording import Recording, RecordingReader
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.loading import collate, to_device
from maekit.data.sample import Sample
from maekit.data.stream import stream
from maekit.errors import UserError
from maekit.inference.objects import Found, find_along
from maekit.inference.pictures import Trace, drawn, labels, unit
from maekit.inference.recording import batched, check_fits, digest, reason_against, record_of
from maekit.inference.writers import Estimate, Output, check
from maekit.tasks.classification import Classification
from maekit.tasks.detection import Detection
from maekit.tasks.regression import Regression
from maekit.tracking import Tracker, check_ahead, median_and_std
from maekit.training.distributed import init_distributed
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.build.experiment import Experiment
    from maekit.tasks.task import Task

UNCERTAIN = "uncertain"
Said: TypeAlias = "tuple[float | str, float, NDArray[np.float64] | None]"
"""Value, confidence, and the logarithm of the probability of each of the task's values."""

AT_ONCE = 64
"""Windows that go through the model together."""


@dataclass(frozen=True)
class Outcome:
    """What `predict` wrote, and how fast.

    Attributes:
        location: the file.
        picture: the estimates over time, as SVG.
        windows, valid: how many there were, and how many of them have an estimate.
        recorded_s: length of the recording.
        took_s: from opening the recording to its last row, the model being loaded.
    """

    location: Path
    picture: Path
    windows: int
    valid: int
    recorded_s: float
    took_s: float

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"written: {self.location}, {self.picture}"
        yield f"{self.valid} of {self.windows} windows have an estimate"
        yield f"{self.recorded_s / self.took_s:.0f} times real time"


def predict(
    run: Path,
    file: Path,
    to: Path | None = None,
    *,
    record: str | None = None,
    hop_s: float | None = None,
    smoothing: int = 1,
    track_s: float | None = None,
    gate: bool = True,
    uncertain_above: float | None = None,
    score_threshold: float | None = None,
    pictures: Sequence[Path] = (),
    frame: int | None = None,
    spec: str | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> Outcome | Found:
    """Estimates of a fine-tuned run along one recording, a row every `hop_s`; of a detection run the objects of every frame.

    The recording is read in pieces and rows are written as they come: memory does not grow with its length.

    Args:
        run: folder of a classification, regression or detection run; its training data need not be there.
        file: HDF5, laid out as the run's data spec says; labels are not needed.
        to: CSV or HDF5 file to write, of detection CSV or JSON; by default named after the recording, in the current folder.
        record: which recording of the file, where there are several.
        hop_s: from window to window; by default a second, of detection every frame.
        smoothing: each value becomes the median over so many windows around it, those without an estimate left out.
        track_s: follow the value along the recording, each told also from windows until so many seconds later; see
            `maekit.tracking`. Of a run that says how uncertain it is.
        gate: give no estimate where the adapter finds the signal poorer than in training.
        uncertain_above: give no estimate whose uncertainty, in the unit of the label, is larger.
        score_threshold, pictures, frame: of detection, see `maekit.inference.objects.find_along`.
        spec: a data spec for another layout than the run's.
        overwrite: whether `to` may be there.
        overrides: of the run's recipe.
        device: the model runs there.

    Raises:
        UserError: no such run, one that estimates nothing, a recording that is not as the spec says or does not fit.
    """
    experiment, task, known = _open(run, overrides)
    layout = load_spec(spec) if spec else experiment.spec
    given: dict[str, object] = {
        "--track": track_s,
        "--uncertain-above": uncertain_above,
        "--smoothing": None if smoothing == 1 else smoothing,
    }
    if isinstance(task, Detection):
        _refuse(given, run, "a run of regression: this one finds objects in each frame by itself")
        return find_along(
            experiment,
            task,
            known,
            file,
            to,
            run=run,
            layout=layout,
            record=record,
            hop_s=hop_s,
            gate=gate,
            score_threshold=score_threshold,
            pictures=pictures,
            row=frame,
            overwrite=overwrite,
            device=device,
        )
    _refuse(
        {"--score-threshold": score_threshold, "--picture": [*map(str, pictures)] or None, "--frame": frame},
        run,
        "a run of detection",
    )
    hop_s = 1.0 if hop_s is None else hop_s
    if smoothing < 1 or smoothing % 2 == 0 or (smoothing > 1 and isinstance(task, Classification)):
        raise UserError(
            "not a number of windows to smooth over",
            location="--smoothing",
            value=smoothing,
            expected="an odd number, of a run that estimates values",
        )
    if uncertain_above is not None and not (isinstance(task, Regression) and task.values is not None):
        raise UserError(
            "a run that does not say how uncertain it is",
            location="--uncertain-above",
            value=uncertain_above,
            expected="a run of regression with `spread` or `bins`",
        )
    tracker = None if track_s is None else _tracker(run, task, known, track_s)
    with open_hdf5(file) as opened, init_distributed(device, alone=True) as process:
        recording, reader = _described(experiment, layout, opened, file, record, hop_s)
        name = recording.record.strip("/").replace("/", "_")
        to = to or Path(f"{file.stem}{f'_{name}' if name else ''}_predicted.csv")
        picture = to.with_suffix(".svg")
        check(to, picture, overwrite=overwrite)
        if to.resolve() == file.resolve():
            raise UserError(
                "would overwrite the recording itself", location="--to", value=str(to), hint="Give another file."
            )
        task.to(process.device).eval()
        begun = time.perf_counter()
        trace, rate = Trace(), recording.rate_hz or nan
        facts = {
            "run": str(run),
            "weights_sha256": digest(task),
            "spec": layout.name,
            "file": str(file),
            "record": recording.record,
            "rate_hz": rate,
            "hop_s": hop_s,
            "smoothing": smoothing,
            "track_s": nan if track_s is None else track_s,
            "gate": gate,
            "uncertain_above": nan if uncertain_above is None else uncertain_above,
            "unit": unit(experiment),
        }
        with deferred_signals() as caught, Output(to, columns(experiment, task), facts, overwrite=overwrite) as output:
            samples = stream(reader, opened, recording)
            rows = estimates(experiment, task, samples, recording, known if gate else None, process.device)
            if tracker is not None:
                rows = followed(rows, tracker)
            if uncertain_above is not None:
                rows = (_certain(row, uncertain_above) for row in rows)
            for some in batched(smoothed(rows, smoothing), AT_ONCE):
                output.writer.add(some)
                trace.add(some)
                if caught:  # between two writes, so that no column is longer than another
                    raise StoppedError(
                        f"stopped by {signal.Signals(caught[0]).name}; {trace.windows} rows are in {to}",
                        128 + caught[0],
                    )
        took = time.perf_counter() - begun
        truth = labels(experiment, layout, opened, recording, trace.rows)
    picture.write_text(drawn(experiment, task, trace.rows, truth, f"{file.name} {name}".strip()).svg)
    return Outcome(to, picture, trace.windows, trace.valid, recording.rows / rate, took)


def estimates(
    experiment: Experiment,
    task: Task,
    samples: Iterator[tuple[int, Sample]],
    recording: Recording,
    known: training_stats.TrainingStats | None,
    device: torch.device,
) -> Iterator[Estimate]:
    """One estimate a window, in order.

    Args:
        experiment, task: of the run.
        samples: first row and sample of each window.
        recording: that they come from.
        known: with the limits of quality; None: every window that was measured has an estimate.
        device: of the task.
    """
    rate = recording.rate_hz
    assert rate is not None
    for some in batched(samples, AT_ONCE):
        reasons = [reason_against(experiment, sample, known) for _, sample in some]
        usable = [sample for (_, sample), reason in zip(some, reasons, strict=True) if not reason]
        found = iter(_through_model(experiment, task, usable, device) if usable else [])
        for (start, _), reason in zip(some, reasons, strict=True):
            none: Said = ("" if isinstance(task, Classification) else nan, nan, None)
            value, confidence, said = none if reason else next(found)
            yield Estimate(start / rate, (start + recording.length) / rate, value, confidence, reason, said)


def smoothed(rows: Iterator[Estimate], width: int) -> Iterator[Estimate]:
    """Each value replaced by the median of the `width` rows around it; those without an estimate stay and do not count."""
    if width == 1:
        yield from rows
        return
    reach = width // 2
    around: deque[Estimate | None] = deque([None] * reach, maxlen=width)
    for row in chain(rows, repeat(None, reach)):
        around.append(row)
        if len(around) == width and (centre := around[reach]) is not None:
            valid = [float(one.value) for one in around if one is not None and not one.reason]
            yield centre if centre.reason else replace(centre, value=float(np.median(valid)))


def followed(rows: Iterator[Estimate], tracker: Tracker) -> Iterator[Estimate]:
    """Each value and its uncertainty as they are told from the whole recording; those without an estimate stay."""
    waiting: deque[Estimate] = deque()

    def windows() -> Iterator[tuple[float, NDArray[np.float64] | None]]:
        for row in rows:
            waiting.append(row)
            yield row.time_s, row.said

    for share in tracker.follow(windows()):
        row = waiting.popleft()
        value, std = median_and_std(share, tracker.values)
        yield row if row.reason else replace(row, value=value, confidence=std, said=None)


def _tracker(run: Path, task: Task, known: training_stats.TrainingStats, track_s: float) -> Tracker:
    """For a run that can be followed.

    Raises:
        UserError: a run that cannot.
    """
    check_ahead(track_s)
    values = task.values if isinstance(task, Regression) else None
    if values is None:
        raise UserError(
            "a run that does not say how uncertain it is",
            location="--track",
            value=track_s,
            expected="a run of regression with `spread` or `bins`",
        )
    if known.pace is None:
        raise UserError(
            "it is not known how fast the labels of this run move",
            location=str(run / training_stats.FILE),
            value="pace: null",
            expected="a run trained on recordings of which two windows that do not overlap have different labels",
            hint="A run made before `--track` was there: remove this file; it is made again where the training data are at hand.",
        )
    return Tracker(values, known.pace.drift, known.pace.window_s, track_s)


def _certain(row: Estimate, limit: float) -> Estimate:
    """The row, or none in its place where the model itself is too uncertain; how uncertain stays."""
    return row if row.reason or row.confidence <= limit else replace(row, value=nan, reason=UNCERTAIN)


def columns(experiment: Experiment, task: Task) -> tuple[str, str]:
    """Names of the value, which is its unit where it has one, and of its confidence."""
    if isinstance(task, Classification):
        return "class", "probability"
    return unit(experiment) or "value", "uncertainty"


def _refuse(given: dict[str, object], run: Path, expected: str) -> None:
    """Options that mean nothing of a run.

    Raises:
        UserError: one that was given.
    """
    for option, value in given.items():
        if value is not None:
            raise UserError(
                "an option that means nothing here", location=f"{option} of {run}", value=value, expected=expected
            )


def _open(run: Path, overrides: Sequence[str]) -> tuple[Experiment, Task, training_stats.TrainingStats]:
    """A run that estimates something, with what it was trained on; its training data are read only where that is not known."""
    known = training_stats.read(run)
    stated = (known.signal, known.auxiliary) if known else (None, None)
    experiment, task = open_run(run, overrides=overrides, data=known is None, info=stated[0], auxiliary=stated[1])
    if not isinstance(task, Classification | Regression | Detection):
        raise UserError(
            "a run that estimates nothing",
            location=str(run),
            value=f"task {experiment.recipe.task.name}",
            expected="a run of classification, regression or detection",
            hint="`maekit finetune` makes one.",
        )
    if experiment.spec.kind != "hdf5":
        raise UserError(
            "a run on single files, which do not follow each other in time",
            location=str(run),
            value=f"kind {experiment.spec.kind}",
            expected="a run on HDF5 recordings",
        )
    if known is None or not set(experiment.auxiliary) <= set(known.auxiliary):  # as an earlier version wrote it
        known = training_stats.measure(experiment)
        training_stats.write(run, known)
    return experiment, task, known


def _described(
    experiment: Experiment, layout: DataSpec, opened: h5py.File, file: Path, record: str | None, hop_s: float
) -> tuple[Recording, RecordingReader]:
    """The recording, and what reads windows like those of training from it, `hop_s` apart.

    Raises:
        UserError: a recording that the model cannot go along.
    """
    window = experiment.recipe.data.window or experiment.spec.window
    reader = RecordingReader(layout, window)
    if reader.row_axis != TIME:
        raise UserError(
            "windows that do not follow each other in time",
            location=layout.name,
            value=f"axis {reader.row_axis}",
            expected="a run on windows of the axis `time`",
        )
    recording = reader.describe(opened, file, record_of(opened, layout, record))
    assert recording.rate_hz is not None  # the spec has a time axis
    if recording.rows < recording.length and not (window is not None and window.pad):
        raise UserError(
            "a recording shorter than a window of the run",
            location=f"{file}:{recording.record}",
            value=f"{recording.rows / recording.rate_hz:g} s",
            expected=f"{recording.length / recording.rate_hz:g} s or more",
        )
    check_fits(experiment, reader.info([recording]), window, str(file))
    return recording, RecordingReader(layout, _hopping(window, hop_s, recording.rate_hz))


def _hopping(window: Window | None, hop_s: float, rate_hz: float) -> Window | None:
    """A window with another hop; None, the whole recording, has none."""
    if window is None:
        return None
    hop = {"hop_seconds": hop_s} if window.seconds is not None else {"hop": max(round(hop_s * rate_hz), 1)}
    return window.model_copy(update=hop)


def _through_model(experiment: Experiment, task: Task, samples: Sequence[Sample], device: torch.device) -> list[Said]:
    """What the model says of each sample."""
    items: list[dict[str, Any]] = []
    for sample in samples:
        signal, valid = experiment.adapter.prepare(sample)
        items.append({"signal": signal, "valid": valid, "noise": np.zeros(0), "index": 0})
    with torch.inference_mode():
        batch = to_device(collate(items), device)
        if isinstance(task, Classification):
            best = task.output(batch).float().softmax(1).max(1)
            names = [task.classes[i] for i in best.indices.tolist()]
            return list(zip(names, best.values.tolist(), repeat(None)))
        assert isinstance(task, Regression)
        found = {name: values.cpu() for name, values in task.estimate(batch).items()}
    values = found["output"].tolist()
    if "uncertainty" not in found:
        return list(zip(values, repeat(nan), repeat(None)))
    said = found["log_probability"].double().numpy()
    return list(zip(values, found["uncertainty"].tolist(), said, strict=True))
