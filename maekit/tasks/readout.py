"""Readouts of a regression head: from its outputs to a value, with or without an uncertainty.

Values are standardised here; the task turns them into the unit of the label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import log, pi, sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Spread = Literal["gaussian", "laplace"]
REACH = 4.0
"""Half the default range of values, in standard deviations of the training labels."""
VALUES = 161
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


class Distribution(Readout):
    """A readout that predicts a distribution."""

    @abstractmethod
    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """Standard deviation of the prediction."""

    @abstractmethod
    def values(self) -> Float[Tensor, "value"]:
        """Values, rising, over which `log_probability` is a distribution."""

    @abstractmethod
    def log_probability(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch value"]:
        """Of each of `values`."""


class PointReadout(Readout):
    """The value alone, under smooth L1 (Huber)."""

    outputs = 1

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """See `Readout.loss`."""
        return F.smooth_l1_loss(output[:, 0], label, reduction="none")

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """See `Readout.value`."""
        return output[:, 0]


class Heteroscedastic(Distribution):
    """The value and the logarithm of its standard deviation, under the negative log-likelihood.

    Kendall and Gal, What Uncertainties Do We Need (2017, arXiv:1703.04977), section 2.2.

    Args:
        spread: the distribution around the value; `laplace` is less sensitive to outliers.
    """

    outputs = 2

    def __init__(self, spread: Spread) -> None:
        super().__init__()
        self.spread = spread

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """See `Readout.loss`."""
        return self._surprise(output, label[:, None])[:, 0]

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """See `Readout.value`."""
        return output[:, 0]

    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """See `Readout.std`."""
        return self._log_std(output).exp()

    def values(self) -> Float[Tensor, "value"]:
        """See `Readout.values`."""
        return torch.linspace(-REACH, REACH, VALUES)

    def log_probability(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch value"]:
        """See `Readout.log_probability`."""
        return (-self._surprise(output, self.values().to(output.device)[None])).log_softmax(1)

    def _surprise(
        self, output: Float[Tensor, "batch out"], value: Float[Tensor, "some value"]
    ) -> Float[Tensor, "batch value"]:
        """The negative logarithm of the density."""
        log_std = self._log_std(output)[:, None]
        away = (output[:, :1] - value) * (-log_std).exp()
        if self.spread == "gaussian":
            return log_std + away**2 / 2 + log(2 * pi) / 2
        return log_std + sqrt(2) * away.abs() + log(2) / 2

    @staticmethod
    def _log_std(output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        return output[:, 1].clamp(-LOG_STD, LOG_STD)
