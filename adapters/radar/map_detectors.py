"""Detectors of objects on maps that learn nothing: CFAR and clusters, in the coordinates of the map's axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaincinv

from maekit.adapter import Detector
from maekit.adapters.radar.cfar import Kind
from maekit.adapters.radar.clusters import map_clusters

if TYPE_CHECKING:
    from collections.abc import Callable

    from maekit.data.sample import Sample
    from maekit.metrics.plane import Plane

MOST_LOOKS = 1000.0
SILENT_DB = -300.0


class Settings(TypedDict):
    """Options of `map_clusters`, by axis name where it takes one number per axis."""

    guard: dict[str, int]
    train: dict[str, int]
    eps: dict[str, float]
    false_alarm: float
    kind: Kind


# Tuned on the training drives of the simulated streets (30 drives, 16 receivers, clutter=mean; every fifth frame for azimuth,
# every tenth for Doppler). Guard cells cover the main lobe of a Hann window, 2 bins to either side. A beam is wider than any
# window across azimuth, and static clutter is a ridge along Doppler, so both train along range only. The optimum is flat: 12 to
# 24 training cells, eps from 2 to 5 and false-alarm rates from 1e-6 to 1e-20 differ by 0.03 of average precision. False
# detections come from clutter and side lobes rather than from noise, hence thresholds far above those for noise.
RANGE_AZIMUTH = Settings(
    guard={"range": 3, "azimuth": 0},
    train={"range": 16, "azimuth": 0},
    eps={"range": 4.0, "azimuth": 3.0},
    false_alarm=1e-9,
    kind="ca",
)
RANGE_DOPPLER = Settings(
    guard={"range": 3, "doppler": 0},
    train={"range": 16, "doppler": 0},
    eps={"range": 1.5, "doppler": 1.5},
    false_alarm=1e-9,
    kind="ca",
)


OCCUPANCY_EPS_M, OCCUPANCY_MIN_SAMPLES = 0.1, 5
"""DBSCAN of `occupancy_detector`: the best on training sequences of real indoor points, among 0.05 to 0.3 m and 3 to 12 cells."""


def settings_of(plane: Plane | None) -> Settings | None:
    """Tuned settings for the axes of a plane; None for other axes."""
    if plane is None:
        return None
    return next(
        (settings for settings in (RANGE_AZIMUTH, RANGE_DOPPLER) if set(settings["guard"]) == set(plane.axes)), None
    )


def map_detector(
    power_db: Callable[[Sample], Float[np.ndarray, "first second"]], plane: Plane, settings: Settings
) -> Detector:
    """CFAR and clusters on the map of a sample.

    Coordinates are those of the clusters' centres (weighted by power); the score is the ratio of the strongest cell to its
    threshold in dB. Features:

    - `power_times_range4`: power of the strongest cell in dB plus 40 log10 of the range, which is the radar cross section up to a
      constant (radar equation). Without a range axis `power`;
    - `AXIS_extent` of both axes: from the first to the last cell, in the unit of the axis;
    - `across`, with an azimuth axis: its extent as a length, range times angle;
    - `cells`: natural logarithm of their number.

    Args:
        power_db: gives the map of a sample in decibels.
        plane: coordinates of its cells.
        settings: of CFAR and DBSCAN.
    """
    ranged = plane.axes.index("range") if "range" in plane.axes else None
    in_order: dict[str, Any] = {
        name: tuple(settings[name][axis] for axis in plane.axes)
        for name in ("guard", "train", "eps")  # type: ignore[literal-required]
    }

    def find(sample: Sample) -> NDArray[np.float64]:
        chart = power_db(sample)
        found = map_clusters(
            chart, **in_order, false_alarm=settings["false_alarm"], kind=settings["kind"], looks=looks_of(chart)
        )
        where, sizes = placed(plane, found["centre"], found["extent"], found["cells"])
        power = found["peak_db"].copy()
        if ranged is not None:
            power += 40 * np.log10(np.maximum(where[:, ranged], 1e-3))
        return np.column_stack([where, found["score_db"], power, sizes])

    return Detector(("power" if ranged is None else "power_times_range4", *size_names(plane)), find)


def occupancy_detector(chart_of: Callable[[Sample], Float[np.ndarray, "first second"]], plane: Plane) -> Detector:
    """Clusters of cells above zero, for occupancy maps that hold detections and no power.

    DBSCAN runs over positions in metres, so that a person close by, who covers many beams, is as large as one far away. Adjacent
    cells are neighbours as well, because far away a beam is wider than the radius. Coordinates are those of the clusters' centres,
    weighted by the cells' values, whose sum is the score; features are those of `map_detector` without the power.

    Args:
        chart_of: gives the map of a sample, zero where nothing was detected.
        plane: with a distance and an angle.
    """

    def find(sample: Sample) -> NDArray[np.float64]:
        chart = chart_of(sample)
        cells = np.argwhere(chart > 0)
        if not len(cells):
            return np.empty((0, 3 + len(size_names(plane))))
        places = plane.location(plane.at(torch.from_numpy(cells).double())).numpy()
        of = occupied_clusters(cells, places)
        clusters = [cells[of == number] for number in range(of.max() + 1)]
        values = [chart[tuple(one.T)] for one in clusters]
        centre = np.array(
            [np.average(one, axis=0, weights=w) for one, w in zip(clusters, values, strict=True)]
        ).reshape(-1, 2)
        extent = np.array([np.ptp(one, axis=0) + 1.0 for one in clusters]).reshape(-1, 2)
        where, sizes = placed(plane, centre, extent, np.array([len(one) for one in clusters], dtype=np.int64))
        found = np.column_stack([where, [one.sum() for one in values], sizes])
        return found[np.argsort(-found[:, 2], kind="stable")]

    return Detector(size_names(plane), find)


def occupied_clusters(cells: NDArray[np.int64], places_m: Float[np.ndarray, "cell 2"]) -> NDArray[np.int64]:
    """(cell,) number of each cell's cluster, -1 without one."""
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import radius_neighbors_graph

    near = radius_neighbors_graph(places_m, OCCUPANCY_EPS_M) + radius_neighbors_graph(cells, 1.5)
    near.data[:] = 1.0
    found: NDArray[np.int64] = DBSCAN(eps=1.0, min_samples=OCCUPANCY_MIN_SAMPLES, metric="precomputed").fit_predict(
        near
    )
    return found


def size_names(plane: Plane) -> tuple[str, ...]:
    """Names of the sizes that `placed` gives."""
    return (*(f"{axis}_extent" for axis in plane.axes), *(["across"] if plane.angle is not None else []), "cells")


def placed(
    plane: Plane,
    centre: Float[np.ndarray, "detection 2"],
    extent: Float[np.ndarray, "detection 2"],
    cells: NDArray[np.int64],
) -> tuple[Float[np.ndarray, "detection 2"], Float[np.ndarray, "detection size"]]:
    """Coordinates and sizes (`size_names`) of clusters whose centres and extents are in bins."""
    middle, half = torch.from_numpy(centre.copy()), torch.from_numpy(extent.copy()) / 2
    where = plane.at(middle).numpy()
    sizes = (plane.at(middle + half) - plane.at(middle - half)).abs().numpy()
    columns = [sizes]
    if plane.angle is not None:
        columns.append((where[:, 1 - plane.angle] * sizes[:, plane.angle] * plane.radians)[:, None])
    return where, np.concatenate([*columns, np.log(cells)[:, None]], axis=1)


def looks_of(map_db: Float[np.ndarray, "first second"]) -> float:
    """Estimate the number of independent powers that each cell of a map is the mean of, from 1 to 1000.

    The mean of L exponential powers has a gamma distribution of shape L; the estimate is the L whose ratio of median to lower
    quartile is that of the map. The few targets hardly influence either quantile. A noise level that varies over the map
    increases the ratio, which lowers L and raises thresholds.
    """
    low, middle = np.quantile(map_db, [0.25, 0.5])
    ratio = 10 ** (float(middle - low) / 10)

    def apart(looks: float) -> float:
        return float(gammaincinv(looks, 0.5) / gammaincinv(looks, 0.25)) - ratio

    if apart(1.0) <= 0:
        return 1.0
    if apart(MOST_LOOKS) >= 0:
        return MOST_LOOKS
    return float(brentq(apart, 1.0, MOST_LOOKS, xtol=1e-3))
