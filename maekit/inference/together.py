"""Recordings whose windows go through a run's model together, in memory that does not grow with their number or length."""

from __future__ import annotations

import errno
import signal
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from maekit.data.hdf5.safety import damage_as_error, find_records, open_hdf5
from maekit.errors import UserError
from maekit.inference.foreign_file import as_hdf5
from maekit.inference.predicting_run import make_output
from maekit.inference.prediction import Prediction
from maekit.inference.recording import find_record
from maekit.inference.windows import run_model
from maekit.training.distributed import init_distributed
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from maekit.data.sample import Sample
    from maekit.inference.prediction import PredictResult, Settings

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Errors that the next recording would meet too."""


class Window(NamedTuple):
    """The next window of a prediction: its first row, and the sample."""

    prediction: Prediction
    start: int
    sample: Sample


Step: TypeAlias = "Window | Callable[[], None]"
"""A window, or what is done when all windows before it have been predicted."""


class Together:
    """Predicts along recordings, one after another; a batch of windows goes from the end of one to the beginning of the next.

    Args:
        settings: of all recordings.
        place: (file, path of a recording in it) -> the file that is written.
        succeeded: told of every recording.
        failed: told of every file or recording that cannot be read or predicted, which the others outlast. It may raise.
    """

    def __init__(
        self,
        settings: Settings,
        place: Callable[[Path, str], Path],
        *,
        succeeded: Callable[[PredictResult], None],
        failed: Callable[[Path, str, UserError | OSError], None],
    ) -> None:
        self.settings, self.place, self.succeeded, self.failed = settings, place, succeeded, failed
        self.output = make_output(settings.run, settings.options)  # refuses options before anything is read
        self.took_s = 0.0
        self._open: list[Prediction] = []
        self._finished = self._finished_rows = 0

    def run(self, files: Iterable[Path], record: str | None, device: str | None, *, every: bool) -> None:
        """Predict along the recordings of some files.

        Args:
            files: HDF5, or what the `convert` section of the data spec reads.
            record: the one of this name in each file.
            device: the model runs there.
            every: without a name, whether all recordings of a file are meant; otherwise it must have one only.

        Raises:
            StoppedError: a signal came; what was predicted is kept.
        """
        with (
            init_distributed(device, alone=True) as process,
            deferred_signals() as caught,
            ExitStack() as self._files,
            self._kept_on_error(),
        ):
            self._device = process.device
            self.settings.run.task.to(process.device).eval()
            batch: list[Step] = []
            windows, began = 0, time.perf_counter()
            for step in self._steps(files, record, every=every):
                batch.append(step)
                windows += isinstance(step, Window)
                if windows == self.output.window_batch or caught:
                    self._take(batch)
                    batch, windows = [], 0
                if caught:  # between two writes, so that no column is longer than another
                    self._stop(caught[0])
            self._take(batch)
            self.took_s = time.perf_counter() - began

    def _steps(self, files: Iterable[Path], record: str | None, *, every: bool) -> Iterator[Step]:
        layout = self.settings.layout
        for file in files:
            paths, stack = list[str](), self._files.enter_context(ExitStack())
            with self._failure_of(file, record or ""):
                opened = stack.enter_context(open_hdf5(stack.enter_context(as_hdf5(file, layout))))
                if every and record is None:
                    paths = find_records(opened, layout.records)
                else:
                    paths = [find_record(opened, layout, record)]
            for path in paths:
                with self._failure_of(file, path):
                    self._open.append(Prediction(self.settings, opened, file, path, self.place(file, path)))
                    yield from self._steps_of(self._open[-1])
            yield stack.close

    def _steps_of(self, prediction: Prediction) -> Iterator[Step]:
        ended: UserError | OSError | None = None
        try:
            with damage_as_error(str(prediction.file)):
                for start, sample in prediction.windows():
                    if prediction not in self._open:  # it failed
                        return
                    yield Window(prediction, start, sample)
        except (UserError, OSError) as error:
            ended = error
        yield partial(self._finish, prediction, ended)

    def _take(self, batch: list[Step]) -> None:
        """Predict the windows of a batch, then do what waits for them."""
        prepared = []
        windows = (step for step in batch if isinstance(step, Window))
        for prediction, group in groupby(windows, key=attrgetter("prediction")):
            if prediction in self._open:
                with self._failure_of(prediction.file, prediction.record, prediction):
                    prepared.append((prediction, prediction.prepare([(start, sample) for _, start, sample in group])))
        predictions = iter(run_model(self.settings.run, [one for _, one in prepared], self.output, self._device))
        for prediction, one in prepared:
            own = list(islice(predictions, len(one.items)))
            with self._failure_of(prediction.file, prediction.record, prediction):
                prediction.add(one, own)
        for step in batch:
            if not isinstance(step, Window):
                step()

    def _finish(self, prediction: Prediction, error: UserError | OSError | None) -> None:
        """Finish a prediction whose last window is through, or one that cannot be read further."""
        if prediction not in self._open:
            return
        with self._failure_of(prediction.file, prediction.record, prediction):
            if error is not None:
                raise error
            self._open.remove(prediction)
            result = prediction.finish()
            self._finished, self._finished_rows = self._finished + 1, self._finished_rows + result.rows
            self.succeeded(result)

    @contextmanager
    def _failure_of(self, file: Path, record: str, prediction: Prediction | None = None) -> Iterator[None]:
        """Tell of an error that concerns one recording alone, and give its prediction up."""
        try:
            with damage_as_error(str(file)):
                yield
        except (UserError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise
            if prediction in self._open:
                self._open.remove(prediction)
                prediction.abandon(error)
            self.failed(file, record, error)

    @contextmanager
    def _kept_on_error(self) -> Iterator[None]:
        """Keep what was predicted when everything ends with an error."""
        try:
            yield
        except BaseException as error:
            for prediction in self._open:
                prediction.abandon(error)
            raise

    def _stop(self, number: int) -> None:
        rows = self._finished_rows + sum(prediction.rows for prediction in self._open)
        done = f", of which those of {self._finished} recordings are complete" if self._finished else ""
        raise StoppedError(
            f"stopped by {signal.Signals(number).name} after {rows} {self.output.row_noun}{done}.", 128 + number
        )
