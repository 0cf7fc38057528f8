"""Tables of `make benchmark`: what is stored, with what it is compared, and what is said to be slower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import areas, tables
from benchmarks.rows import Row
from benchmarks.tables import Table

FAST, SLOW = Row("loader: plain", 900.0, "windows/s", "h5py", 0.5), Row("maps: a", 3.0, "ms", "fft2", 1.2)


def table(*rows: Row, commit: str = "abc", machine: str = "CPU (8), 2 cores", when: str = "2026-01-01") -> Table:
    return Table(commit, machine, when, "2.11", 0.1, rows)


def changed(row: Row, factor: float) -> Row:
    return row._replace(ratio=row.ratio * factor)


@pytest.mark.parametrize(
    ("row", "factor", "worse"),
    [
        (FAST, 0.91, False),
        (FAST, 0.89, True),
        (FAST, 2, False),
        (SLOW, 1.1, False),
        (SLOW, 1.12, True),
        (SLOW, 0.5, False),
    ],
)
def test_more_is_better_for_rates_and_worse_for_times(row: Row, factor: float, worse: bool) -> None:
    before = tables.latest([table(FAST, SLOW)], "CPU (8), 2 cores")
    found = tables.regressions([changed(row, factor)], before)
    assert bool(found) == worse
    if worse:
        assert "abc: 11% worse" in str(found[0])


def test_the_value_alone_is_no_regression() -> None:
    """On a machine that is slower today, the peer is too."""
    before = tables.latest([table(FAST)], "CPU (8), 2 cores")
    assert not tables.regressions([FAST._replace(value=1.0), FAST._replace(peer="another", ratio=0.01)], before)


def test_the_latest_of_the_same_machine_counts(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "mine"
    tables.write(kept, table(changed(FAST, 3), SLOW, commit="old", when="2026-01-01"))
    tables.write(folder, table(FAST, commit="new", when="2026-02-01"))
    tables.write(folder, table(changed(FAST, 9), commit="new", machine="another", when="2026-03-01"))
    assert len(list(folder.iterdir())) == 2
    before = tables.latest(tables.read([kept, folder, tmp_path / "none"]), "CPU (8), 2 cores")
    assert before == {FAST.key: (FAST, "new"), SLOW.key: (SLOW, "old")}


def test_a_part_that_is_measured_again_replaces_itself_alone(tmp_path: Path) -> None:
    first = tables.write(tmp_path, table(FAST, SLOW))
    assert tables.write(tmp_path, replace(table(changed(FAST, 2)), when="2026-01-02")) == first
    (found,) = tables.read([tmp_path])
    assert {row.key: row.ratio for row in found.rows} == {FAST.key: 1.0, SLOW.key: 1.2}
    assert found.when == "2026-01-02"
    assert [path.name for path in tmp_path.iterdir()] == ["abc-cpu-8-2-cores.json"]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, measured: list[Row]) -> int:
    """The command, which gets one of these rows at each measurement."""
    monkeypatch.setattr(tables, "KEPT", folder / "none")
    monkeypatch.setattr(command, "measure", lambda area, function: [measured.pop(0)])
    return command.main(["--only", "loader", "--folder", str(folder)])


def test_a_regression_that_stays_is_said_and_one_that_does_not_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slower, slowest = changed(FAST, 0.6), changed(FAST, 0.5)
    assert run(tmp_path, monkeypatch, [FAST]) == 0
    assert run(tmp_path, monkeypatch, [slower, changed(FAST, 0.95)]) == 0
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["rows"][0]["ratio"] == pytest.approx(0.95 * 0.5)
    assert "slower:" not in capsys.readouterr().out
    assert run(tmp_path, monkeypatch, [slowest, slower]) == 1
    assert "slower: loader: plain: 0.3 of h5py, 0.475 at " in capsys.readouterr().out


def test_every_area_can_be_measured() -> None:
    """Each has a module, of which a long run takes some."""
    folder = Path(tables.__file__).parent
    for names, function in ((areas.AREAS, "rows"), (areas.LONG, "long_rows")):
        for area in names:
            assert f"def {function}(" in (folder / f"{area}.py").read_text(), area
