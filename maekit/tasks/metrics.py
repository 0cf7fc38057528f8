"""Numbers that people of the field quote, from predictions and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classification(predicted: NDArray[Any], label: NDArray[Any]) -> dict[str, float]:
    """`accuracy`, and `balanced_accuracy`: the mean recall over the classes that occur."""
    right = predicted == label
    recall = [float(right[label == c].mean()) for c in np.unique(label)]
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recall))}


def regression(predicted: NDArray[Any], label: NDArray[Any], within: float) -> dict[str, float]:
    """`mae`, `rmse`, `bias` (unit of the label), `mape` (%), `within` (share closer than `within`), Pearson `r`.

    `r` is 0 where the predictions (or the labels) do not vary.
    """
    error = predicted.astype(np.float64) - label
    varied = len(label) > 1 and np.std(predicted) > 0 and np.std(label) > 0
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "mape": float((np.abs(error) / np.maximum(np.abs(label), 1e-12)).mean() * 100),
        "within": float((np.abs(error) <= within).mean()),
        "r": float(np.corrcoef(predicted, label)[0, 1]) if varied else 0.0,
    }
