"""What an uncertainty is worth: whether it tells large errors from small ones, and whether its size is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def calibration(error: NDArray[Any], uncertainty: NDArray[Any]) -> dict[str, float]:
    """From the error of each sample and the standard deviation that was predicted for it.

    Returns:
        `mae_certain_half`: mean absolute error of the half with the smallest uncertainty (unit of the label).
        `aurc`: mean absolute error of the most certain samples, averaged over how many are kept; the area under the
            risk-coverage curve (Geifman and El-Yaniv, 2017, arXiv:1705.08500). It is the MAE of all where the
            uncertainty tells nothing.
        `error_in_std`: root mean square of error over uncertainty: 1 where the size is right, more where the model is
            too sure of itself.
    """
    away = np.abs(error.astype(np.float64))
    # Equal uncertainties keep the mean of what they could be: the order of the samples tells nothing.
    _, same = np.unique(uncertainty, return_inverse=True)
    away_sorted = (np.bincount(same, away) / np.bincount(same))[np.sort(same)]
    kept = np.arange(1, len(away) + 1)
    risk = np.cumsum(away_sorted) / kept
    return {
        "mae_certain_half": float(risk[(len(away) + 1) // 2 - 1]),
        "aurc": float(risk.mean()),
        "error_in_std": float(np.sqrt(np.mean((error / np.maximum(uncertainty, 1e-12)) ** 2))),
    }
