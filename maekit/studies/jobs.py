"""Things to compute once: each is a small JSON file, named by all that it depends on, whoever computes it.

What is there is taken as it is, so a study goes on where it stopped, and several processes (or several commands on a
cluster) share one folder: a lock file says which of them works on what, and nothing else passes between them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit import plugins
from maekit.errors import UserError
from maekit.training.lock import lock
from maekit.training.stopping import StoppedError, deferred_signals

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

logger = logging.getLogger(__name__)

Result = dict[str, Any]
Tell = Callable[[str], None]
LOOK_AGAIN_S = 0.5
"""Where others work on all that is left."""


@dataclass(frozen=True)
class Job:
    """One result.

    Attributes:
        kind: what is done.
        name: of its file below the folder, without `.json`: readable, and at the end, after a `-`, its mark.
        compute: takes the results of `needs`, gives this one as plain data; goes to other processes by pickle.
        needs: names of the cells that must be there before.
        told: what is being done, for a person.
    """

    kind: str
    name: str
    compute: Callable[..., Result]
    needs: tuple[str, ...] = ()
    told: str = ""

    @property
    def mark(self) -> str:
        """The `digest` of all that the result depends on."""
        return self.name.rpartition("-")[2]


def digest(*key: Any) -> str:
    """Twelve hexadecimal digits for plain data."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def names(folder: Path) -> dict[str, str]:
    """What is there: the name of each result by its mark."""
    found = (path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*-*.json")))
    return {name.rpartition("-")[2]: name for name in found}


def read(folder: Path, name: str) -> Result:
    """A result that is there."""
    found: Result = json.loads(_path(folder, name).read_text())
    return found


def is_done(folder: Path, name: str) -> bool:
    """Whether a result is there."""
    return _path(folder, name).is_file()


def run_jobs(folder: Path, cells: Sequence[Job], *, jobs: int = 1, tell: Tell = lambda line: None) -> None:
    """Compute what is missing, in the order of `cells` as far as what they need allows.

    Args:
        folder: of the results.
        cells: those needed stand before those that need them.
        jobs: parallel processes, which share the cores; 1 works in this one.
        tell: called with a line before every cell.

    Raises:
        UserError, StoppedError: as the first cell that failed; the other processes are stopped after saving.
    """
    todo = [cell for cell in cells if not is_done(folder, cell.name)]
    if todo and len(todo) < len(cells):
        tell(f"{len(cells) - len(todo)} of {len(cells)} parts are there already")
    if jobs == 1 or len(todo) < 2:
        _work(folder, todo, tell)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads, and the GPU's state
    workers: dict[Any, BaseProcess] = {}
    for _ in range(min(jobs, len(todo))):
        mine, theirs = context.Pipe(duplex=False)
        given = (folder, todo, jobs, plugins.loaded, logger.getEffectiveLevel(), theirs)
        workers[mine] = context.Process(target=_worker, args=given, daemon=True)
        workers[mine].start()
        theirs.close()
    with deferred_signals() as caught:
        try:
            _listen(workers, tell, caught)
        finally:
            for process in workers.values():
                process.terminate()
            for process in workers.values():
                process.join()


def _listen(workers: dict[Any, BaseProcess], tell: Tell, caught: Sequence[int]) -> None:
    """Pass on what the workers say until all have ended; raise what the first one failed with."""
    open_ = list(workers)
    while open_:
        for connection in wait(open_, timeout=LOOK_AGAIN_S):
            try:
                said = connection.recv()  # type: ignore[union-attr,call-arg]
            except EOFError:
                workers[connection].join()
                open_.remove(connection)
                if (code := workers[connection].exitcode) and not caught:
                    raise StoppedError(f"a worker process died with exit code {code}", 1) from None
                continue
            if isinstance(said, Exception):
                raise said
            tell(str(said))
        if caught:
            raise StoppedError("stopped; the same command goes on from there", 128 + caught[0])


def _worker(folder: Path, cells: Sequence[Job], jobs: int, files: Sequence[Path], level: int, to: Connection) -> None:
    import torch

    logging.basicConfig(level=level, format="%(message)s")
    torch.set_num_threads(max(torch.get_num_threads() // jobs, 1))
    try:
        for file in files:
            plugins.load_file(file)
        _work(folder, cells, to.send)
    except (UserError, StoppedError) as error:
        to.send(error)
    except Exception:
        to.send(RuntimeError(traceback.format_exc()))


def _work(folder: Path, cells: Sequence[Job], tell: Tell) -> None:
    """Compute cells until all are there, leaving alone what another process works on."""
    left = list(cells)
    while left:
        before = len(left)
        for cell in list(left):
            if is_done(folder, cell.name) or _computed(folder, cell, f"{cell.told} ({len(left)} to go)", tell):
                left.remove(cell)
        if len(left) == before:
            time.sleep(LOOK_AGAIN_S)


def _computed(folder: Path, cell: Job, told: str, tell: Tell) -> bool:
    """Whether the cell is there now: not where another process has it, or something it needs is missing."""
    if not all(is_done(folder, name) for name in cell.needs):
        return False
    path = _path(folder, cell.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = path.with_suffix(".lock")
    with lock(held) as holder:
        if holder is not None:
            return False
        if not path.is_file():
            tell(told)
            result = cell.compute(*(read(folder, name) for name in cell.needs))
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(result, separators=(",", ":")))
            unfinished.replace(path)
        held.unlink(missing_ok=True)  # whoever opened it before finds the result
    return True


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
