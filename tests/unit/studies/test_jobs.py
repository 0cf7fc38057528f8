"""Cells are computed once, in an order that their needs allow, by however many processes; failures arrive whole."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from maekit.errors import UserError
from maekit.studies.jobs import Job, digest, is_done, read, run_jobs
from maekit.training.lock import lock


def noted(log: Path, name: str, *needed: dict[str, int]) -> dict[str, int]:
    """One more than what is needed; a line in the log for each call."""
    with log.open("a") as file:
        file.write(f"{name}\n")
    return {"value": 1 + sum(one["value"] for one in needed)}


def wrong(log: Path) -> dict[str, int]:
    raise UserError("no good", location=str(log), value=3, expected="four")


def chain(log: Path) -> list[Job]:
    """Two that stand alone, and one that needs both."""
    one, two = (Job("k", f"deep/{name}", partial(noted, log, name)) for name in ("one", "two"))
    return [one, two, Job("k", "sum", partial(noted, log, "sum"), needs=(one.name, two.name))]


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_is_computed_once(tmp_path: Path, jobs: int) -> None:
    log = tmp_path / "log"
    run_jobs(tmp_path / "cells", chain(log), jobs=jobs)
    assert sorted(log.read_text().split()) == ["one", "sum", "two"]
    assert log.read_text().split()[-1] == "sum"
    assert read(tmp_path / "cells", "sum") == {"value": 3}
    told: list[str] = []
    run_jobs(tmp_path / "cells", chain(log), jobs=jobs, tell=told.append)
    assert not told
    assert len(log.read_text().split()) == 3
    (tmp_path / "cells/sum.json").unlink()
    run_jobs(tmp_path / "cells", chain(log), tell=told.append)
    assert log.read_text().split()[3:] == ["sum"]
    assert told[0] == "2 of 3 parts are there already"
    assert not list((tmp_path / "cells").rglob("*.lock"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_told_and_what_was_done_stays(tmp_path: Path, jobs: int) -> None:
    log = tmp_path / "log"
    cells = [
        *chain(log)[:2],
        Job("k", "wrong", partial(wrong, log)),
        Job("k", "after", partial(noted, log, "after"), ("wrong",)),
    ]
    with pytest.raises(UserError, match="log: no good; got 3; expected four"):
        run_jobs(tmp_path, cells, jobs=jobs)
    assert is_done(tmp_path, "deep/one") or jobs > 1
    assert not is_done(tmp_path, "wrong")
    assert not is_done(tmp_path, "after")


def test_what_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cells = chain(log)
    (tmp_path / "deep").mkdir()
    with lock(tmp_path / "deep/one.lock") as holder:
        assert holder is None
        thread = threading.Thread(target=run_jobs, args=(tmp_path, cells))
        thread.start()
        deadline = time.monotonic() + 20
        while not is_done(tmp_path, "deep/two"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not is_done(tmp_path, "deep/one")
    thread.join(20)
    assert log.read_text().split() == ["two", "one", "sum"]


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    import os

    with lock(tmp_path / "lock") as holder:
        assert holder is None
        with lock(tmp_path / "lock") as other:
            assert other == str(os.getpid())
    with lock(tmp_path / "lock") as holder:
        assert holder is None


def test_a_digest_is_of_meaning_and_not_of_order() -> None:
    assert digest("k", {"a": 1, "b": [2]}) == digest("k", {"b": [2], "a": 1})
    assert digest("k", {"a": 1}) != digest("k", {"a": 2})
