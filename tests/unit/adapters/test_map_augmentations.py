"""Maps mirrored and moved, with their objects, their pictures and what was not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import DETECTION, PICTURE, write

from maekit.adapter import Augmentations
from maekit.adapters.augment.mirror import Mirror
from maekit.adapters.augment.shift import Shift
from maekit.adapters.radar.range_azimuth import RangeAzimuthAdapter
from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.build.experiment import build_experiment
from maekit.config.load import load_recipe
from maekit.core.joint import PRIMARY
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError
from maekit.testing import check_augmentation

DOPPLER = SignalInfo(("power",), (Axis("range", 8, "m", 1.0), Axis("doppler", 8, "m/s", 1.0, -4.0)))
AZIMUTH = SignalInfo(("power",), (Axis("range", 8, "m", 1.0), Axis("azimuth", 8, "deg", 10.0, -35.0)))


def test_left_and_right_are_swapped_with_objects_and_pictures(tmp_path: Path) -> None:
    overrides = [DETECTION, f"auxiliary={{picture: {PICTURE}}}", "augment=[{name: mirror, axis: azimuth}]"]
    experiment = build_experiment(load_recipe(write(tmp_path, frames=8), overrides))
    rng = np.random.default_rng(0)
    index = int(np.flatnonzero(np.isfinite(experiment.labels[:, 0, 0]))[0])
    sample = experiment.source[index]
    swapped = next(
        varied
        for varied in (experiment.augmentations[PRIMARY].vary_sample(sample, rng) for _ in range(20))
        if varied is not sample
    )
    np.testing.assert_array_equal(swapped.signal, sample.signal[..., ::-1])
    picture, before = swapped.auxiliary["picture"].signal, sample.auxiliary["picture"].signal
    np.testing.assert_array_equal(picture, before[..., ::-1])
    assert isinstance(swapped.label, np.ndarray)
    assert isinstance(sample.label, np.ndarray)
    assert swapped.label[0, 1] == -sample.label[0, 1]
    assert swapped.label[0, 0] == sample.label[0, 0]


@pytest.mark.parametrize(("columns", "start"), [(32, -1.0), (31, -0.9375), (32, -0.96875)])
def test_a_mirrored_or_moved_map_takes_its_objects_their_extents_and_what_was_not_measured_along(
    columns: int, start: float
) -> None:
    """Of clips over the sine of azimuth, also where an even number of bins begins at -90 degrees: zero then is no bin's edge."""
    axes = (
        Axis("frame", 2, ""),
        Axis("range", 24, "m", 0.5, 1.0),
        Axis("azimuth", columns, "deg", 0.0625, start, "sine"),
    )
    info = SignalInfo(("power",), axes, objects=("range", "azimuth", "length", "range_extent", "azimuth_extent"))
    patch = (1, 24, columns)
    adapter = RangeAzimuthAdapter(info, patch=patch)
    plane = adapter.plane()
    assert plane is not None
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((1, 2, 24, columns)).astype(np.float32)
    valid = rng.random((2, 24, columns)) < 0.9
    cells = np.array([[3, 7], [20, columns - 4], [11, columns // 2]])
    label = np.full((4, 5), np.nan)
    for row, cell in zip(label, cells, strict=False):
        where = torch.tensor(cell).double()
        row[:2], row[2], row[3:] = plane.at(where).numpy(), 4.0, 1.5 * plane.sizes(where).numpy()
    sample = Sample(signal, valid, label, "", "")
    mirror, shift = Mirror(adapter, axis="azimuth"), Shift(adapter, bins=(9, 12))
    for listed in ([mirror], [shift], [mirror, shift]):
        seen = set()
        for _ in range(30):
            moved = Augmentations.by_stage(listed).vary_sample(sample, rng)
            assert isinstance(moved.label, np.ndarray)
            assert moved.valid is not None
            found = plane.cells(torch.from_numpy(moved.label[:, :2]))
            assert np.isnan(moved.label[3]).all()
            for row, (was_range, was_azimuth), cell in zip(moved.label, cells, found, strict=False):
                now = cell.round()
                torch.testing.assert_close(cell, now, atol=1e-3, rtol=0)
                at = (int(now[0]), int(now[1]))
                assert moved.signal[0, 1][at] == signal[0, 1, was_range, was_azimuth]
                assert moved.valid[1][at] == valid[1, was_range, was_azimuth]
                assert row[2] == 4.0
                if shift in listed:
                    np.testing.assert_allclose(row[3:], 1.5 * plane.sizes(now.double()).numpy(), rtol=0.02)
                seen.add(at)
        assert len(seen) >= (20 if shift in listed else 5)


def test_approaching_and_receding_are_swapped_around_zero_velocity() -> None:
    adapter, rng = RangeDopplerAdapter(DOPPLER), np.random.default_rng(0)
    sample = Sample(np.broadcast_to(np.arange(8.0), (1, 8, 8)), None, 1, "g", "here")
    mirror = Mirror(adapter, axis="doppler")
    check_augmentation(mirror, adapter, sample)
    rows = {tuple(mirror(sample, rng).signal[0, 0].tolist()) for _ in range(20)}
    assert rows == {(0, 1, 2, 3, 4, 5, 6, 7), (0, 7, 6, 5, 4, 3, 2, 1)}, "of -4 to 3 m/s, -4 stands for both ends"


def test_auxiliary_signals_that_would_contradict_are_refused() -> None:
    radar = RangeAzimuthAdapter(AZIMUTH)
    mirror, speeds = Mirror(radar, axis="azimuth"), RangeDopplerAdapter(DOPPLER)
    mirror.check_auxiliary({})
    with pytest.raises(ValueError, match="last axis of speeds is doppler"):
        mirror.check_auxiliary({"speeds": speeds})
    with pytest.raises(ValueError, match="doppler also swaps"):
        Mirror(speeds, axis="doppler").check_auxiliary({"speeds": speeds})
    with pytest.raises(ValueError, match="radar is read beside it"):
        Shift(speeds, bins=(1, 1)).check_auxiliary({"radar": radar})


def test_options_that_do_not_fit_the_map_are_refused(tmp_path: Path) -> None:
    recipe = write(tmp_path, frames=4)
    with pytest.raises(UserError, match=r"bins=\[32, 0\].*below \(32, 16\)"):
        build_experiment(load_recipe(recipe, ["augment=[{name: shift, bins: [32, 0]}]"]))
    aside = SignalInfo(("power",), (Axis("range", 8, "m", 1.0), Axis("azimuth", 8, "deg", 10.0, -5.0)))
    with pytest.raises(ValueError, match="in the middle"):
        Mirror(RangeAzimuthAdapter(aside), axis="azimuth")
    unknown = SignalInfo(("power",), (Axis("range", 8), Axis("azimuth", 8)))
    with pytest.raises(ValueError, match="steps"):
        Mirror(RangeAzimuthAdapter(unknown), axis="azimuth")
