"""Atomic writes: whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maekit import files
from maekit.files import UNFINISHED, replacing, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.txt"
    write_text(target, "old")
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["report.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_the_old_file_stays_and_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "report.txt"
    write_text(target, "old")

    def interrupted() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_written_whole_and_removed_after_an_exception(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    with replacing(target) as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "a.txt").write_text("a")
    assert (target / "deep" / "a.txt").read_text() == "a"

    def interrupted() -> None:
        with replacing(tmp_path / "other") as partial:
            partial.mkdir()
            (partial / "a.txt").write_text("a")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        interrupted()
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_with_content_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="not empty"), replacing(tmp_path / "full"):
        pytest.fail("the block must not run")
    assert (tmp_path / "full" / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize("folder", [False, True])
def test_an_empty_folder_gives_way(tmp_path: Path, folder: bool) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    with replacing(target) as partial:
        (partial.mkdir() if folder else partial.touch())
    assert target.is_dir() == folder


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "latest.txt"
    link.symlink_to(tmp_path / "disk" / "latest.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "latest.txt").read_text() == "new"


def test_the_longest_name_that_a_file_system_takes_works(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 120 + ".txt")
    write_text(target, "long")
    assert target.read_text() == "long"


def test_threads_that_write_one_target_do_not_share_a_partial_file(tmp_path: Path) -> None:
    texts = [str(i) * 10_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(tmp_path / "one.txt", text), texts))
    assert (tmp_path / "one.txt").read_text() in texts
    assert len(list(tmp_path.iterdir())) == 1


def test_the_result_is_readable_as_any_new_file_is(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("")
    write_text(tmp_path / "atomic.txt", "")
    assert (tmp_path / "atomic.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_a_killed_process_leaves_the_old_file_and_a_hidden_partial_one(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    write_text(target, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from maekit.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(target)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    (partial,) = (path for path in tmp_path.iterdir() if path != target)
    assert partial.name.startswith(".")
    assert partial.name.endswith(UNFINISHED)
    files._CLEANED.clear()  # as in the next process
    write_text(target, "new")
    assert list(tmp_path.iterdir()) == [target]


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    """Partial files of living processes, recent ones of other hosts and files of anybody else stay."""
    host, dead = files.partial_path(tmp_path / "a.h5").name.split(".")[3], 2**22 + 1  # above the largest process id
    week_ago = time.time() - 8 * 24 * 3600
    leftovers = [f".a.h5.{host}.{dead}-0{UNFINISHED}", f".a.h5.elsewhere.1-0{UNFINISHED}"]
    others = [
        f".a.h5.{host}.{os.getpid()}-7{UNFINISHED}",
        f".b.h5.elsewhere.1-0{UNFINISHED}",
        f".notes{UNFINISHED}",
        f"a.h5.{host}.{dead}-0{UNFINISHED}",
        f".a.h5.{host}.{dead}-0{UNFINISHED}.txt",
    ]
    folder = tmp_path / "new"
    folder.mkdir()
    for name in [*leftovers, *others]:
        (folder / name).write_text("")
    (folder / f".folder.{host}.{dead}-0{UNFINISHED}").mkdir()
    os.utime(folder / leftovers[1], (week_ago, week_ago))
    write_text(folder / "a.h5", "")
    assert {path.name for path in folder.iterdir()} == {"a.h5", *others}


def test_errors_name_the_target(tmp_path: Path) -> None:
    """Those of a full disk name no file, others the partial one."""
    for name in (None, "partial"):
        with pytest.raises(OSError, match="No space") as refused, replacing(tmp_path / "x") as partial:
            raise OSError(errno.ENOSPC, "No space left on device", *([str(partial)] if name else []))
        assert refused.value.filename == str(tmp_path / "x")
        assert not list(tmp_path.iterdir())
