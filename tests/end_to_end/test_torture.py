"""A few kills of fast verbs, and that torture notices a verb that loses, tears or leaves something."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.__main__ import build_corpus
from torture import disk, kill
from torture.__main__ import Tally, Tortured, torture
from torture.compare import Equality
from torture.verbs import VERBS, Verb

FAST = ("convert", "convert again", "predict csv", "export", "simulate", "recipe copy")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torture") / "corpus"
    build_corpus(folder)
    return folder


def test_fast_verbs_survive_a_few_kills_and_full_disks(corpus: Path, tmp_path: Path) -> None:
    verbs = [verb for verb in VERBS if verb.name in FAST]
    lines: list[str] = []
    tallies = torture(verbs, corpus, tmp_path, kills=12, full_disks=12, seconds=15, seed=1, report=lines.append)
    assert not [problem for tally in tallies.values() for problem in tally.problems], "\n".join(lines)
    # On a machine that is busy, each verb is tried once only, and may end before it is killed.
    faults = [tally.kills + tally.finished_before + tally.full_disks + tally.fitted for tally in tallies.values()]
    assert min(faults) >= 1


def test_a_verb_on_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not disk.can_mount():
        pytest.skip("file systems may not be mounted")

    def run_command(command: list[str], work: Path) -> tuple[int, str, str, str]:
        printed = work / "tmp" / "traceback-output.txt"
        try:
            (work / "out" / "x").write_bytes(bytes(5 * disk.PAGE_BYTES))
            printed.write_text("done\n")
        except OSError as error:
            printed.write_text(f"error {error}\n")
            return 2, "", "", ""
        return 0, "", "", ""

    def prepare(corpus: Path, work: Path) -> None:
        (work / "out" / "x").write_bytes(b"old")

    monkeypatch.setattr(kill, "run_command", run_command)
    tally = Tally()
    tortured = Tortured(Verb("x", [], prepare), tmp_path, tmp_path / "work", trace=False)
    rng = random.Random(0)
    while not tally.full_disks:
        tortured.try_full_disk(rng, tally)
    tortured.clear()
    assert not (tmp_path / "work").exists()
    assert tally.problems
    assert all("bytes free: torn: x" in problem for problem in tally.problems)


def _whole(out: Path) -> None:
    part = out / ".x.unfinished"
    part.write_bytes(b"new")
    time.sleep(0.2)
    part.replace(out / "x")


def _torn(out: Path) -> None:
    (out / "x").write_bytes(b"ne")
    time.sleep(0.2)
    (out / "x").write_bytes(b"new")


def _lost(out: Path) -> None:
    (out / "x").unlink(missing_ok=True)
    time.sleep(0.2)
    (out / "x").write_bytes(b"new")


def _leftover(out: Path) -> None:
    part = out / f".x.{time.monotonic_ns()}.unfinished"
    part.write_bytes(b"new")
    time.sleep(0.2)
    part.replace(out / "x")


def _not_yours(out: Path) -> None:
    notes = (out / "theirs" / "notes.txt").read_bytes()
    (out / "theirs" / "notes.txt").unlink(missing_ok=True)
    time.sleep(0.2)
    (out / "x").write_bytes(b"new")
    (out / "theirs" / "notes.txt").write_bytes(notes)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_whole, ""),
        (_torn, "torn: x"),
        (_lost, "lost: x"),
        (_leftover, "differs after the second run: .x."),
        (_not_yours, "removed or changed: theirs/notes.txt"),
    ],
)
def test_what_a_verb_must_not_do_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], problem: str
) -> None:
    def run_command(command: list[str], work: Path) -> tuple[int, str, str, str]:
        write(work / "out")
        return 0, "", "", ""

    def prepare(corpus: Path, work: Path) -> None:
        (work / "out" / "x").write_bytes(b"old")
        (work / "tmp" / "traceback-output.txt").touch()

    monkeypatch.setattr(kill, "run_command", run_command)
    tally = Tally()
    tortured = Tortured(Verb("x", [], prepare), tmp_path, tmp_path / "work", trace=False)
    tortured.seconds = 0.2
    for seed in range(3):
        tortured.try_kill(random.Random(seed), tally)
    assert tally.at_moments == 3
    assert bool(tally.problems) == bool(problem), tally.problems
    assert all(problem in line for line in tally.problems[:1])


def test_a_command_is_killed_at_the_call_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kill.can_trace():
        pytest.skip("strace is not installed, or may not attach to a process")

    def run_command(command: list[str], work: Path) -> tuple[int, str, str, str]:
        for number in range(3):
            (work / f"{number}.new").touch()
            (work / f"{number}.new").rename(work / str(number))
        return 0, "", "", ""

    monkeypatch.setattr(kill, "run_command", run_command)
    assert kill.count_calls([], tmp_path, tmp_path / "log")["rename"] == 3
    (tmp_path / "log").unlink()
    for path in tmp_path.iterdir():
        path.unlink()
    assert kill.kill_at_call([], tmp_path, "rename", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1.new"]


def test_only_what_varies_between_undisturbed_runs_may_differ() -> None:
    first = {"m.jsonl": b'{"loss": 1.0, "seconds": 2.0}\n', "w": b"a", "p.html": b"took 1.5 s"}
    second = first | {"m.jsonl": b'{"loss": 1.0, "seconds": 3.0}\n', "p.html": b"took 1.7 s"}
    equality = Equality(first, second)
    assert not equality.differing(first | {"m.jsonl": b'{"loss": 1.0, "seconds": 9.0}\n', "p.html": b"took 11 s"})
    for name, content in (
        ("m.jsonl", b'{"loss": 2.0, "seconds": 2.0}\n'),
        ("m.jsonl", b'{"loss": 1.0, "seconds": 2.0}\n' * 2),
        ("m.jsonl", b'{"loss": 1.0}\n'),
        ("m.jsonl", b'{"loss": 1.0, "seco'),
        ("w", b"b"),
        ("p.html", b"took 1.5 s, and"),
    ):
        assert equality.differing(first | {name: content}) == [name]
    assert equality.differing({"w": b"a"}) == ["m.jsonl", "p.html"]
