"""Detections of a map: one for each target, at its place, with its power, strongest first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.radar.clusters import DETECTION, map_clusters
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.map_detectors import OCCUPANCY_EPS_M, occupancy_detector
from maekit.adapters.radar.range_azimuth_map import fft_sines, range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.data.sample import Sample
from maekit.metrics.plane import Plane

RADAR = FMCW(bandwidth_hz=300e6, samples=128, sample_rate_hz=4e6, chirps=64, chirp_interval_s=60e-6, gain_db=16.0)
WINDOW = {"guard": (3, 3), "train": (6, 6)}


def snow(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return 10 * np.log10(np.random.default_rng(seed).exponential(1.0, shape))


def test_targets_of_a_simulated_scene_are_found_where_they_are() -> None:
    """Three targets, one of them 20 dB stronger, in thermal noise: three detections on both maps."""
    rng = np.random.default_rng(0)
    ranges, velocities, sines = np.array([12.3, 25.1, 40.0]), np.array([-6.2, 3.3, 9.0]), np.array([-0.4, 0.1, 0.55])
    sections = np.array([1.0, 3.0, 30.0])
    time = (np.arange(RADAR.chirps) - (RADAR.chirps - 1) / 2) * RADAR.chirp_interval_s
    clean = RADAR.array_signal(ranges[:, None] + velocities[:, None] * time, sines, sections, receivers=8)
    cube = torch.from_numpy((clean + RADAR.noise(rng, clean.shape)).astype(np.complex64))

    found = map_clusters(range_doppler_map(cube, average_receivers=True).numpy(), **WINDOW, false_alarm=1e-6)  # type: ignore[arg-type]
    assert len(found) == 3
    found = found[np.argsort(found["centre"][:, 0])]
    assert np.abs(found["centre"][:, 0] * RADAR.range_resolution_m - ranges).max() < 0.5 * RADAR.range_resolution_m
    speeds = (found["centre"][:, 1] - RADAR.chirps // 2) * RADAR.velocity_resolution_mps
    assert np.abs(speeds - velocities).max() < 0.5 * RADAR.velocity_resolution_mps
    watts = 10 * np.log10(RADAR.received_w(ranges, sections))
    assert np.abs(found["peak_db"] - watts).max() < 3.1  # between bins of two Hann windows, up to 1.4 dB each
    assert (found["extent"] >= 3).all()  # the main lobe of a Hann window

    grid = fft_sines(64)
    for method, options in {
        "capon": {**WINDOW, "eps": (1.5, 2.5)},
        "fft": {"guard": (3, 0), "train": (8, 0), "eps": (1.5, 8.0)},
    }.items():
        chart = range_azimuth_map(cube, sines=grid, method=method).numpy()  # type: ignore[arg-type]
        found = map_clusters(chart, **options, false_alarm=1e-6)  # type: ignore[arg-type]
        found = found[np.argsort(found["centre"][:, 0])]
        assert len(found) == 3
        assert np.abs(found["centre"][:, 0] * RADAR.range_resolution_m - ranges).max() < 0.5 * RADAR.range_resolution_m
        assert np.abs(np.interp(found["centre"][:, 1], np.arange(64), grid.numpy()) - sines).max() < 0.5 * 2 / 64


@settings(max_examples=25, deadline=None)
@given(row=st.integers(2, 37), column=st.integers(2, 29), strength_db=st.floats(25, 90))
def test_a_blob_is_one_detection_of_stated_size(row: int, column: int, strength_db: float) -> None:
    chart = np.zeros((40, 32))
    chart[row - 1 : row + 2, column] = strength_db, strength_db + 3.0103, strength_db
    chart[row, column + 1] = strength_db
    (found,) = map_clusters(chart, **WINDOW)  # type: ignore[arg-type]
    assert found.dtype == DETECTION
    # Powers 1, 2, 1 along the first axis in column, and 1 beside the middle: the centre is a fifth of a bin to the side.
    assert found["centre"] == pytest.approx((row, column + 1 / 5), abs=1e-4)
    assert tuple(found["extent"]) == (3, 2)
    assert found["cells"] == 4
    assert found["peak_db"] == pytest.approx(strength_db + 3.0103)
    assert 0 < found["score_db"] < strength_db


def test_reach_decides_what_belongs_together() -> None:
    chart = np.zeros((40, 40))
    chart[20, 10:17:3] = 40.0
    assert len(map_clusters(chart, **WINDOW, kind="os")) == 3  # type: ignore[arg-type]
    (one,) = map_clusters(chart, **WINDOW, kind="os", eps=(1.0, 3.0))  # type: ignore[arg-type]
    assert tuple(one["extent"]) == (1, 7)
    assert len(map_clusters(chart, **WINDOW, kind="os", eps=(3.0, 1.0))) == 3  # type: ignore[arg-type]
    assert len(map_clusters(chart, **WINDOW, kind="os", min_samples=2)) == 0  # type: ignore[arg-type]


def test_the_highest_score_comes_first_and_noise_alone_gives_little() -> None:
    chart = snow((64, 64))
    chart[10, 10], chart[40, 20], chart[50, 50] = 25.0, 45.0, 35.0
    found = map_clusters(chart, **WINDOW, false_alarm=1e-6)  # type: ignore[arg-type]
    assert found["peak_db"].tolist() == [45.0, 35.0, 25.0]
    assert (np.diff(found["score_db"]) < 0).all()
    counts = [len(map_clusters(snow((64, 64), seed), **WINDOW, false_alarm=1e-3)) for seed in range(20)]  # type: ignore[arg-type]
    assert np.mean(counts) == pytest.approx(64 * 64 * 1e-3, rel=0.3)
    silent = map_clusters(np.full((16, 16), -300.0), **WINDOW)  # type: ignore[arg-type]
    assert silent.shape == (0,)
    assert silent["centre"].shape == (0, 2)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="two axes, this has 1"):
        map_clusters(np.zeros(8), **WINDOW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eps"):
        map_clusters(np.zeros((8, 8)), **WINDOW, eps=(0.0, 1.0))  # type: ignore[arg-type]


def test_lit_cells_are_clustered_by_metres_not_by_bins() -> None:
    """A person of 0.4 m at 1.5 m, over many beams, and one at 9 m over two that are farther apart than the reach; and one cell alone."""
    plane = Plane(
        ("range", "azimuth"),
        (torch.arange(1, 11, 0.05), torch.rad2deg(torch.linspace(-0.9, 0.9, 61).asin())),
        1,
        torch.pi / 180,
    )
    everywhere = plane.at(torch.cartesian_prod(torch.arange(200.0), torch.arange(61.0)))
    chart = np.zeros((200, 61), dtype=np.float32)
    near = (plane.location(everywhere) - torch.tensor([0.2, 1.5])).norm(dim=-1) < 0.2
    chart[near.reshape(200, 61).numpy()] = 2.0
    chart[158:166, 26:28] = 2.0
    chart[100, 10] = 5.0
    detector = occupancy_detector(lambda sample: sample.signal[0], plane)
    found = detector.find(Sample(chart[None], None, None, "", ""))
    assert detector.features == ("range_extent", "azimuth_extent", "across", "cells")
    assert found.shape == (2, 3 + 4)
    places = plane.location(torch.from_numpy(found[:, :2]).float())
    far = plane.location(plane.at(torch.tensor([161.5, 26.5])))
    assert plane.sizes(torch.tensor([161.5, 26.5]))[1] * torch.pi / 180 * far.norm() > 2 * OCCUPANCY_EPS_M
    torch.testing.assert_close(places, torch.stack([torch.tensor([0.2, 1.5]), far]), atol=0.03, rtol=0)
    assert found[0, 2] == chart[:40].sum()  # the sum of its cells; the nearer covers more of them
    assert found[0, 4] > 4 * found[1, 4]
    assert detector.find(Sample(np.zeros((1, 200, 61), dtype=np.float32), None, None, "", "")).shape == (0, 7)
