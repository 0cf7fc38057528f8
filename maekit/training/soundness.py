"""Whether a run is still sound: losses and weights that are finite, but have exploded, are noticed."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

FEWEST = 8
"""Losses that are needed before one can be judged."""
LOSS_FACTOR = 20.0
"""A loss has exploded where it exceeds the median by more than this times the median's size or the losses' spread."""
WEIGHT_FACTOR = 100.0
"""Weights have exploded where their root mean square is this many times that at the start."""


class LossMonitor:
    """Compares each loss with the recent ones that had not exploded."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=64)

    def is_sound(self, loss: float) -> bool:
        """Judge the loss of a step, a finite number, and remember it if it has not exploded."""
        if len(self.losses) >= FEWEST:
            center = median(self.losses)
            spread = median(abs(earlier - center) for earlier in self.losses)
            if loss > center + LOSS_FACTOR * max(abs(center), spread):
                return False
        self.losses.append(loss)
        return True


def root_mean_square(tensors: Iterable[Tensor]) -> float:
    """Root mean square of all elements of floating-point tensors; 0 where there are none."""
    total, count = 0.0, 0
    for tensor in tensors:
        total += float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)) ** 2
        count += tensor.numel()
    return (total / count) ** 0.5 if count else 0.0


def has_exploded(weights: Iterable[Tensor], initial: float) -> bool:
    """Whether the root mean square of weights is not finite, or far above `initial`, that at the start."""
    size = root_mean_square(weights)
    return not size <= WEIGHT_FACTOR * initial if initial > 0 else size != size
