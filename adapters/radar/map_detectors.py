"""Objects on the maps of an adapter without learning: CFAR and clusters, in the coordinates of the map's axes."""

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
    """What `map_clusters` is told, by the names of the axes where it has a number for each: see there."""

    guard: dict[str, int]
    train: dict[str, int]
    eps: dict[str, float]
    false_alarm: float
    kind: Kind


# Found on the training drives of the simulated streets (30 of 16 receivers, clutter=mean; every fifth frame for azimuth, every
# tenth for Doppler). Guard cells cover the main lobe of a Hann window, 2 bins to either side; across azimuth a beam is wider
# than any window, and along Doppler what stands still is a ridge, so both train along range alone. What is left is flat: from 12
# to 24 training cells, reaches from 2 to 5 and false alarms from 1e-6 to 1e-20 differ by 0.03 of average precision. Clutter and
# side lobes, not noise, are what makes false detections there, hence thresholds far above those for noise alone.
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


LIT_REACH_M, LIT_FEWEST = 0.1, 5
"""DBSCAN of `lit_detector`: the best on the training sequences of the real indoor points, among 0.05 to 0.3 m and 3 to 12 cells."""


def settings_of(plane: Plane | None) -> Settings | None:
    """Those for the axes of a plane; None for axes that they are not known for."""
    if plane is None:
        return None
    return next((one for one in (RANGE_AZIMUTH, RANGE_DOPPLER) if set(one["guard"]) == set(plane.axes)), None)


def map_detector(
    power_db: Callable[[Sample], Float[np.ndarray, "first second"]], plane: Plane, settings: Settings
) -> Detector:
    """CFAR and clusters on the map of a sample.

    Coordinates are those of the clusters' centres (weighted by power), the score is how far the strongest cell is above its
    threshold in dB. Features:

    - `power_times_range4`: power of the strongest cell and 40 log10 of the range, which the radar equation takes away: but for
      a constant the cross section, in dB. Without a range `power`;
    - `AXIS_extent` of both axes: from the first to the last cell, in the axis' unit;
    - with an azimuth `across`: its extent as a length, range times the angle;
    - `cells`: natural logarithm of how many.

    Args:
        power_db: the map of a sample in decibels.
        plane: where its cells lie.
        settings: of both.
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


def lit_detector(chart_of: Callable[[Sample], Float[np.ndarray, "first second"]], plane: Plane) -> Detector:
    """Clusters of the cells above zero, of maps that say what stood out and not how strong it was.

    DBSCAN over the places of the cells, in metres, so that a person near by, who covers many beams, is as large as one far off;
    cells side by side are neighbours too, for far off a beam is wider than the reach. Coordinates are those of the clusters'
    centres, weighted by the cells' values, the sum of which is the score; features as of `map_detector` without the power.

    Args:
        chart_of: the map of a sample, zero where nothing stood out.
        plane: of a distance and an angle.
    """

    def find(sample: Sample) -> NDArray[np.float64]:
        chart = chart_of(sample)
        cells = np.argwhere(chart > 0)
        if not len(cells):
            return np.empty((0, 3 + len(size_names(plane))))
        places = plane.location(plane.at(torch.from_numpy(cells).double())).numpy()
        of = lit_clusters(cells, places)
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


def lit_clusters(cells: NDArray[np.int64], places_m: Float[np.ndarray, "cell 2"]) -> NDArray[np.int64]:
    """The number of each cell's cluster, or -1."""
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import radius_neighbors_graph

    near = radius_neighbors_graph(places_m, LIT_REACH_M) + radius_neighbors_graph(cells, 1.5)
    near.data[:] = 1.0
    found: NDArray[np.int64] = DBSCAN(eps=1.0, min_samples=LIT_FEWEST, metric="precomputed").fit_predict(near)
    return found


def size_names(plane: Plane) -> tuple[str, ...]:
    """Features that `placed` gives."""
    return (*(f"{axis}_extent" for axis in plane.axes), *(["across"] if plane.angle is not None else []), "cells")


def placed(
    plane: Plane,
    centre: Float[np.ndarray, "detection 2"],
    extent: Float[np.ndarray, "detection 2"],
    cells: NDArray[np.int64],
) -> tuple[Float[np.ndarray, "detection 2"], Float[np.ndarray, "detection size"]]:
    """Coordinates of clusters given in bins, and their sizes (`size_names`)."""
    middle, half = torch.from_numpy(centre.copy()), torch.from_numpy(extent.copy()) / 2
    where = plane.at(middle).numpy()
    sizes = (plane.at(middle + half) - plane.at(middle - half)).abs().numpy()
    columns = [sizes]
    if plane.angle is not None:
        columns.append((where[:, 1 - plane.angle] * sizes[:, plane.angle] * plane.radians)[:, None])
    return where, np.concatenate([*columns, np.log(cells)[:, None]], axis=1)


def looks_of(map_db: Float[np.ndarray, "first second"]) -> float:
    """How many powers each cell of a map seems to be the mean of, from how little its lower half spreads.

    The mean of L exponential powers has a gamma distribution of shape L; which L has the ratio that the median and the lower
    quartile of the map have. Targets, which are few, hardly touch either; where the level of noise differs over the map, they
    lie farther apart, L comes out smaller, and thresholds higher. From 1 to 1000.
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
