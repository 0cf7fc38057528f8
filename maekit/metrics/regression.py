"""Errors of predicted values, as a function of sums over samples.

A group (a person, a drive) is kept as its sums, so that resampling groups adds sums instead of reading predictions again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMITS_SD = 1.96
"""Half the width of the 95 % limits of agreement, in standard deviations of the differences."""
NO_SPREAD = 1e-12
"""Ratio of variance to mean square below which the variance is rounding error."""


def regression(predicted: NDArray[Any], label: NDArray[Any], within: float) -> dict[str, float]:
    """`mae`, `rmse`, `bias` (unit of the label), `mape` (%), `within`, Pearson `r`, `lower` and `upper`.

    `within` is the share of predictions closer than `within` to their label; `lower` and `upper` are the 95 % limits of
    agreement, bias ± 1.96 standard deviations of the differences. `r` is 0 where predictions or labels do not vary.

    Source of the limits: Bland and Altman, "Statistical methods for assessing agreement", The Lancet, 1986; of `mape`:
    ANSI/CTA-2065.
    """
    metrics = regression_from_sums(regression_sums(predicted, label, within, centre=float(np.mean(label))))
    return {name: float(value) for name, value in metrics.items()}


def regression_sums(
    predicted: NDArray[Any], label: NDArray[Any], within: float, *, centre: float
) -> NDArray[np.float64]:
    """(11,) sums over samples: of ones, |error|, error, its square, |error| / |label|, and what `r` needs.

    Args:
        predicted: one value a sample.
        label: one value a sample.
        within: as in `regression`.
        centre: near the mean label, the same for all sums that are added: squares of large numbers would cancel.
    """
    predicted, label = predicted.astype(np.float64), label.astype(np.float64)
    error, x, y = predicted - label, predicted - centre, label - centre
    absolute = np.abs(error)
    relative = absolute / np.maximum(np.abs(label), 1e-12)
    rows = [np.ones_like(x), absolute, error, error**2, relative, absolute <= within, x, y, x * x, y * y, x * y]
    return np.array([row.sum() for row in rows])


def regression_from_sums(sums: NDArray[np.float64]) -> dict[str, Any]:
    """The metrics of `regression` from (..., 11) sums."""
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
