"""Tables of benchmarks, stored per commit and machine, and what became slower since the latest of the same machine."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rows import Row

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "tables"
"""Tables that belong to the source; others are in `runs/benchmarks`."""
TOLERANCE = 0.1
"""Part of a ratio by which it may fall before that is said."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Table:
    """What was measured of one commit on one machine.

    Attributes:
        commit: its short digest; with a + where files had been changed.
        machine: see `machine`.
        when: of the last measurement, as ISO 8601 in UTC.
        torch: its version.
        load: average load of the machine before the measurement, processes that wait or run.
        rows: all measurements.
    """

    commit: str
    machine: str
    when: str
    torch: str
    load: float
    rows: Sequence[Row]


@dataclass(frozen=True)
class Regression:
    """A row that became worse.

    Attributes:
        row: now.
        before: in an earlier table.
        commit: of that table.
    """

    row: Row
    before: Row
    commit: str

    def __str__(self) -> str:
        change = 1 - self.row.merit / self.before.merit
        return f"{self.row.name}: {self.row.ratio:.3g} of {self.row.peer}, {self.before.ratio:.3g} at {self.commit}: {change:.0%} worse"


def machine() -> str:
    """Model of the processor and number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{found[1].strip() if found else platform.processor() or platform.machine()}, {cores} cores"


def commit() -> str:
    """Short digest of the commit that the source is at."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def read(folders: Iterable[Path]) -> list[Table]:
    """All tables in some folders, the oldest first."""
    tables = []
    for path in (path for folder in folders for path in folder.glob("*.json")):
        content = json.loads(path.read_text())
        rows = [Row(**row) for row in content.pop("rows")]
        tables.append(Table(**content, rows=rows))
    return sorted(tables, key=lambda table: table.when)


def write(folder: Path, table: Table) -> Path:
    """Store a table under its commit and machine; rows that were measured of both before stay where they are not new."""
    slug = re.sub(r"[^a-z0-9]+", "-", table.machine.lower()).strip("-")
    path = folder / f"{table.commit}-{slug}.json"
    rows = {row.key: row for old in read([folder]) if _same(old, table) for row in old.rows}
    rows |= {row.key: row for row in table.rows}
    content = asdict(table) | {"rows": [row._asdict() for row in rows.values()]}
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
    return path


def _same(one: Table, other: Table) -> bool:
    return (one.commit, one.machine) == (other.commit, other.machine)


def latest(tables: Iterable[Table], machine: str) -> dict[Key, tuple[Row, str]]:
    """Each row where it was measured last on a machine, with the commit.

    Args:
        tables: the oldest first.
        machine: others are left out.
    """
    return {row.key: (row, table.commit) for table in tables if table.machine == machine for row in table.rows}


def regressions(rows: Iterable[Row], before: Mapping[Key, tuple[Row, str]]) -> list[Regression]:
    """Rows whose ratio is worse than before by more than `TOLERANCE`; what was not measured before is none."""
    pairs = [(row, *before[row.key]) for row in rows if row.key in before]
    return [Regression(row, old, at) for row, old, at in pairs if row.merit < (1 - TOLERANCE) * old.merit]


def better(rows: Iterable[Row], again: Iterable[Row]) -> list[Row]:
    """Of two measurements of the same, the better one of each row: what another process takes from one is no regression."""
    second = {row.key: row for row in again}
    return [max(row, second.get(row.key, row), key=lambda one: one.merit) for row in rows]
