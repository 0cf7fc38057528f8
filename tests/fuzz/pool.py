"""A pool of forked workers that survive what is given to them, and the tally of what happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fuzz.worker import Result, prepare, serve, stacks_file

CPU_SECONDS, WALL_SECONDS = 10.0, 60.0
"""An input is a hang after so much computing, or after so much time on a machine that others use too."""

EXAMPLES = 3
"""Inputs that are kept for each distinct problem."""

_RECYCLE = 1500


@dataclass
class KindTally:
    """Counts of one kind of input."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)


@dataclass
class Tally:
    """Counts by kind, the index of the next input of each, and the inputs that showed a problem, by its signature."""

    kinds: dict[str, KindTally] = field(default_factory=dict)
    next_index: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def inputs(self) -> int:
        """How many inputs were tried."""
        return sum(kind.inputs for kind in self.kinds.values())

    @property
    def problems(self) -> int:
        """How many inputs did what none may do."""
        return sum(sum(kind.problems.values()) for kind in self.kinds.values())

    def count(self, kind: str, index: int, result: Result) -> bool:
        """Add a result; whether the input is to be kept."""
        tally = self.kinds.setdefault(kind, KindTally())
        tally.inputs += 1
        tally.outcomes.update(result.outcomes)
        new = False
        for problem, signature in result.problems:
            tally.problems[problem] += 1
            examples = self.examples.setdefault(f"{problem}: {signature}", [])
            if len(examples) < EXAMPLES:
                examples.append(f"{kind}:{index}")
                new = True
        return new

    def write(self, file: Path) -> None:
        """Save, so that `read` can go on later."""
        content = {
            "next_index": self.next_index,
            "seconds": self.seconds,
            "examples": self.examples,
            "kinds": {name: vars(kind) for name, kind in self.kinds.items()},
        }
        partial = file.with_suffix(".new")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(file)

    @classmethod
    def read(cls, file: Path) -> Tally:
        """What `write` saved; an empty tally where there is nothing."""
        if not file.exists():
            return cls()
        content = json.loads(file.read_text())
        kinds = {
            name: KindTally(kind["inputs"], Counter(kind["outcomes"]), Counter(kind["problems"]))
            for name, kind in content["kinds"].items()
        }
        return cls(kinds, content["next_index"], content["examples"], content["seconds"])


class _Worker:
    """A forked process with a folder of its own, restarted after it died or did not answer."""

    def __init__(self, corpus: Path, folder: Path, seed: int) -> None:
        self.corpus, self.folder, self.seed = corpus, folder, seed
        self.job: tuple[str, int] | None = None
        self.answered = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.connection, self.corpus, self.folder, self.seed), daemon=True
        )
        self.process.start()
        theirs.close()

    def give(self, kind: str, index: int) -> None:
        """Hand out one input."""
        if self.answered >= _RECYCLE:
            self.restart()
        self.job, self.since, self.cpu_since = (kind, index), time.monotonic(), self._cpu_seconds()
        self.connection.send(self.job)

    def poll(self) -> Result | None:
        """The result, if there is one by now."""
        if self.connection.poll():
            with suppress(EOFError, ConnectionError):
                self.answered += 1
                return self.connection.recv()
        if not self.process.is_alive():
            code = self.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            place = self._place()
            self.restart()
            return Result(["crash"], [("crash", name + place)])
        elapsed, used = time.monotonic() - self.since, self._cpu_seconds() - self.cpu_since
        if used > CPU_SECONDS or elapsed > WALL_SECONDS:
            os.kill(self.process.pid or 0, signal.SIGUSR1)
            time.sleep(0.2)
            place = self._place()
            self.restart()
            return Result(["hang"], [("hang", (self.job[0] if self.job else "") + place)])
        return None

    def _place(self) -> str:
        """The innermost lines of maekit on the last stack that the worker wrote."""
        with suppress(OSError):
            lines = stacks_file(self.folder).read_text().splitlines()
            inside = [line.rsplit("/", 1)[-1] for line in lines if "/maekit/" in line or "/adapters/" in line]
            return "".join(f" < {line}" for line in inside[:2])
        return ""

    def _cpu_seconds(self) -> float:
        """Processor time of the process and of its finished children; zero where the system does not tell."""
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def stop(self) -> None:
        """End the process and whatever it started."""
        with suppress(OSError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def restart(self) -> None:
        """Replace the process by a new one."""
        self.stop()
        self.answered = 0
        self._start()


def _serve(theirs: Connection, ours: Connection, corpus: Path, folder: Path, seed: int) -> None:
    ours.close()
    serve(theirs, corpus, folder, seed)


def by_time(kinds: list[str], tally: Tally, slice_seconds: float = 2.0) -> Iterator[tuple[str, int]]:
    """Endless inputs: each kind in turn gets the same time, so that fast ones are tried more often."""
    while True:
        for kind in kinds:
            end = time.monotonic() + slice_seconds
            while time.monotonic() < end:
                index = tally.next_index.get(kind, 0)
                tally.next_index[kind] = index + 1
                yield kind, index


def fuzz(
    inputs: Iterator[tuple[str, int]],
    tally: Tally,
    corpus: Path,
    folder: Path,
    *,
    seed: int,
    jobs: int,
    report: Callable[[Tally], None] = lambda _tally: None,
) -> None:
    """Try inputs until there are no more.

    Args:
        inputs: kind and index of each.
        tally: is added to, and saved in `folder` from time to time.
        corpus: folder of `corpus.build`.
        folder: for jobs, the tally and the inputs that showed a problem.
        seed: of all inputs.
        jobs: parallel workers.
        report: called with the tally from time to time.
    """
    start, before, reported = time.monotonic(), tally.seconds, time.monotonic()
    workers = [_Worker(corpus, folder / f"job{number}", seed) for number in range(jobs)]
    try:
        while True:
            for worker in workers:
                if worker.job is None and (given := next(inputs, None)) is not None:
                    worker.give(*given)
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                break
            wait([part for worker in busy for part in (worker.connection, worker.process.sentinel)], timeout=0.5)
            for worker in busy:
                result = worker.poll()
                if result is None or worker.job is None:
                    continue
                kind, index = worker.job
                worker.job = None
                if tally.count(kind, index, result):
                    _keep(kind, index, result, seed, corpus, folder)
            tally.seconds = before + time.monotonic() - start
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                tally.write(folder / "tally.json")
                report(tally)
    finally:
        for worker in workers:
            worker.stop()
            shutil.rmtree(worker.folder, ignore_errors=True)
            stacks_file(worker.folder).unlink(missing_ok=True)
        tally.write(folder / "tally.json")


def _keep(kind: str, index: int, result: Result, seed: int, corpus: Path, folder: Path) -> None:
    """Save an input with the commands that read it."""
    kept = folder / "problems" / f"{kind}-{index}"
    commands = prepare(kind, index, seed, corpus, kept)
    content = {"commands": commands, "problems": result.problems, "outcomes": result.outcomes}
    (kept / "job.json").write_text(json.dumps(content, indent=1))
