"""The fuzzer notices what it is there for, and finds nothing in a few inputs of every kind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import pool, worker
from fuzz.__main__ import build_corpus
from fuzz.kinds import KINDS, Command
from fuzz.pool import Tally


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    build_corpus(folder)
    return folder


def broken(happens: Callable[[Path], object]) -> Callable[[random.Random, Path, Path], list[Command]]:
    """A kind of input that does something instead of being a mutated file, while its commands run."""

    def kind(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
        return [["data", "inspect", f"happens:{job}"]]

    return kind


def _write_into_the_target(job: Path) -> None:
    (job / "target" / "theirs.txt").write_text("mine")


def _write_beside_it(job: Path) -> None:
    (job / "stray").touch()


def _leave_a_part(job: Path) -> None:
    (job / "target" / ".x.unfinished").touch()


def _raise(job: Path) -> None:
    raise KeyError("a bug")


def _escape(job: Path) -> None:
    os.write(1, b"\x1b[31m")


@pytest.mark.parametrize(
    ("happens", "problem"),
    [
        (_raise, "traceback: KeyError"),
        (lambda job: os.kill(os.getpid(), signal.SIGKILL), "crash: SIGKILL"),
        (lambda job: time.sleep(60), "hang: broken"),
        (_write_into_the_target, "touched: target/theirs.txt"),
        (_write_beside_it, "touched: stray"),
        (_leave_a_part, "leftover: target/.x.unfinished"),
        (_escape, "control characters: data inspect"),
        (lambda job: None, ""),
    ],
)
def test_every_problem_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], object], problem: str
) -> None:
    def invoke(arguments: Command) -> int:
        happens(Path(arguments[-1].removeprefix("happens:")))
        return 0

    monkeypatch.setattr(worker, "invoke", invoke)
    monkeypatch.setattr(pool, "WALL_SECONDS", 1.0)
    monkeypatch.setitem(KINDS, "broken", broken(happens))
    (tmp_path / "corpus").mkdir()
    tally = Tally()
    pool.fuzz(iter([("broken", 0)]), tally, tmp_path / "corpus", tmp_path / "out", seed=0, jobs=1)
    assert tally.inputs == 1
    assert [signature[: len(problem)] for signature in tally.examples] == ([problem] if problem else [])
    assert bool(problem) == (tmp_path / "out" / "problems" / "broken-0" / "job.json").exists()
    assert Tally.read(tmp_path / "out" / "tally.json") == tally


def test_inputs_depend_on_the_seed_alone(tmp_path: Path, corpus: Path) -> None:
    for kind in KINDS:
        contents = []
        for seed in (1, 1, 2):
            commands = worker.prepare(kind, 5, seed, corpus, tmp_path / "job")
            contents.append((commands, worker.contents(tmp_path / "job")))
        assert contents[0] == contents[1], kind
        assert contents[0] != contents[2], kind


def test_a_few_inputs_of_every_kind_show_no_problem(corpus: Path, tmp_path: Path) -> None:
    tally = Tally()
    pool.fuzz(((kind, index) for index in range(6) for kind in KINDS), tally, corpus, tmp_path, seed=0, jobs=2)
    assert tally.inputs == 6 * len(KINDS)
    assert not tally.examples
