"""Detections on a map: CFAR, then one detection per DBSCAN cluster of cells."""

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
"""Fields of the detections of `map_clusters`."""


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
    """Detections on a map by `cfar` and DBSCAN (Ester et al., KDD 1996).

    Args:
        map_db: power in decibels.
        guard: guard cells along both axes, see `cfar`.
        train: training cells along both axes, see `cfar`.
        false_alarm: probability of a detection in a cell of noise.
        kind: of CFAR.
        rank: of ordered statistics.
        looks: number of powers that each cell is the mean of.
        eps: radii of DBSCAN in bins along both axes: two cells are neighbours if their distance, scaled by these, is at most one.
            A target that is wide along an axis needs a large radius there, or it is split. The beams of a few receivers are so wide
            that a window across azimuth trains on the target itself: then use guard and training cells along range only ((3, 0)
            and (8, 0)) and a radius of several beams, or the map of `capon`.
        min_samples: neighbours, including itself, that make a cell a core point of DBSCAN. With 1 every detected cell belongs to
            a cluster.

    Returns:
        A structured array (`DETECTION`), the highest score first: `centre` (mean of the cells, weighted by power) and `extent`
        (from the first to the last cell, inclusive) in bins along both axes; `cells`, their number; `peak_db`, the power of the
        strongest; `score_db`, its ratio to the threshold in dB.

    Raises:
        ValueError: no map of two axes, radii that are not positive, or options that `cfar` refuses.
    """
    if map_db.ndim != 2:
        raise ValueError(f"a map has two axes, this has {map_db.ndim}")
    if not min(eps) > 0 or min_samples < 1:
        raise ValueError(f"eps {eps} must be positive and min_samples {min_samples} at least 1")
    power = 10 ** (map_db.astype(np.float64) / 10)
    threshold, detected = cfar(
        torch.from_numpy(power), guard=guard, train=train, false_alarm=false_alarm, kind=kind, rank=rank, looks=looks
    )
    bins = np.argwhere(detected.numpy())
    if not len(bins):
        return np.empty(0, DETECTION)
    from sklearn.cluster import DBSCAN

    # Slightly more than one, so that cells at exactly the radius are neighbours whatever the rounding.
    labels = DBSCAN(eps=1.0 + 1e-9, min_samples=min_samples).fit_predict(bins / np.array(eps))
    detections = np.empty(labels.max() + 1, DETECTION)
    for number, detection in enumerate(detections):
        cells = bins[labels == number]
        watts = power[tuple(cells.T)]
        strongest = tuple(cells[watts.argmax()])
        detection["centre"] = np.average(cells, axis=0, weights=watts)
        detection["extent"] = np.ptp(cells, axis=0) + 1
        detection["cells"] = len(cells)
        detection["peak_db"] = map_db[strongest]
        detection["score_db"] = 10 * np.log10(watts.max() / float(threshold[strongest]))
    return detections[np.argsort(-detections["score_db"], kind="stable")]
