"""A trained run on samples as they come from a sensor, in memory that does not grow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import CHANNEL
from maekit.data.hdf5.recording import RecordingReader
from maekit.errors import UserError
from maekit.inference.predicting_run import make_output, open_predicting
from maekit.inference.recording import NoAuxiliary, check_same_signal, with_hop
from maekit.inference.windows import prepare_windows, run_model
from maekit.tasks.label_kinds.recording_output import PredictOptions, Stages
from maekit.training.device import fast_float32_matmul, find_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from maekit.data.sample import Sample
    from maekit.tasks.label_kinds.estimates import Estimate

SOURCE = "pushed samples"


@dataclass(frozen=True)
class Latency:
    """How long after what it describes an estimate is there, without the time of computation.

    Attributes:
        window_s: length of a window; an estimate describes its centre.
        hop_s: from window to window.
        lag_s: that tracking and smoothing hold an estimate back after the end of its window.
    """

    window_s: float
    hop_s: float
    lag_s: float

    @property
    def total_s(self) -> float:
        """From the centre of a window until its estimate."""
        return self.window_s / 2 + self.lag_s


class Predictor:
    """Estimates of a fine-tuned run along samples that are pushed in pieces of any length.

    Estimates are those that `maekit.predict` makes of a recording of the same samples, however they are cut, to rounding of
    float32. Between pushes it keeps the samples of one window and the estimates that tracking and smoothing hold back. Auxiliary
    signals of the run are treated as missing.

    Args:
        run: folder of a run that predicts values or classes; its training data need not be there.
        hop_s: seconds from window to window; the default is that of `predict`.
        gate: predict nothing where the adapter finds the signal poorer than in training.
        smoothing: of values: each becomes the median over so many windows around it, and waits for half of them.
        track_s: of values: follow them along the samples, with windows until so many seconds later.
        uncertain_above: of values: no estimate whose uncertainty, in the unit of the label, is larger.
        rate_hz: sampling rate, where it is not that of the run's training data.
        overrides: of the run's recipe.
        device: the model runs there.

    Attributes:
        shape: of what is pushed, by the axes of the run's data spec; None along the time and where any length will do.
        latency: see `Latency`.
        compute_s: that the last push took.

    Raises:
        UserError: no such run, one whose predictions need more than samples, or options that do not fit it.
    """

    def __init__(
        self,
        run: Path | str,
        *,
        hop_s: float | None = None,
        gate: bool = True,
        smoothing: int = 1,
        track_s: float | None = None,
        uncertain_above: float | None = None,
        rate_hz: float | None = None,
        overrides: Sequence[str] = (),
        device: str | None = None,
    ) -> None:
        self._device = find_device(device)
        for name, value in (("hop_s", hop_s), ("rate_hz", rate_hz)):
            if value is not None and not (isfinite(value) and value > 0):
                raise UserError(f"not a {name}", location="Predictor", value=value, expected="a positive number")
        self._run = open_predicting(Path(run), overrides, gate=gate)
        experiment, stats = self._run.experiment, self._run.stats
        self._output = make_output(self._run, PredictOptions(smoothing, track_s, uncertain_above))
        spec, info = experiment.spec, stats.signal
        reader = RecordingReader(spec, experiment.recipe.data.window or spec.window)
        rate_hz = rate_hz or info.rate_hz
        if not self._output.streams or reader.window is None or rate_hz is None:
            unknown = self._output.streams and reader.window is not None
            raise UserError(
                "a sampling rate that is not known" if unknown else "a run whose predictions need a whole file",
                location=str(run),
                value=f"task {experiment.recipe.task.name}, window {reader.window}",
                expected="`rate_hz`, since the recordings of the run have several rates"
                if unknown
                else "a run of values or classes on windows in time",
                hint="" if unknown else "Use `maekit.predict` on recordings.",
            )
        lengths = {axis.name: axis.length for axis in info.axes} | {CHANNEL: len(info.channels)}
        stored = [lengths.get(axis, 1) for axis in reader.signal.axes]
        self._recording = reader.endless(stored, rate_hz, SOURCE)
        own = experiment.source.info
        check_same_signal(experiment.adapter, own, reader.info([self._recording]), reader.window, SOURCE)
        hop = hop_s or self._output.default_hop_s
        self._reader = with_hop(reader, self._recording, rate_hz, spec, hop, asked=hop_s is not None)
        self._output.begin_stream(self._reader, self._recording)
        self._auxiliary = NoAuxiliary(experiment, stats.auxiliary)
        free = {self._reader.row_axis, *reader.signal.sizes}
        self.shape = tuple(
            None if axis in free else length for axis, length in zip(reader.signal.axes, stored, strict=True)
        ) + ((2,) if reader.signal.complex == "pairs" else ())
        self._run.task.to(self._device).eval()
        self._axis = self._reader.axes.index(self._reader.row_axis)
        seconds = self._reader.hop(self._recording) / rate_hz
        held = Stages(self._output.stages()).rows_held(seconds)
        self.latency = Latency(self._recording.length / rate_hz, seconds, held * seconds)
        self.compute_s = self._spent_s = 0.0
        self._pushed = 0
        self.reset()

    @property
    def rate_hz(self) -> float:
        """Sampling rate of what is pushed."""
        assert self._recording.rate_hz is not None
        return self._recording.rate_hz

    @property
    def real_time_factor(self) -> float:
        """Seconds of samples over seconds of computation, of all pushes so far; NaN before the first."""
        return self._pushed / self.rate_hz / self._spent_s if self._spent_s else float("nan")

    def reset(self) -> None:
        """Forget all samples; the next ones begin a new recording."""
        self._stages: Stages[Estimate] = Stages(self._output.stages())
        self._first = self._windows = 0
        """Row of the first sample that is kept, and number of the next window."""
        self._signal: NDArray[Any] | None = None
        self._valid: NDArray[np.bool_] | None = None

    def push(self, samples: ArrayLike, valid: ArrayLike | None = None) -> list[Estimate]:
        """Take the next samples; gives the estimates that they complete, in the order of time.

        Args:
            samples: any number of them, of the axes and in the unit of the run's data spec, as they would be stored in a file;
                NaN where nothing was measured.
            valid: booleans, (time) or of the samples' axes: where something was measured.

        Raises:
            UserError: another shape, or values that are no such numbers; the samples before them stay.
        """
        began = time.perf_counter()
        raw = self._checked(samples)
        mask = None if valid is None else self._checked_mask(valid, raw)
        signal, measured = self._reader.interpret(raw[None], None if mask is None else mask[None], self._recording)
        self._append(signal[0], measured[0])
        rows = self._estimates(self._complete_windows())
        self.compute_s = time.perf_counter() - began
        self._spent_s += self.compute_s
        self._pushed += raw.shape[self._reader.stored_row_axis]
        return rows

    def finish(self) -> list[Estimate]:
        """The estimates that tracking and smoothing held back, at the end of a recording; the next samples begin another."""
        rows: list[Estimate] = []
        window = self._reader.window
        if self._signal is not None and not self._windows and self._end and window is not None and window.pad:
            assert self._valid is not None
            rows = self._estimates(iter([(0, self._reader.sample(self._signal, self._valid, self._recording, 0))]))
        rows += self._stages.finish()
        self.reset()
        return rows

    @property
    def _end(self) -> int:
        """Row after the last sample."""
        return self._first + (0 if self._valid is None else self._valid.shape[self._axis])

    def _append(self, signal: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        if self._signal is not None and self._valid is not None:
            signal = np.concatenate([self._signal, signal], axis=self._axis + 1)
            valid = np.concatenate([self._valid, valid], axis=self._axis)
        self._signal, self._valid = signal, valid

    @property
    def _next_start(self) -> int:
        return self._reader.start(self._recording, self._windows)

    def _complete_windows(self) -> Iterator[tuple[int, Sample]]:
        assert self._signal is not None
        assert self._valid is not None
        while (start := self._next_start) + self._recording.length <= self._end:
            rows = slice(start - self._first, start - self._first + self._recording.length)
            # Windows overlap, and an adapter may change in place what it is given.
            own = _rows(self._signal, self._axis + 1, rows).copy()
            own_valid = _rows(self._valid, self._axis, rows).copy()
            self._windows += 1
            yield start, self._reader.sample(own, own_valid, self._recording, start)
        kept = slice(min(start, self._end) - self._first, None)
        self._first += kept.start
        # Copied, so that a long piece is not kept for its end.
        self._signal = _rows(self._signal, self._axis + 1, kept).copy()
        self._valid = _rows(self._valid, self._axis, kept).copy()

    def _estimates(self, windows: Iterator[tuple[int, Sample]]) -> list[Estimate]:
        found: list[Estimate] = []
        while batch := list(islice(windows, self._output.window_batch)):
            prepared = prepare_windows(self._run, batch, self._auxiliary)
            with fast_float32_matmul(self._device):
                predictions = run_model(self._run, [prepared], self._output, self._device)
            rows = prepared.rows(self._output, predictions)
            found += [out for row in rows for out in self._stages.push(row)]
        return found

    def _checked(self, samples: ArrayLike) -> NDArray[Any]:
        try:
            raw = np.asarray(samples)
        except ValueError as error:  # lists of different lengths
            raise UserError("samples that are no array", location=SOURCE, value=str(error)) from None
        expected = ", ".join("any" if length is None else str(length) for length in self.shape)
        if raw.ndim != len(self.shape) or any(
            length not in (None, n) for length, n in zip(self.shape, raw.shape, strict=True)
        ):
            raise UserError(
                "samples of another shape than the run was trained on",
                location=SOURCE,
                value=raw.shape,
                expected=f"({expected}) along {', '.join(self._reader.signal.axes)}",
            )
        kinds = "c" if self._reader.signal.complex in ("keep", "magnitude", "phase") else "biuf"
        if raw.dtype.kind not in kinds:
            raise UserError(
                "samples of another type than the run was trained on",
                location=SOURCE,
                value=str(raw.dtype),
                expected="complex numbers" if kinds == "c" else "real numbers",
            )
        return raw

    def _checked_mask(self, valid: ArrayLike, raw: NDArray[Any]) -> NDArray[np.bool_]:
        axes = self._reader.signal.axes
        shape = raw.shape[: len(axes)]
        plain = tuple(n for axis, n in zip(axes, shape, strict=True) if axis != CHANNEL)
        rows = (shape[self._reader.stored_row_axis],)
        mask = np.asarray(valid)
        if mask.dtype.kind != "b" or mask.shape not in (shape, plain, rows):
            raise UserError(
                "not a mask of the samples",
                location="valid",
                value=f"{mask.dtype} {mask.shape}",
                expected=f"booleans of shape {plain} or {rows}",
            )
        return mask


def _rows(x: NDArray[Any], axis: int, rows: slice) -> NDArray[Any]:
    return x[(slice(None),) * axis + (rows,)]
