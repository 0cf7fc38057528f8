"""HDF5 files on full disks and under signals: whole or not at all, and never a crash of the library."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit.data.hdf5.writing import Hdf5File, replacing_hdf5

WRITE = """
import os, resource, signal, sys, threading, time
from pathlib import Path
import numpy as np
from maekit.data.hdf5.writing import replacing_hdf5

def write(target):
    rng = np.random.default_rng(0)
    with replacing_hdf5(target) as file:
        for i in range(20):
            group = file.create_group(f"record_{i}")
            group.create_dataset("packed", data=rng.random(3000).astype("f4"), compression="gzip").attrs["rate_hz"] = 3.0
            growing = group.create_dataset("growing", (0,), maxshape=(None,), chunks=(64,), dtype="f4")
            growing.resize((200,))
            growing[:] = i

folder = Path(sys.argv[1])
"""
LIMITED = """
for limit in (0, 1, 100, 2047, 2048, 5000, 20_000, 60_000, 120_000, 200_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(folder / "x.h5")
    except OSError as error:
        assert error.filename == str(folder / "x.h5"), error
    else:
        raise SystemExit(f"written with a limit of {limit}")
    assert not list(folder.iterdir()), limit
"""
TERMINATED = """
class Stop(BaseException): pass

def handle(number, frame):
    raise Stop

signal.signal(signal.SIGTERM, handle)
write(folder / "x.h5")
started = time.perf_counter()
write(folder / "x.h5")
whole = time.perf_counter() - started
content = (folder / "x.h5").read_bytes()
stops = 0
for i in range(60):
    timer = threading.Timer(whole * i / 50, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        timer.start()
        write(folder / "x.h5")
        timer.join()
        time.sleep(0.001)
    except Stop:
        stops += 1
    assert [path.name for path in folder.iterdir()] == ["x.h5"], i
    assert (folder / "x.h5").read_bytes() == content, i
assert stops == 60, stops
"""


def run(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE + code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("code", [LIMITED, TERMINATED], ids=["full disk", "signals"])
def test_nothing_is_left_under_the_name_and_the_process_lives(tmp_path: Path, code: str) -> None:
    run(code, tmp_path)


def test_the_file_is_what_h5py_itself_writes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((100, 1000))
    with replacing_hdf5(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "plain.h5", "w") as plain:
        for file in (ours, plain):
            file.create_dataset("values", data=values, chunks=(1, 1000), compression="gzip", shuffle=True)
            file.create_group("group").attrs["name"] = "ä"
            assert np.array_equal(file["values"][7], values[7])
    with h5py.File(tmp_path / "ours.h5") as file:
        assert np.array_equal(file["values"], values)
        assert file["group"].attrs["name"] == "ä"


def test_a_failed_write_is_raised_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And HDF5 still reads what it wrote, so that it closes the file without an error of its own."""
    file = Hdf5File(tmp_path / "x.h5")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    data = file.create_dataset("values", data=np.arange(100_000), chunks=(10_000,))
    assert np.array_equal(data[:], np.arange(100_000))
    for call in (file.flush, file.check, lambda: file.create_group("a"), lambda: file.create_dataset("b", data=1)):
        with pytest.raises(OSError, match="No space left"):
            call()
    with pytest.raises(OSError, match="No space left"):
        file.finish()


def test_a_signal_between_writes_acts_at_once_and_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), replacing_hdf5(tmp_path / "x.h5") as file:  # noqa: PT012
        file.create_group("a")
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(10)
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.iterdir())
