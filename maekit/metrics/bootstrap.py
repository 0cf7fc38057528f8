"""Confidence intervals by resampling groups: people, drives, sessions.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; for clustered samples the cluster is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cohorts(groups: int, draws: int, seed: int = 0) -> NDArray[np.float64]:
    """(draws, groups): how often each group is drawn, with replacement.

    Equal arguments give equal cohorts, so that differences between the metrics of two methods are paired.
    """
    counts = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), draws)
    return counts.astype(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The middle 95 % of a metric over cohorts; None where it never varies, as with a single group."""
    low, high = np.quantile(values, [0.025, 0.975])
    return (float(low), float(high)) if values.min() < values.max() else None
