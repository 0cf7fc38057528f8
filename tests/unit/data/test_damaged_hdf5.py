"""Damaged HDF5 files end as an error that names the file, whatever the HDF5 library does with them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import DataSpec
from maekit.data.convert.readers import read
from maekit.data.hdf5 import examine as examine_module
from maekit.data.hdf5.examine import examine, examine_content
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.inspect import inspect
from maekit.errors import UserError

SPEC = DataSpec.model_validate(
    {
        "name": "s",
        "files": "*.h5",
        "records": "/*",
        "signal": {"path": "x", "axes": ["time", "channel"], "rate_hz": {"attribute": "rate_hz"}},
        "group": {"attribute": "who"},
        "label": {"path": "hr"},
        "window": {"seconds": 2},
    }
)
STAND_IN = """
import json, os, sys
for line in sys.stdin:
    path = json.loads(line)[0]
    {action}
    print("[null, null]", flush=True)
"""


def write(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["list"] = np.arange(5)
        group = file.create_group("a")
        group.attrs["who"] = "anna"
        values = np.random.default_rng(0).standard_normal((600, 2)).astype(np.float32)
        data = group.create_dataset("x", data=values, chunks=(100, 2), compression="gzip", shuffle=True)
        data.attrs["rate_hz"] = 50.0
        group["hr"] = np.full(600, 70, np.int16)
        group.create_dataset("names", data=np.array([b"one", b"two"], dtype=object), dtype=h5py.string_dtype())
        group["compound"] = np.zeros(20, dtype=[("a", "i4"), ("b", "f8", (2,))])
        group["empty"] = h5py.Empty("f4")
        group["link"] = h5py.SoftLink("/a/x")
        group["loop"] = file["a"]
    return path


@pytest.fixture
def examiner(monkeypatch: pytest.MonkeyPatch) -> examine_module._Examiner:
    """An examiner without earlier answers."""
    fresh = examine_module._Examiner()
    monkeypatch.setattr(examine_module, "_examiner", fresh)
    return fresh


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ("os.abort()", "crashes (SIGABRT)"),
        ("os.kill(os.getpid(), 11)", "crashes (SIGSEGV)"),
        ("\n    while True: pass", "does not return"),
    ],
)
def test_a_crash_or_an_endless_loop_of_the_library_is_an_error_and_the_next_file_is_examined(
    action: str, problem: str, tmp_path: Path, examiner: examine_module._Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = write(tmp_path / "bad.h5"), write(tmp_path / "good.h5")
    script = tmp_path / "walk.py"
    script.write_text(
        STAND_IN.format(action=f"if path.endswith('bad.h5'): {action}" if "while" not in action else action)
    )
    monkeypatch.setattr(examine_module, "_WALK", script)
    monkeypatch.setattr(examine_module, "_PATIENCE", 0.3)
    for _ in range(2):  # the second time the answer is remembered
        with pytest.raises(UserError, match=r"bad\.h5: damaged") as caught:
            examine(bad)
        assert problem in str(caught.value)
    if "while" not in action:
        examine(good)
    examiner.close()


def test_a_loop_that_uses_the_processor_is_ended_by_its_own_timer(
    tmp_path: Path, examiner: examine_module._Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "f.h5")
    walk = examine_module._WALK.read_text().replace("            WAYS[library](path)", "            while True: pass")
    script = tmp_path / "walk.py"
    script.write_text(walk)
    monkeypatch.setattr(examine_module, "_WALK", script)
    monkeypatch.setattr(examine_module, "_SECONDS", 0.2)
    with pytest.raises(UserError, match="does not return"):
        examine(path)
    examiner.close()


def test_memory_beyond_the_limit_fails_in_the_child(tmp_path: Path) -> None:
    code = f"import sys; sys.argv=['x']; exec(open({str(examine_module._WALK)!r}).read().split('if __name__')[0]); limit_memory(); bytearray(8 << 30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


def test_a_sound_file_is_examined_once_and_again_after_a_change(
    tmp_path: Path, examiner: examine_module._Examiner
) -> None:
    path = write(tmp_path / "f.h5")
    examine(path)
    examine(path)
    assert len(examiner._answers) == 1
    with h5py.File(path, "a") as file:
        file["more"] = np.arange(1000)
    examine(path)
    assert len(examiner._answers) == 2


def test_content_that_is_no_file_is_examined_under_its_own_name(tmp_path: Path) -> None:
    content = write(tmp_path / "f.h5").read_bytes()
    examine_content(content, "a.zip!f.h5")
    with pytest.raises(UserError, match=r"^a\.zip!f\.h5: damaged or truncated"):
        examine_content(content[: len(content) // 2], "a.zip!f.h5")


def test_single_changed_bytes_give_an_error_with_the_name_or_work(tmp_path: Path) -> None:
    raw, rng, refused = write(tmp_path / "valid.h5").read_bytes(), random.Random(0), 0
    (tmp_path / "d").mkdir()
    for number, at in enumerate(sorted(rng.sample(range(min(len(raw), 6000)), 80))):
        changed = bytearray(raw)
        changed[at] ^= rng.choice([1, 128, 255])
        path = tmp_path / "d" / f"f{number}.h5"
        path.write_bytes(changed)
        started = time.monotonic()
        for verb in (lambda path=path: list(inspect(path)), lambda: HDF5Windows(SPEC, tmp_path / "d")):
            message = ""
            try:
                verb()
            except UserError as error:
                message = str(error)
            refused += bool(message)
            assert not message or path.name in message
        assert time.monotonic() - started < 30
        path.unlink()
    assert refused > 10


@pytest.mark.parametrize(("mode", "libver"), [("a", "earliest"), ("a", "latest")])
def test_a_file_that_another_process_writes_is_said_to_be_open_there(tmp_path: Path, mode: str, libver: str) -> None:
    path = write(tmp_path / "f.h5")
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, {mode!r}, libver={libver!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(UserError, match=r"open in another program.*Close it there"):
            open_hdf5(path)
        holder.stdin.close()
        holder.wait()
    with open_hdf5(path) as file:  # the advice, followed
        assert "a" in file


def test_a_mat_file_on_which_scipy_crashes_is_an_error(tmp_path: Path) -> None:
    """A numeric array whose data end in the middle of their tag, and whose name begins inside of it."""
    head = b"MATLAB 5.0 MAT-file".ljust(116).ljust(124, b"\0") + b"\0\x01IM"
    element = "0e000000f0030000060000000800000006000000000000000500000008000000780000000100000001000100610000000000000000000000bcd23d23ff6dc9"
    (tmp_path / "x.mat").write_bytes(head + bytes.fromhex(element))
    with pytest.raises(UserError, match=r"x\.mat: (damaged or truncated MAT|cannot be read as MAT)"):
        read(tmp_path / "x.mat")
