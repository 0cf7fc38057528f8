"""Pickles: plain data of either NumPy is read, and what would run something is refused before it does."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import radar_layouts

from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.config.data_spec import load_spec
from maekit.data.convert.convert import convert
from maekit.data.convert.unpickle import load_plain_pickle
from maekit.errors import UserError

KNOWN = {"range_doppler": RangeDopplerAdapter.transformations}


class Harm:
    """What a pickle runs when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    radar_layouts.raddet(tmp_path / "raddet")
    harm = {"classes": ["car"], "boxes": [Harm(tmp_path / "harmed")]}
    (tmp_path / "raddet/train/gt/part1/000000.pickle").write_bytes(pickle.dumps(harm, protocol))
    with pytest.raises(UserError, match=r"000000.pickle: a pickle that holds more than data.*mkdir"):
        convert(load_spec("raddet"), tmp_path / "raddet", tmp_path / "out", transformations=KNOWN)
    assert not (tmp_path / "harmed").exists()
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(UserError, match="more than data"):
        load_plain_pickle(pickle.dumps(np.dtype([("a", "f4")]), protocol), "here")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_either_numpy_are_read(protocol: int, tmp_path: Path) -> None:
    data = {
        "classes": ["car", "bus"],
        "boxes": np.arange(12.0).reshape(2, 6),
        "one": np.float32(3),
        "turned": np.ones((2, 3)).T,
        "names": np.array(["a", "bc"]),
        "set": {1, 2},
        "none": np.empty((0, 6)),
        "bytes": b"x",
        "number": 1 + 2j,
    }
    for core in (b"numpy._core", b"numpy.core"):
        content = pickle.dumps(data, protocol)
        if core == b"numpy.core" and protocol >= 4:
            content = content.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
            content = content.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
            content = (
                b"".join([content[:2], content[11:]]) if content[2:3] == b"\x95" else content
            )  # without its length
        elif core == b"numpy.core":
            content = content.replace(b"numpy._core", core)
        found = load_plain_pickle(content, "here")
        assert all(np.array_equal(found[key], np.asarray(value)) for key, value in data.items())
    if protocol == 0:
        radar_layouts.raddet(tmp_path / "raddet", name_of_core="numpy.core")
        convert(load_spec("raddet"), tmp_path / "raddet", tmp_path / "out", transformations=KNOWN)
