"""Jobs of a study: functions of a recipe and overrides whose results are JSON files, each computed once.

The name of a result ends in a digest of everything that it depends on, so a study continues where it stopped, an edited
recipe is computed anew, and several studies can share a folder: whoever writes a result writes the same content.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from maekit.errors import UserError
from maekit.files import read_json, write_text
from maekit.report.quantities import duration
from maekit.training.lock import wait_until_free
from maekit.training.run import RunBusyError

Result = dict[str, Any]
Report = Callable[[str], None]
"""Takes one line of progress."""


def no_report(_line: str) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Job:
    """One result and how to compute it; plain data, which other processes receive by pickle.

    Attributes:
        kind: of computation, e.g. `pretraining`; jobs of one kind take about the same time.
        name: of the result below the folder, without `.json`: readable, and ending in `-` and a digest.
        function: takes the results of `needs` by position and `arguments` by name, and returns the result as plain data.
        arguments: of the function, by name: recipe, overrides and so on.
        needs: names of the results that the function takes.
        description: for progress lines.
    """

    kind: str
    name: str
    function: Callable[..., Result]
    arguments: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    description: str = ""

    @property
    def digest(self) -> str:
        """The digest at the end of the name."""
        return self.name.rpartition("-")[2]


def digest(*key: Any) -> str:
    """Twelve hexadecimal digits that identify plain data, whatever the order of keys in its dictionaries."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def result_names(folder: Path) -> dict[str, str]:
    """Names of the results in a folder by their digests."""
    return {name.rpartition("-")[2]: name for name in sorted(_stored(folder))}


def read_result(folder: Path, name: str) -> Result:
    """Read a result that has been computed."""
    return read_json(result_path(folder, name))


def missing_jobs(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    """Jobs without a result, in order.

    Results are found by listing the folder: looking up the name of each missing file would make network file systems
    remember that it is missing, for up to a minute after another machine has written it.
    """
    stored = _stored(folder)
    return [job for job in jobs if job.name not in stored]


def result_path(folder: Path, name: str) -> Path:
    """The file of a result."""
    return folder / f"{name}.json"


def compute(folder: Path, job: Job) -> float:
    """Compute one result whose needs are there, unless it is there itself.

    Where another process is training in the run folder of this job, as of a second study with the same recipe, wait for
    it, and then take its result, or finish its run from the checkpoint.

    Returns:
        Seconds that it took.
    """
    began, path = perf_counter(), result_path(folder, job.name)
    while not path.is_file():
        try:
            result = job.function(*(read_result(folder, name) for name in job.needs), **job.arguments)
        except RunBusyError as busy:
            wait_until_free(busy.lock)
        else:
            write_text(path, json.dumps(result, separators=(",", ":")))
    return perf_counter() - began


def run_jobs(
    folder: Path, jobs: Sequence[Job], *, processes: int = 1, scheduler: str | None = None, report: Report = no_report
) -> None:
    """Compute the missing results, in the order of `jobs` as far as their needs allow.

    The first job that fails ends the work: the other processes save checkpoints, and finished results stay.

    Args:
        folder: of the results.
        jobs: each after those that it needs.
        processes: worker processes on this machine, which share its cores; 1 computes in this process.
        scheduler: address of a dask scheduler whose workers compute instead.
        report: called with a line of progress for every job.

    Raises:
        UserError: whatever a job raises, options that contradict each other, no dask, or no scheduler at the address.
        StoppedError: by a signal, or as a job raised it.
    """
    if scheduler is not None and processes > 1:
        raise UserError(
            "workers of a cluster and of this machine at once",
            location="--jobs",
            value=processes,
            expected="either --jobs or --scheduler",
        )
    missing = missing_jobs(folder, jobs)
    progress = JobProgress(missing, done=len(jobs) - len(missing), report=report)
    if scheduler is None and (processes == 1 or len(missing) < 2):
        for job in missing:
            progress.start(job)
            progress.finish(job, compute(folder, job))
    elif missing:
        try:
            from maekit.studies.cluster import run_on_cluster
        except ModuleNotFoundError as error:
            raise UserError(
                f"dask is not installed ({error})",
                location="--jobs" if scheduler is None else "--scheduler",
                value=processes if scheduler is None else scheduler,
                hint="pip install 'maekit[cluster]', or leave the option out to compute in one process.",
            ) from error
        run_on_cluster(folder, missing, processes=processes, scheduler=scheduler, progress=progress)


class JobProgress:
    """Lines of progress: how many jobs are done, which one, and the time left where it is known.

    Time left is known once a job of every kind that remains has been timed.

    Args:
        missing: jobs to do.
        done: number of jobs that were done before.
        report: called with each line.
    """

    def __init__(self, missing: Sequence[Job], *, done: int, report: Report) -> None:
        self.done, self.total, self.report = done, done + len(missing), report
        self.parallel = 1
        self._remaining = [job.kind for job in missing]
        self._seconds: dict[str, list[float]] = defaultdict(list)
        if missing and done:
            report(f"{done} of {self.total} parts are there already")

    def start(self, job: Job) -> None:
        """Report that a job starts in this process."""
        self.report(f"{self.done}/{self.total} done, now {job.description}{self._time_left()}")

    def finish(self, job: Job, seconds: float, *, show: bool = False) -> None:
        """Count a finished job, and with `show` report it."""
        self.done += 1
        self._remaining.remove(job.kind)
        self._seconds[job.kind].append(seconds)
        if show:
            self.report(f"{self.done}/{self.total} done: {job.description}{self._time_left()}")

    def _time_left(self) -> str:
        if not self._remaining or any(kind not in self._seconds for kind in self._remaining):
            return ""
        seconds = sum(fmean(self._seconds[kind]) for kind in self._remaining) / self.parallel
        return f"; about {duration(seconds)} left"


def _stored(folder: Path) -> set[str]:
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}
