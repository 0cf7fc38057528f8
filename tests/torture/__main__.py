"""`make torture`: kills verbs that write and fills their disks, runs them again, and compares with an undisturbed run."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from fuzz.__main__ import build_corpus, import_everything
from rich.console import Console
from rich.table import Table

from torture import disk, kill
from torture.compare import Equality, Tree, read_tree
from torture.verbs import VERBS, Verb


@dataclass
class Tally:
    """What happened to one verb."""

    seconds: float = 0.0
    at_moments: int = 0
    at_calls: int = 0
    finished_before: int = 0
    full_disks: int = 0
    fitted: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Commands that were killed before they ended."""
        return self.at_moments + self.at_calls


class Tortured:
    """One verb with its undisturbed result, in a work folder that is made anew for each kill."""

    def __init__(self, verb: Verb, corpus: Path, work: Path, *, trace: bool) -> None:
        self.verb, self.corpus, self.work = verb, corpus, work
        self.command = [part.replace("CORPUS", str(corpus)) for part in verb.command]
        trees = []
        for _ in range(2):
            self._reset()
            start = time.monotonic()
            code = kill.run(self.command, work)
            self.seconds = time.monotonic() - start
            if code:
                raise RuntimeError(
                    f"{verb.name} ends with {code}: {(work / 'tmp' / 'traceback-output.txt').read_text()}"
                )
            trees.append(read_tree(work / "out"))
        self.equality = Equality(*trees)
        self._reset()
        self.before = read_tree(work / "out")
        written = [part for name, part in self.equality.reference.items() if part != self.before.get(name)]
        self.files, self.pages = len(written), sum(-(-len(part) // disk.PAGE_BYTES) for part in written)
        self.calls = kill.count_calls(self.command, work, work.with_suffix(".calls")) if trace else None

    def clear(self) -> None:
        """Remove the work folder."""
        disk.unmount(self.work / "out")
        shutil.rmtree(self.work, ignore_errors=True)

    def _reset(self, *, on_disk: bool = False) -> None:
        self.clear()
        for name in ("out", "tmp"):
            (self.work / name).mkdir(parents=True)
        if on_disk:
            disk.mount(self.work / "out")
        (self.work / "out/theirs").mkdir()
        (self.work / "out/theirs/notes.txt").write_text("not yours\n")
        self.verb.prepare(self.corpus, self.work)

    def try_kill(self, rng: random.Random, tally: Tally) -> None:
        """Kill the command once, run it again, and compare."""
        self._reset()
        if self.calls and rng.random() < 0.7:
            call, number = kill.draw_call(rng, self.calls)
            how, killed = f"{call} {number}", kill.kill_at_call(self.command, self.work, call, number)
            tally.at_calls += killed
        else:
            moment = rng.random() * self.seconds
            how, killed = f"after {moment:.3f} s", kill.kill_at_moment(self.command, self.work, moment)
            tally.at_moments += killed
        tally.finished_before += not killed
        self._run_again(how, self._torn(read_tree(self.work / "out")), tally)

    def try_full_disk(self, rng: random.Random, tally: Tally) -> None:
        """Run the command on a disk that fills, then again with room, and compare."""
        self._reset(on_disk=True)
        out = self.work / "out"
        if rng.random() < 0.3:
            spare_bytes, spare_files = disk.MOST_BYTES // 2, rng.randrange(self.files)
        else:
            spare_bytes, spare_files = rng.randrange(self.pages) * disk.PAGE_BYTES, disk.MOST_FILES // 2
        disk.limit(out, spare_bytes, spare_files)
        how = f"{spare_files} files free" if spare_files < disk.MOST_FILES // 2 else f"{spare_bytes} bytes free"
        try:
            code = kill.run(self.command, self.work)
        except TimeoutError:
            code = -1
        disk.lift(out)
        tally.full_disks, tally.fitted = tally.full_disks + (code != 0), tally.fitted + (code == 0)
        after = read_tree(out)
        problems = [f"left on a full disk: {name}" for name in after if "unfinished" in name]
        if code:
            problems += self._torn(after) + self._not_an_error(code)
        elif differing := self.equality.differing(after):
            problems.append(f"no error, but differs: {', '.join(differing[:4])}")
        self._run_again(how, problems, tally)

    def _not_an_error(self, code: int) -> list[str]:
        """What is wrong with how a command ended on a full disk: it prints one paragraph, and its exit code is 2."""
        lines = (self.work / "tmp" / "traceback-output.txt").read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error ")]
        if code == 2 and len(errors) == 1 and lines[-1] == errors[0] and not any("Traceback" in line for line in lines):
            return []
        return [f"ends with {code} on a full disk: {' | '.join(lines)[-400:]}"]

    def _run_again(self, how: str, problems: list[str], tally: Tally) -> None:
        """Run the command undisturbed, and compare; what was found before is noted with it."""
        after = read_tree(self.work / "out")
        try:
            code = kill.run(self.command, self.work)
        except TimeoutError:
            code = -1
        again = read_tree(self.work / "out")
        if code and self.equality.differing(after):
            printed = (self.work / "tmp" / "traceback-output.txt").read_text(errors="replace").strip()
            problems.append(f"the second run ends with {code}: {printed[-300:]}")
        elif differing := self.equality.differing(again):
            problems.append(f"differs after the second run: {', '.join(differing[:4])}")
        tally.problems += [f"{how}: {problem}" for problem in problems]

    def _torn(self, after: Tree) -> list[str]:
        """Files that are neither the old nor the new ones after a fault."""
        problems = [
            f"removed or changed: {n}" for n in self.before if n.startswith("theirs") and after.get(n) != self.before[n]
        ]
        if self.verb.grows:
            return problems
        for name, content in after.items():
            if "unfinished" not in name and content != self.before.get(name) and not self.equality.same(name, content):
                problems.append(f"torn: {name}")
        problems += [f"lost: {name}" for name in self.before if name not in after]
        return problems


def torture(
    verbs: list[Verb],
    corpus: Path,
    folder: Path,
    *,
    kills: int,
    full_disks: int,
    seconds: float,
    seed: int,
    report: Callable[[str], None],
) -> dict[str, Tally]:
    """Kill verbs and fill their disks in turn until each had its share of `kills` and `full_disks`, or the time is over."""
    end, trace = time.monotonic() + seconds, kill.can_trace()
    report(
        "kills at system calls and at moments"
        if trace
        else "strace is not there or may not attach: kills at moments only"
    )
    if full_disks and not disk.can_mount():
        report("file systems may not be mounted: no full disks")
        full_disks = 0
    tallies: dict[str, Tally] = {}
    share, disk_share = -(-kills // len(verbs)), -(-full_disks // len(verbs))
    for verb in verbs:
        rng, tally = random.Random(f"{seed}:{verb.name}"), tallies.setdefault(verb.name, Tally())
        tortured = Tortured(verb, corpus, folder / "work", trace=trace and share > 0)
        tally.seconds = tortured.seconds
        turn_end = time.monotonic() + (end - time.monotonic()) / (len(verbs) - len(tallies) + 1)
        try:
            while True:  # at least once, also on a machine where making the undisturbed results took all the time
                left = (share - tally.kills, disk_share - tally.full_disks)
                if max(left) <= 0:
                    break
                fault = rng.choice([tortured.try_kill] * (left[0] > 0) + [tortured.try_full_disk] * (left[1] > 0))
                fault(rng, tally)
                if time.monotonic() > turn_end:
                    break
        finally:
            tortured.clear()
        report(f"{verb.name}: {tally.kills} kills, {tally.full_disks} full disks, {len(tally.problems)} problems")
        for problem in tally.problems[:3]:
            report(f"    {problem}")
    return tallies


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a kill lost or changed something."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="over all verbs")
    parser.add_argument("--full-disks", type=int, default=300, help="over all verbs; needs the right to mount")
    parser.add_argument("--seconds", type=float, default=float(24 * 3600))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", choices=[verb.name for verb in VERBS], metavar="VERB")
    parser.add_argument("--folder", type=Path, default=Path("build/torture"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.folder.resolve()
    build_corpus(folder / "corpus")
    import_everything()
    verbs = [verb for verb in VERBS if not options.verbs or verb.name in options.verbs]
    console = Console(width=180)
    tallies = torture(
        verbs, folder / "corpus", folder, kills=options.kills, full_disks=options.full_disks, seconds=options.seconds, seed=options.seed,
        report=lambda line: console.print(line, markup=False, highlight=False),
    )  # fmt: skip
    (folder / "tally.json").write_text(json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=1))
    table = Table(
        "verb",
        "seconds undisturbed",
        "kills at moments",
        "kills at calls",
        "finished before",
        "full disks",
        "fitted",
        "problems",
    )
    for name, tally in tallies.items():
        numbers = (
            tally.at_moments,
            tally.at_calls,
            tally.finished_before,
            tally.full_disks,
            tally.fitted,
            len(tally.problems),
        )
        table.add_row(name, f"{tally.seconds:.2f}", *map(str, numbers))
    console.print(table)
    problems = sum(len(tally.problems) for tally in tallies.values())
    kills, full = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("kills", "full_disks"))
    console.print(f"{kills} kills, {full} full disks, {problems} problems")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
