"""How the numbers that a head gives speak of one value: by the value alone, or with how sure they are of it.

Values are standardised here; the task turns them into the unit of the label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import log, pi, sqrt
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Spread = Literal["gaussian", "laplace"]
LOG_STD = 7.0
"""Standard deviations between e^-7 and e^7 times that of the labels: a loss never becomes infinite."""


class Readout(nn.Module, ABC):
    """From (batch, outputs) of a head to a value and its loss; no parameters inside."""

    outputs: int | None
    """Numbers that the head gives; None for one of each patch."""

    @abstractmethod
    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Of each sample."""

    @abstractmethod
    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """The prediction."""

    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"] | None:
        """Standard deviation of what was predicted; None where nothing is said of it."""
        return None


class Point(Readout):
    """The value alone, under smooth L1 (Huber)."""

    outputs = 1

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return F.smooth_l1_loss(output[:, 0], label, reduction="none")

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        return output[:, 0]


class Heteroscedastic(Readout):
    """The value and the logarithm of its standard deviation, under the negative log-likelihood.

    Kendall and Gal, What Uncertainties Do We Need (2017, arXiv:1703.04977), section 2.2.

    Args:
        spread: the distribution around the value; `laplace` minds outliers less.
    """

    outputs = 2

    def __init__(self, spread: Spread) -> None:
        super().__init__()
        self.spread = spread

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        log_std = self._log_std(output)
        away = (output[:, 0] - label) * (-log_std).exp()
        if self.spread == "gaussian":
            return log_std + away**2 / 2 + log(2 * pi) / 2
        return log_std + sqrt(2) * away.abs() + log(2) / 2

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        return output[:, 0]

    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        return self._log_std(output).exp()

    @staticmethod
    def _log_std(output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        return output[:, 1].clamp(-LOG_STD, LOG_STD)
