"""Jobs of a study on workers of dask: processes of this machine, or an existing cluster by the address of its scheduler.

dask decides where a job runs, and runs it again where its worker dies; a training then continues from its checkpoint.
Results go to files that this process reads, so the workers of a cluster must see the folder of results under its path.

Processes of this machine listen on its loopback address only, where any user of the machine can reach them, and share one
GPU. For several GPUs start a worker for each, with its CUDA_VISIBLE_DEVICES, and pass the address of their scheduler.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, get_worker, wait

from maekit import plugins
from maekit.errors import UserError
from maekit.files import write_text
from maekit.studies.jobs import compute
from maekit.training import stopping
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    from distributed import Future, Worker

    from maekit.studies.jobs import Job, JobProgress

CONNECT_S = 10
"""Seconds to wait for the answer of a scheduler."""
SAVE_S = 60
"""Seconds that running jobs have to save a checkpoint after the study was stopped."""
SETTINGS = {
    "distributed.worker.daemon": False,  # so that jobs can start data loading workers
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.worker-ttl": None,  # a worker that computes without answering is not dead
    "distributed.admin.tick.limit": "1h",  # nor worth a warning
}
"""For the cluster of this machine; see dask's configuration reference."""


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker process needs to know before it computes a job.

    Attributes:
        study: identifies the study, so that stopping it does not stop another one on the same workers.
        directory: current directory, which relative paths in recipes start from.
        marker: a file that is there while the study runs.
        plugin_files: see `--plugin`.
        log_level: of messages.
    """

    study: str
    directory: Path
    marker: Path
    plugin_files: tuple[Path, ...]
    log_level: int

    def apply(self) -> None:
        """Make this process like the one that started the study.

        Raises:
            UserError: the worker has several threads, does not see the folder of results, or cannot load a plug-in file.
        """
        worker = get_worker()
        if worker.state.nthreads != 1:
            raise UserError(
                "a worker with several threads, whose jobs would disturb each other's random numbers",
                location="--scheduler",
                value=f"{worker.state.nthreads} threads at {worker.address}",
                expected="one thread",
                hint="Start it with `dask worker --nthreads 1`.",
            )
        if not self.marker.is_file():
            raise UserError(
                "a worker does not see the folder of results",
                location="--scheduler",
                value=str(self.marker.parent),
                expected=f"the same folder under the same path on {worker.address}",
                hint="Choose a folder on a file system that all machines share with --runs.",
            )
        os.chdir(self.directory)
        logging.basicConfig(level=self.log_level, format="%(message)s")
        for file in self.plugin_files:
            if file not in plugins.loaded:
                plugins.load_file(file)


def run_on_cluster(
    folder: Path, jobs: Sequence[Job], *, processes: int, scheduler: str | None, progress: JobProgress
) -> None:
    """Compute jobs without results on a cluster.

    Args:
        folder: of the results.
        jobs: each after those that it needs.
        processes: worker processes on this machine where there is no scheduler.
        scheduler: address of an existing one.
        progress: told of every finished job.

    Raises:
        UserError: no scheduler answers, or whatever the first job that fails raises.
        StoppedError: by a signal, or a job whose worker died several times.
    """
    setup = WorkerSetup(
        study=uuid4().hex[:8],
        directory=Path.cwd(),
        marker=folder.absolute() / f".study-{uuid4().hex[:8]}",
        plugin_files=tuple(plugins.loaded),
        log_level=logging.getLogger("maekit").getEffectiveLevel(),
    )
    events: SimpleQueue[Any] = SimpleQueue()  # finished futures, and the numbers of signals
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        client = stack.enter_context(_connect(min(processes, len(jobs)), scheduler))
        write_text(setup.marker, "")
        stack.callback(setup.marker.unlink, missing_ok=True)
        stack.enter_context(deferred_signals(events.put))
        workers = len(client.nthreads())
        progress.parallel = max(workers, 1)
        if not workers:
            progress.report(f"{scheduler} has no workers yet; waiting for them")
        futures = _submit(client, setup, folder.absolute(), jobs)
        for future in futures:
            future.add_done_callback(events.put)
        try:
            _collect(events, {str(future.key): job for future, job in zip(futures, jobs, strict=True)}, progress)
        except BaseException:
            _stop(client, setup, futures)
            raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what dask logs; its errors are raised, or jobs are computed again."""
    levels = {
        logger: logger.level
        for name in list(logging.root.manager.loggerDict)
        if (logger := logging.getLogger(name)).name.partition(".")[0] == "distributed"
    }
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def _connect(processes: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster of this machine, which ends with the block."""
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no dask scheduler answers ({error})",
                location="--scheduler",
                value=scheduler,
                expected="an address such as tcp://HOST:8786, as `dask scheduler` prints it",
            ) from error
        with client:
            yield client
        return
    threads = str(max(_threads() // processes, 1))
    environment = {f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS")}
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # of the status page, at port 8787 otherwise
            memory_limit=0,
            env=environment,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_IgnoreInterrupts())
        yield client


def _threads() -> int:
    import torch

    return torch.get_num_threads()


class _IgnoreInterrupts(WorkerPlugin):
    """Leaves Ctrl-C, which a terminal sends to all processes, to the process that started the workers."""

    def setup(self, worker: Worker) -> None:
        del worker  # dask passes it by name
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _submit(client: Client, setup: WorkerSetup, folder: Path, jobs: Sequence[Job]) -> list[Future[float]]:
    """A future for each job, after the futures of those that it needs and that are not done."""
    futures: dict[str, Future[float]] = {}
    for job in jobs:
        needed = [futures[name] for name in job.needs if name in futures]
        futures[job.name] = client.submit(
            _run_on_worker, setup, folder, job, needed, key=f"{job.name}-{setup.study}", pure=False
        )
    return list(futures.values())


def _collect(events: SimpleQueue[Any], jobs: dict[str, Job], progress: JobProgress) -> None:
    """Report jobs as they finish; raise the error of the first one that fails, or at the first signal."""
    for _ in jobs:
        event = events.get()
        if isinstance(event, int):
            raise StoppedError("stopped; the same command continues from there", 128 + event)
        if event.status == "error":
            raise _error_of(event, jobs[event.key])
        if event.status != "finished":
            raise StoppedError("the connection to the scheduler was lost; the same command continues from there", 1)
        progress.finish(jobs[event.key], event.result(), show=True)


def _error_of(future: Future[float], job: Job) -> BaseException:
    error: BaseException = future.exception()
    if not isinstance(error, KilledWorker):
        return error
    return StoppedError(
        f"{job.description or job.name}: {error.allowed_failures + 1} worker processes died while computing this, "
        "for want of memory perhaps; the same command continues from there",
        1,
    )


def _stop(client: Client, setup: WorkerSetup, futures: Sequence[Future[float]]) -> None:
    """Let running trainings save a checkpoint, and the jobs after them end without starting."""
    if client.status != "running":
        return
    try:
        client.run(_stop_on_worker, setup.study, on_error="ignore")
        wait(futures, timeout=SAVE_S)
    except (OSError, TimeoutError):
        logging.getLogger(__name__).warning("some jobs did not end within %d s and were abandoned", SAVE_S)


# In a worker process, which computes one job at a time.
_stopped: set[str] = set()
_running: list[str] = []


def _run_on_worker(setup: WorkerSetup, folder: Path, job: Job, needed: Sequence[float]) -> float:
    """Compute one job, and return the seconds that it took."""
    del needed  # dask waits for these; their results are files
    stopping.stop_requests.clear()
    _running[:] = [setup.study]
    try:
        if setup.study in _stopped:
            raise StoppedError("stopped before it started", 1)
        setup.apply()
        return compute(folder, job)
    finally:
        _running.clear()


def _stop_on_worker(study: str) -> None:
    _stopped.add(study)
    if study in _running:
        stopping.stop_requests.append(signal.SIGTERM)
