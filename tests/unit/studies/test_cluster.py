"""Jobs on workers of dask: a worker is killed, a job fails, the study is stopped, the cluster is somebody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import LocalCluster

from maekit import plugins
from maekit.errors import UserError
from maekit.studies import cluster
from maekit.studies.jobs import Job, missing_jobs, read_result, run_jobs
from maekit.training.run import Run
from maekit.training.stopping import StoppedError, deferred_signals, stop_requests


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(group: int) -> bool:
    """Whether a process group has processes."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def pid(log: Path) -> dict[str, int]:
    return {"value": os.getpid()}


def dying_once(folder: Path) -> dict[str, int]:
    """A training whose process is killed in the middle, and which continues from its checkpoint."""
    with Run(folder).owned():
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            checkpoint.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return {"first": int(checkpoint.read_text()), "second": os.getpid()}


def dying() -> dict[str, int]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def until_stopped(started: Path) -> dict[str, int]:
    """A training that ends by a signal alone, and saves then."""
    with deferred_signals() as caught:
        started.write_text("")
        wait_for(lambda: bool(caught))
    started.with_name("saved").write_text("")
    raise StoppedError("saved", 143)


def failing(*needed: dict[str, int], after: Path) -> dict[str, int]:
    wait_for(after.exists)
    raise UserError("no good", location="recipe.yaml:3:5", value=3, expected="four", hint="Take four.")


def registered(name: str) -> dict[str, list[str]]:
    return {"names": [known for known in plugins.names("adapters") if known == name]}


def test_a_job_whose_worker_is_killed_is_computed_again(tmp_path: Path) -> None:
    jobs = [
        Job("k", "dying", dying_once, {"folder": tmp_path / "run"}),
        *(Job("k", f"fine{i}", pid, {"log": tmp_path}) for i in range(4)),
        Job("k", "after", pid_after, needs=("dying", "fine0")),
    ]
    run_jobs(tmp_path / "jobs", jobs, processes=2)
    assert not missing_jobs(tmp_path / "jobs", jobs)
    result = read_result(tmp_path / "jobs", "dying")
    assert result["first"] != result["second"]


def pid_after(*needed: dict[str, int]) -> dict[str, int]:
    return {"needed": len(needed)}


def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    jobs = [Job("k", "dying", dying, description="the dying one"), Job("k", "fine", pid, {"log": tmp_path})]
    with pytest.raises(StoppedError, match=r"the dying one: .* worker processes died"):
        run_jobs(tmp_path / "jobs", jobs, processes=2)


def test_an_error_arrives_whole_and_running_jobs_save(tmp_path: Path) -> None:
    started = tmp_path / "started"
    jobs = [
        Job("k", "fine", pid, {"log": tmp_path}),
        Job("k", "training", until_stopped, {"started": started}),
        Job("k", "failing", failing, {"after": started}, ("fine",)),
        Job("k", "after", pid_after, needs=("failing",)),
    ]
    with pytest.raises(UserError) as raised:
        run_jobs(tmp_path / "jobs", jobs, processes=2)
    assert str(raised.value) == "recipe.yaml:3:5: no good; got 3; expected four. Take four."
    assert raised.value.location == "recipe.yaml:3:5"
    assert [job.name for job in missing_jobs(tmp_path / "jobs", jobs)] == ["training", "failing", "after"]
    assert (tmp_path / "saved").exists()
    assert not list((tmp_path / "jobs").glob(".study-*"))


def test_ctrl_c_saves_and_ends_the_cluster(tmp_path: Path) -> None:
    """As a terminal does: the signal goes to all processes of the group."""
    script = (
        "from pathlib import Path\nfrom test_cluster import *\n"
        "if __name__ == '__main__':\n"
        f"    folder = Path({str(tmp_path)!r})\n"
        "    jobs = [Job('k', 'fine', pid, {'log': folder}),\n"
        "            Job('k', 'training', until_stopped, {'started': folder / 'started'}),\n"
        "            Job('k', 'after', pid_after, needs=('training',))]\n"
        "    try:\n"
        "        run_jobs(folder / 'jobs', jobs, processes=2)\n"
        "    except StoppedError as error:\n"
        "        raise SystemExit(error.exit_code)\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment, start_new_session=True)
    wait_for(lambda: (tmp_path / "started").exists() and (tmp_path / "jobs/fine.json").exists())
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "saved").exists()
    wait_for(lambda: not processes_of(process.pid))


def test_plugin_files_reach_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from maekit.plugins import register\n@register('adapters', 'of_cluster_test')\nclass Mine: ...\n")
    monkeypatch.setattr(plugins, "loaded", [file])
    jobs = [Job("k", str(i), registered, {"name": "of_cluster_test"}) for i in range(2)]
    run_jobs(tmp_path / "jobs", jobs, processes=2)
    assert [read_result(tmp_path / "jobs", job.name)["names"] for job in jobs] == [["of_cluster_test"]] * 2


def test_a_request_to_stop_reaches_work_in_threads() -> None:
    caught: list[int] = []

    def work() -> None:
        with deferred_signals() as signals:
            caught.extend(signals)

    stop_requests.append(signal.SIGTERM)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        stop_requests.clear()
    assert caught == [signal.SIGTERM]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a cluster of two workers, as somebody would start it on other machines, in a folder of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    address_file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    workers = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
    processes = [
        subprocess.Popen(
            [*command, "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(address_file)],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
    ]
    try:
        wait_for(address_file.exists)
        processes.append(
            subprocess.Popen(
                [*workers, "--nthreads", "1", "--nworkers", "2", "--host", "127.0.0.1", "--no-dashboard"],
                cwd=folder,
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        )
        yield json.loads(address_file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


def directory() -> dict[str, str]:
    return {"directory": str(Path.cwd())}


def test_a_cluster_by_the_address_of_its_scheduler(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    jobs = [
        Job("k", "directory", directory),
        Job("k", "dying", dying_once, {"folder": tmp_path / "run"}),
        Job("k", "after", pid_after, needs=("dying", "directory")),
    ]
    run_jobs(Path("jobs"), jobs, scheduler=scheduler, report=lines.append)
    assert read_result(tmp_path / "jobs", "directory")["directory"] == str(tmp_path), "relative paths are ours"
    assert read_result(tmp_path / "jobs", "dying")["first"] != read_result(tmp_path / "jobs", "dying")["second"]
    assert read_result(tmp_path / "jobs", "after") == {"needed": 2}
    assert "3/3 done" in lines[-1]


def test_stopping_a_study_leaves_the_cluster_to_others(tmp_path: Path, scheduler: str) -> None:
    started = tmp_path / "started"
    jobs = [Job("k", "training", until_stopped, {"started": started}), Job("k", "failing", failing, {"after": started})]
    with pytest.raises(UserError, match="no good"):
        run_jobs(tmp_path / "jobs", jobs, scheduler=scheduler)
    assert (tmp_path / "saved").exists()
    run_jobs(tmp_path / "jobs", [Job("k", "fine", pid, {"log": tmp_path})], scheduler=scheduler)


@contextmanager
def thread_cluster(threads: int) -> Iterator[str]:
    """Address of a cluster whose worker is in this process."""
    with LocalCluster(n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None) as started:
        yield started.scheduler_address


def test_a_worker_with_several_threads_is_refused(tmp_path: Path) -> None:
    with thread_cluster(2) as address, pytest.raises(UserError, match=r"2 threads at .*dask worker --nthreads 1"):
        run_jobs(tmp_path, [Job("k", "fine", pid, {"log": tmp_path})], scheduler=address)


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "write_text", lambda path, text: None)  # as on a disk that the worker does not have
    with thread_cluster(1) as address, pytest.raises(UserError, match=r"does not see the folder of results.*--runs"):
        run_jobs(tmp_path, [Job("k", "fine", pid, {"log": tmp_path})], scheduler=address)


def test_an_address_where_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "nowhere"):
        with pytest.raises(UserError, match=r"--scheduler: no dask scheduler answers .*an address such as tcp"):
            run_jobs(tmp_path, [Job("k", "fine", pid, {"log": tmp_path})], scheduler=address)
