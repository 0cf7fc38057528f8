"""Each job is computed once, after the jobs that it needs; failures arrive whole, and what is done stays."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from maekit.errors import UserError
from maekit.studies.jobs import Job, JobProgress, digest, missing_jobs, read_result, result_names, run_jobs
from maekit.training.lock import lock
from maekit.training.run import Run


def counted(*needed: dict[str, int], log: Path, name: str) -> dict[str, int]:
    """One more than the sum of what is needed; a line in the log for each call."""
    with log.open("a") as file:
        file.write(f"{name}\n")
    return {"value": 1 + sum(result["value"] for result in needed)}


def failing(log: Path) -> dict[str, int]:
    raise UserError("no good", location=str(log), value=3, expected="four")


def training(folder: Path, log: Path) -> dict[str, int]:
    """Holds a run folder as a training does."""
    with Run(folder).owned():
        return counted(log=log, name="training")


def chain(log: Path) -> list[Job]:
    """Two that stand alone, and one that needs both."""
    one, two = (Job("k", f"deep/{name}", counted, {"log": log, "name": name}) for name in ("one", "two"))
    return [one, two, Job("k", "sum", counted, {"log": log, "name": "sum"}, (one.name, two.name), "the sum")]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_is_computed_once(tmp_path: Path, processes: int) -> None:
    log, folder = tmp_path / "log", tmp_path / "jobs"
    run_jobs(folder, chain(log), processes=processes)
    assert sorted(log.read_text().split()) == ["one", "sum", "two"]
    assert log.read_text().split()[-1] == "sum"
    assert read_result(folder, "sum") == {"value": 3}
    lines: list[str] = []
    run_jobs(folder, chain(log), processes=processes, report=lines.append)
    assert not lines
    assert len(log.read_text().split()) == 3
    (folder / "sum.json").unlink()
    run_jobs(folder, chain(log), report=lines.append)
    assert log.read_text().split()[3:] == ["sum"]
    assert lines == ["2 of 3 parts are there already", "2/3 done, now the sum"]
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"one.json", "two.json", "sum.json"}


def test_a_failure_arrives_whole_and_what_was_done_stays(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [
        *chain(log)[:2],
        Job("k", "failing", failing, {"log": log}),
        Job("k", "after", counted, {"log": log, "name": "after"}, ("failing",)),
    ]
    with pytest.raises(UserError, match="log: no good; got 3; expected four"):
        run_jobs(tmp_path, jobs)
    assert [job.name for job in missing_jobs(tmp_path, jobs)] == ["failing", "after"]


def test_a_run_folder_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "run"
    jobs = [Job("k", "trained", training, {"folder": folder, "log": log})]
    with Run(folder).owned():
        waiting = [threading.Thread(target=run_jobs, args=(tmp_path / "jobs", jobs)) for _ in range(2)]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        assert not log.exists()
    for thread in waiting:
        thread.join(20)
    assert read_result(tmp_path / "jobs", "trained") == {"value": 1}


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    with lock(tmp_path / "lock") as holder:
        assert holder is None
        with lock(tmp_path / "lock") as other:
            assert other == str(os.getpid())
    with lock(tmp_path / "lock") as holder:
        assert holder is None


def test_a_digest_is_of_meaning_and_not_of_order(tmp_path: Path) -> None:
    assert digest("k", {"a": 1, "b": [2]}) == digest("k", {"b": [2], "a": 1})
    assert digest("k", {"a": 1}) != digest("k", {"a": 2})
    job = Job("k", f"deep/k-{digest('k')}", counted, {"log": tmp_path / "log", "name": "k"})
    run_jobs(tmp_path / "jobs", [job])
    assert result_names(tmp_path / "jobs") == {job.digest: job.name}


def test_time_left_is_told_once_every_remaining_kind_was_timed() -> None:
    slow, fast = Job("slow", "a", counted, description="a"), Job("fast", "b", counted, description="b")
    lines: list[str] = []
    progress = JobProgress([slow, fast, slow, fast], done=0, report=lines.append)
    progress.finish(slow, 60.0, show=True)
    progress.finish(fast, 2.0, show=True)
    progress.parallel = 2
    progress.finish(slow, 62.0, show=True)
    assert lines == ["1/4 done: a", "2/4 done: b; about 1 min 2 s left", "3/4 done: a; about 1 s left"]


def test_without_dask_one_process_works_and_several_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "maekit.studies.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"--jobs: dask is not installed.*got 2\. pip install 'maekit\[cluster\]'"):
        run_jobs(tmp_path, chain(tmp_path / "log"), processes=2)
    with pytest.raises(UserError, match=r"--scheduler: dask is not installed"):
        run_jobs(tmp_path, chain(tmp_path / "log"), scheduler="tcp://127.0.0.1:1")
    run_jobs(tmp_path, chain(tmp_path / "log"))


def test_either_processes_or_a_scheduler(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="either --jobs or --scheduler"):
        run_jobs(tmp_path, [], processes=2, scheduler="tcp://127.0.0.1:1")
