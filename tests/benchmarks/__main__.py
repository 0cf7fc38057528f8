"""`make benchmark`: one table of speeds beside peers and limits, stored per commit, and what became slower than it was."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

from rich.console import Console
from rich.table import Table as Shown

from benchmarks import tables
from benchmarks.areas import AREAS, LONG, measure
from benchmarks.rows import Row
from benchmarks.tables import Table


def benchmark(
    areas: list[str],
    measure: Callable[[str], list[Row]],
    before: dict[tables.Key, tuple[Row, str]],
    store: Callable[[list[Row]], object],
) -> tuple[list[Row], list[tables.Regression]]:
    """Measure all areas, and those with a regression once more.

    Args:
        areas: to measure.
        measure: gives the rows of an area.
        before: the latest rows of the same machine, with their commits.
        store: gets the rows so far after each area, so that a run that is stopped keeps them.
    """
    rows: list[Row] = []
    worse: list[tables.Regression] = []
    for area in areas:
        found = measure(area)
        if tables.regressions(found, before):
            found = tables.better(found, measure(area))
        rows += found
        store(rows)
        worse += tables.regressions(found, before)
    return rows, worse


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a ratio is over 10 % worse than in the latest table of this machine."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=AREAS, metavar="NAME", help=", ".join(AREAS))
    parser.add_argument(
        "--long", action="store_true", help="steps of many sizes beside all peers, and layouts of files: half an hour"
    )
    parser.add_argument(
        "--folder", type=Path, default=tables.ROOT / "runs" / "benchmarks", help="where tables are stored"
    )
    options = parser.parse_args(arguments)
    console = Console(width=200, highlight=False)
    machine, load = tables.machine(), os.getloadavg()[0]
    console.print(f"{machine}; commit {tables.commit()}; load before: {load:.1f}")
    before = tables.latest(tables.read([tables.KEPT, options.folder]), machine)

    def told(area: str) -> list[Row]:
        console.print(f"measuring {area}", style="dim")
        return measure(area, "long_rows" if options.long else "rows")

    def store(rows: list[Row]) -> Path:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        table = Table(tables.commit(), machine, when, metadata.version("torch"), load, rows)
        return tables.write(options.folder, table)

    rows, worse = benchmark(list(LONG if options.long else options.only or AREAS), told, before, store)
    shown = Shown("measured", "value", "unit", "ratio", "of", "before", "at")
    for row in rows:
        old, at = before.get(row.key, (None, ""))
        ratio = "" if old is None else f"{old.ratio:.3g}"
        shown.add_row(row.name, f"{row.value:,.4g}", row.unit, f"{row.ratio:.3g}", row.peer, ratio, at)
    console.print(shown)
    console.print(f"stored: {store(rows)}")
    for regression in worse:
        console.print(f"slower: {regression}", style="red")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
