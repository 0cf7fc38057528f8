"""Numbers that people of the field quote, from predictions and labels, and how sure they are.

Every metric here is a function of sums over samples. So a group (a person, a drive) is kept as its sums, and resampling
groups adds sums instead of reading predictions again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metrics = dict[str, Any]
"""A number by name; an array of them where sums come as an array."""
OfSums = Callable[["NDArray[np.float64]"], Metrics]
LIMITS_SD = 1.96
"""Half the width of the 95 % limits of agreement, in standard deviations of the differences."""
NO_SPREAD = 1e-12
"""Share of the mean square below which a variance is rounding."""


def classification(predicted: NDArray[Any], label: NDArray[Any]) -> dict[str, float]:
    """`accuracy`, and `balanced_accuracy`: the mean recall over the classes that occur."""
    return _numbers(classification_of(classification_sums(predicted, label, int(label.max()) + 1)))


def regression(predicted: NDArray[Any], label: NDArray[Any], within: float) -> dict[str, float]:
    """`mae`, `rmse`, `bias` (unit of the label), `mape` (%), `within` (share closer than `within`), Pearson `r`, and
    `lower` and `upper`, the 95 % limits of agreement: bias ± 1.96 standard deviations of the differences.

    `r` is 0 where the predictions (or the labels) do not vary.

    Source of the limits: Bland and Altman, "Statistical methods for assessing agreement", The Lancet, 1986; of `mape`:
    ANSI/CTA-2065.
    """
    return _numbers(regression_of(regression_sums(predicted, label, within, centre=float(np.mean(label)))))


def classification_sums(predicted: NDArray[Any], label: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """(2, classes): how many samples each class has, and how many of them were found."""
    right = predicted == label
    return np.stack([np.bincount(values, minlength=classes) for values in (label, label[right])]).astype(np.float64)


def classification_of(sums: NDArray[np.float64]) -> Metrics:
    """From (..., 2, classes) sums; see `classification`."""
    count, found = sums[..., 0, :], sums[..., 1, :]
    occurs = count > 0
    recall = np.divide(found, count, out=np.zeros_like(found), where=occurs)
    return {"accuracy": found.sum(-1) / count.sum(-1), "balanced_accuracy": recall.sum(-1) / occurs.sum(-1)}


def regression_sums(
    predicted: NDArray[Any], label: NDArray[Any], within: float, *, centre: float
) -> NDArray[np.float64]:
    """(11,) sums over samples: of ones, |error|, error, its square, |error| / |label|, and what `r` needs.

    Args:
        predicted, label: one value a sample.
        within: as in `regression`.
        centre: near the mean label, the same for all sums that are added: squares of large numbers would cancel.
    """
    predicted, label = predicted.astype(np.float64), label.astype(np.float64)
    error, x, y = predicted - label, predicted - centre, label - centre
    absolute = np.abs(error)
    relative = absolute / np.maximum(np.abs(label), 1e-12)
    rows = [np.ones_like(x), absolute, error, error**2, relative, absolute <= within, x, y, x * x, y * y, x * y]
    return np.array([row.sum() for row in rows])


def regression_of(sums: NDArray[np.float64]) -> Metrics:
    """From (..., 11) sums; see `regression`."""
    count = sums[..., 0]
    mae, bias, square, relative, within, x, y, xx, yy, xy = (sums[..., i] / count for i in range(1, 11))
    spread = np.sqrt(np.maximum(square - bias**2, 0))
    variances = xx - x * x, yy - y * y
    varied = (variances[0] > NO_SPREAD * xx) & (variances[1] > NO_SPREAD * yy)
    scale = np.sqrt(np.where(varied, variances[0] * variances[1], 1.0))
    return {
        "mae": mae,
        "rmse": np.sqrt(square),
        "bias": bias,
        "mape": relative * 100,
        "within": within,
        "r": np.where(varied, (xy - x * y) / scale, 0.0),
        "lower": bias - LIMITS_SD * spread,
        "upper": bias + LIMITS_SD * spread,
    }


def resampled(sums: NDArray[np.float64], of: OfSums, *, draws: int = 2000, seed: int = 0) -> Metrics:
    """Metrics of as many cohorts, each of groups drawn with replacement from those there are.

    A metric is first taken over a cohort's samples for each seed, then averaged over seeds: seeds are no more people. Two
    calls with equal numbers of groups draw the same cohorts, so that differences between their metrics are paired.

    Args:
        sums: (seeds, groups, ...) of one of the `_sums` functions.
        of: the function that goes with them.
        draws: how many cohorts.
        seed: of the drawing.

    Returns:
        (draws,) values by metric.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; for clustered samples the cluster is drawn.
    """
    counts = cohorts(sums.shape[1], draws, seed)
    drawn = np.tensordot(counts, sums, axes=(1, 1))
    return {name: values.mean(1) for name, values in of(drawn).items()}


def cohorts(groups: int, draws: int, seed: int = 0) -> NDArray[np.float64]:
    """(draws, groups) how often each group was drawn, with replacement."""
    counts = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), draws)
    return counts.astype(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The middle 95 % of resampled values; None where they are all one, as with a single group."""
    low, high = np.quantile(values, [0.025, 0.975])
    return (float(low), float(high)) if values.min() < values.max() else None


def _numbers(found: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}
