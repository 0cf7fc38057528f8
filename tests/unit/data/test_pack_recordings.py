"""Recordings that are packed give the same samples, and files that are slow to read are named with a command that mends them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.cli.main import app
from maekit.config.data_spec import load_spec
from maekit.data.hdf5.contiguous import contiguous_rows
from maekit.data.hdf5.pack import pack_recordings
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.inspect import inspect
from maekit.data.loading import Samples
from maekit.data.sampler import Key
from maekit.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A data spec beside a folder of recordings as somebody else's program writes them."""
    root = tmp_path / "their files"
    for name in ("a", "deep/b"):
        path = root / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", userblock_size=512) as file:
            file.attrs["device"] = "ward 3"
            for record in ("one", "two"):
                group = file.create_group(record)
                group.attrs.update({"subject": f"{name} {record}", "notes": ["bed", "chair"]})
                values = (RNG.normal(size=(2, 200_000)) * 1000).astype(">i2")
                data = group.create_dataset(
                    "x", data=values, chunks=(2, 100_000), compression="gzip", compression_opts=1
                )
                data.attrs.update({"scale_factor": 0.001, "units": "mm"})
                group.create_dataset("measured", data=RNG.random(200_000) > 1e-4, chunks=(1000,), compression="lzf")
                group.create_dataset("bpm", data=60 + RNG.random(200_000), chunks=(1000,), maxshape=(None,))
                group["same"], group["soft"] = group["x"], h5py.SoftLink(f"/{record}/bpm")
                group["text"] = ["one", "two"]
    spec = {
        "name": "theirs",
        "files": "**/*.h5",
        "records": "/*",
        "signal": {"path": "x", "axes": ["channel", "time"], "unit": "mm", "rate_hz": 100},
        "valid": {"path": "measured"},
        "missing_budget": 0.5,
        "group": {"attribute": "subject"},
        "label": {"path": "bpm", "unit": "bpm"},
        "window": {"axis": "time", "length": 1000, "hop": 3000},
        "split": {"train": ["a one", "a two"], "validation": ["deep/b one"], "test": ["deep/b two"]},
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path


def test_packed_recordings_give_the_same_samples(cohort: Path) -> None:
    spec, root, pack = load_spec(cohort / "theirs.yaml"), cohort / "their files", cohort / "pack"
    assert pack_recordings(spec, root, pack).files == 2
    before, after = HDF5Windows(spec, root), HDF5Windows(spec, pack)
    order = [Key(1, int(i)) for i in np.random.default_rng(5).permutation(len(before))[:60]]
    old, new = (
        Samples(s, np.arange(len(s)), HeartRateAdapter(s.info), patches=25, seed=4).__getitems__(order)
        for s in (before, after)
    )
    assert isinstance(old, list)
    assert isinstance(new, list)
    for one, other in zip(old, new, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for name in ("groups", "labels"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert before[3].location == after[3].location
    assert before.dropped == after.dropped
    with h5py.File(root / "deep/b.h5") as theirs, h5py.File(pack / "deep/b.h5") as ours:
        for name in ("x", "measured", "bpm"):
            assert contiguous_rows(ours[f"two/{name}"], ours[f"two/{name}"].ndim - 1) is not None
            assert ours[f"two/{name}"].dtype == theirs[f"two/{name}"].dtype
            assert np.array_equal(ours[f"two/{name}"], theirs[f"two/{name}"])
        assert ours["two/x"] == ours["two/same"]
        assert ours["two"].get("soft", getlink=True).path == "/two/bpm"
        assert dict(ours["two/x"].attrs) == dict(theirs["two/x"].attrs)
        assert ours["two"].attrs["notes"].tolist() == ["bed", "chair"]
        assert ours.attrs["device"] == "ward 3"
        assert ours["two/text"].asstr()[1] == "two"


def test_an_interrupted_pack_goes_on_and_a_strangers_file_stays(cohort: Path) -> None:
    spec, root, pack = load_spec(cohort / "theirs.yaml"), cohort / "their files", cohort / "pack"
    pack_recordings(spec, root, pack)
    (pack / "deep/b.h5").unlink()
    kept = (pack / "a.h5").stat().st_mtime_ns
    told: list[str] = []
    pack_recordings(spec, root, pack, tell=told.append)
    assert (pack / "a.h5").stat().st_mtime_ns == kept
    assert ["already" in line for line in told] == [True, False]
    with h5py.File(root / "a.h5", "a") as file:
        file["one/bpm"][3] = 77
    pack_recordings(spec, root, pack)
    with h5py.File(pack / "a.h5") as file:
        assert file["one/bpm"][3] == 77
    with h5py.File(pack / "a.h5", "w") as file:
        file["mine"] = [1]
    with pytest.raises(UserError, match=r"a file that is no pack"):
        pack_recordings(spec, root, pack)
    with h5py.File(pack / "a.h5") as file:
        assert list(file) == ["mine"]
    with pytest.raises(UserError, match=r"inside the folder"):
        pack_recordings(spec, root, root / "pack")


def run(*words: Any) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_slow_files_are_named_with_a_command_that_mends_them(cohort: Path) -> None:
    told = " ".join(run("data", "check", cohort / "theirs.yaml", "--root", cohort / "their files").split())
    found = re.search(
        r"compressed chunks that make windows slow to read: a\.h5:/one \(0\.38\d* MiB decoded .*?`(maekit data pack [^`]*)`",
        told,
    )
    assert found, told
    line = next(line for line in inspect(cohort / "their files/a.h5") if line.startswith("    x "))
    assert re.search(r"; chunks \(2, 100000\), deflate, 1,000 rows along axis 1 \(4 kB\) decodes 400 kB: slow", line)
    words = shlex.split(found[1])
    run(*words[1:])
    pack = words[words.index("--to") + 1]
    assert "slow to read" not in " ".join(run("data", "check", cohort / "theirs.yaml", "--root", pack).split())
    assert any("x" in line and "; contiguous" in line for line in inspect(Path(pack) / "a.h5"))
    with pytest.raises(UserError, match="an option of pictures"):
        CliRunner().invoke(app, [*words[1:], "--form", "uint8"], catch_exceptions=False)
