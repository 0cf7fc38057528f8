"""Detections on a map without learning: CFAR, then one detection for each cluster of cells."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Shaped

from maekit.adapters.radar.cfar import Kind, cfar

DETECTION = np.dtype(
    [
        ("centre", np.float64, 2),
        ("extent", np.float64, 2),
        ("cells", np.int64),
        ("peak_db", np.float64),
        ("score_db", np.float64),
    ]
)
"""Columns of `map_clusters`."""


def map_clusters(
    map_db: Float[np.ndarray, "first second"],
    *,
    guard: tuple[int, int],
    train: tuple[int, int],
    false_alarm: float = 1e-4,
    kind: Kind = "ca",
    rank: int | None = None,
    looks: float = 1.0,
    eps: tuple[float, float] = (1.5, 1.5),
    min_samples: int = 1,
) -> Shaped[np.ndarray, " detection"]:
    """What stands out of a map, by `cfar` and DBSCAN (Ester et al., KDD 1996).

    Args:
        map_db: power in decibels.
        guard: as `cfar` takes them, in bins along either axis.
        train: likewise.
        false_alarm: of each cell of noise alone.
        kind: of CFAR.
        rank: of ordered statistics.
        looks: how many powers each cell is the mean of.
        eps: bins along either axis. Two cells are neighbours where their distance, in reaches, is at most one: a target
            that is wide along an axis is given a long reach there, or it falls apart. The beams of a few receivers are
            so wide that a window across azimuth trains on the target itself: there, guard and train along range alone
            ((3, 0) and (8, 0)) and a reach of some beams, or the map of `capon`.
        min_samples: neighbours, itself included, that make a cell the core of a cluster (`min_samples` of DBSCAN). With 1
            every detected cell is in a cluster.

    Returns:
        An array with named columns (`DETECTION`), the highest score first: `centre` (of the cells, weighted by power)
        and `extent` (from the first to the last cell, both included) in bins along both axes; `cells`, how many;
        `peak_db`, the power of the strongest; `score_db`, how far that is above its threshold.

    Raises:
        ValueError: no map of two axes, a reach that is not positive, or what `cfar` refuses.
    """
    if map_db.ndim != 2:
        raise ValueError(f"a map has two axes, this has {map_db.ndim}")
    if not min(eps) > 0 or min_samples < 1:
        raise ValueError(f"eps {eps} must be positive and min_samples {min_samples} at least 1")
    power = 10 ** (map_db.astype(np.float64) / 10)
    threshold, detected = cfar(
        torch.from_numpy(power), guard=guard, train=train, false_alarm=false_alarm, kind=kind, rank=rank, looks=looks
    )
    places = np.argwhere(detected.numpy())
    if not len(places):
        return np.empty(0, DETECTION)
    from sklearn.cluster import DBSCAN

    # A hair more than one, so that cells exactly a reach apart are neighbours whatever the rounding.
    labels = DBSCAN(eps=1.0 + 1e-9, min_samples=min_samples).fit_predict(places / np.array(eps))
    found = np.empty(labels.max() + 1, DETECTION)
    for number, one in enumerate(found):
        cells = places[labels == number]
        watts = power[tuple(cells.T)]
        strongest = tuple(cells[watts.argmax()])
        one["centre"] = np.average(cells, axis=0, weights=watts)
        one["extent"] = np.ptp(cells, axis=0) + 1
        one["cells"] = len(cells)
        one["peak_db"] = map_db[strongest]
        one["score_db"] = 10 * np.log10(watts.max() / float(threshold[strongest]))
    return found[np.argsort(-found["score_db"], kind="stable")]
