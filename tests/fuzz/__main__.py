"""`make fuzz`: mutated inputs until a number or a time is reached, and one table of what happened."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

import maekit
from fuzz import corpus
from fuzz.kinds import KINDS
from fuzz.pool import Tally, by_time, fuzz
from fuzz.worker import prepare, run_command
from maekit import plugins

PROBLEMS = ("traceback", "hang", "crash", "touched", "leftover", "control characters")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if an input did what none may do."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many in all, with those of an earlier call")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="limit of this call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--slice", type=float, default=2.0, help="seconds that a kind is tried before the next")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="a tally there is continued")
    parser.add_argument("--replay", metavar="KIND:INDEX", help="run one input again and show what it prints")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.folder.resolve()
    seeds = folder / "corpus"
    build_corpus(seeds)
    import_everything()
    if options.replay:
        return _replay(options.replay, options.seed, seeds, folder)
    console = Console(stderr=True)
    tally = Tally.read(folder / "tally.json")
    fuzz(
        _limited(by_time(options.kinds, tally, options.slice), options.inputs - tally.inputs, options.seconds),
        *(tally, seeds, folder),
        seed=options.seed,
        jobs=options.jobs,
        report=lambda tally: console.print(f"{tally.inputs} inputs, {tally.problems} problems, {tally.seconds:.0f} s"),
    )
    _show(tally, folder)
    return int(tally.problems > 0)


def _limited(inputs: Iterator[tuple[str, int]], count: int, seconds: float) -> Iterator[tuple[str, int]]:
    """The first inputs, until there are enough or the time is over."""
    end = time.monotonic() + seconds
    for _ in range(count):
        if time.monotonic() > end:
            return
        yield next(inputs)


def build_corpus(seeds: Path) -> None:
    """Make the seeds, in a process of their own, so that workers are forked from one that has used no library yet."""
    if (seeds / "ready").exists():
        return
    shutil.rmtree(seeds, ignore_errors=True)
    process = multiprocessing.get_context("fork").Process(target=corpus.build, args=(seeds,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("the seeds cannot be made")
    (seeds / "ready").touch()


def import_everything() -> None:
    """Import what commands import when they run, so that forked processes begin with it."""
    root = Path(maekit.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.name != "__main__.py":
            importlib.import_module(
                ".".join(("maekit", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            )
    for kind in plugins.KINDS:
        for name in plugins.names(kind):
            plugins.find(kind, name)
    importlib.import_module("torch._dynamo")  # by timm when a model is built; it makes a folder for temporary files


def _replay(text: str, seed: int, seeds: Path, folder: Path) -> int:
    kind, _, index = text.partition(":")
    job = folder / "replay"
    codes = []
    for command in prepare(kind, int(index), seed, seeds, job):
        code, _, signature, printed = run_command(command, job)
        sys.stdout.write(f"$ maekit {' '.join(command)}\n{printed}\n[exit {code}] {signature}\n")
        codes.append(code)
    return max(codes)


def _show(tally: Tally, folder: Path) -> None:
    console = Console(width=180)
    table = Table("kind", "inputs", "accepted", "refused", "other", *PROBLEMS, "errors by class")
    total = [0] * (4 + len(PROBLEMS))
    for name, kind in tally.kinds.items():
        codes: Counter[str] = Counter()
        for outcome, count in kind.outcomes.items():
            codes[{"exit 0": "accepted", "exit 2": "refused"}.get(outcome[:6], "other")] += count
        classes = ", ".join(
            f"{outcome.split()[-1]} {count}"
            for outcome, count in kind.outcomes.most_common(5)
            if len(outcome.split()) > 2
        )
        numbers = [
            kind.inputs,
            codes["accepted"],
            codes["refused"],
            codes["other"],
            *(kind.problems[p] for p in PROBLEMS),
        ]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        table.add_row(name, *map(str, numbers), classes)
    table.add_section()
    table.add_row("all", *map(str, total))
    console.print(table)
    for signature, examples in sorted(tally.examples.items()):
        console.print(f"{signature}\n    {', '.join(examples)}", markup=False, highlight=False)
    console.print(
        f"{tally.seconds:.0f} s; inputs that showed a problem are in {folder / 'problems'}; run one again with --replay KIND:INDEX"
    )


if __name__ == "__main__":
    sys.exit(main())
