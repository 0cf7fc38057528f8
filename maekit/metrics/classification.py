"""Accuracy of predicted classes, as a function of sums over samples.

A group (a person, a drive) is kept as its sums, so that resampling groups adds sums instead of reading predictions again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classification(predicted: NDArray[Any], label: NDArray[Any]) -> dict[str, float]:
    """`accuracy`, and `balanced_accuracy`: the mean recall over the classes that occur in `label`."""
    metrics = classification_from_sums(classification_sums(predicted, label, int(label.max()) + 1))
    return {name: float(value) for name, value in metrics.items()}


def classification_sums(predicted: NDArray[Any], label: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """(2, classes): the number of samples of each class, and how many of them were predicted correctly."""
    correct = label[predicted == label]
    return np.stack([np.bincount(values, minlength=classes) for values in (label, correct)]).astype(np.float64)


def classification_from_sums(sums: NDArray[np.float64]) -> dict[str, Any]:
    """The metrics of `classification` from (..., 2, classes) sums."""
    count, correct = sums[..., 0, :], sums[..., 1, :]
    occurs = count > 0
    recall = np.divide(correct, count, out=np.zeros_like(correct), where=occurs)
    return {"accuracy": correct.sum(-1) / count.sum(-1), "balanced_accuracy": recall.sum(-1) / occurs.sum(-1)}
