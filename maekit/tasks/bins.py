"""Regression as classification over bins of the value."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.tasks.readout import Readout


class Bins(Readout):
    """A distribution over equal bins; the prediction is its expectation, its spread the uncertainty.

    The label becomes a normal distribution around it, cut to the range and summed within each bin, and the loss is the
    cross entropy to that (HL-Gauss: Imani and White, Improving Regression Performance with Distributional Losses, 2018,
    arXiv:1806.04613). Unlike one value, a distribution may hold two candidates apart instead of meeting between them.

    Args:
        count: of the bins.
        low, high: outer edges; labels beyond count as on the edge, and nothing beyond the outer centres is predicted.
        smoothing: standard deviation of the normal distribution. It remains in the uncertainty, which is no smaller.
    """

    edges: Tensor
    smoothing: Tensor

    def __init__(self, count: int, low: float, high: float, smoothing: float) -> None:
        super().__init__()
        self.outputs = count
        # Buffers: a run goes on with the bins that it was trained with, whatever labels are there later.
        self.register_buffer("edges", torch.linspace(low, high, count + 1))
        self.register_buffer("smoothing", torch.tensor(smoothing))

    def target(self, label: Float[Tensor, "batch"]) -> Float[Tensor, "batch bin"]:
        """What a perfect head would say, which adds up to one."""
        label = label.clamp(self.edges[0], self.edges[-1])
        below = torch.special.ndtr((self.edges - label[:, None]) / self.smoothing)
        return below.diff(dim=1) / (below[:, -1:] - below[:, :1])

    def loss(self, output: Float[Tensor, "batch bin"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return -(self.target(label) * output.log_softmax(1)).sum(1)

    def value(self, output: Float[Tensor, "batch bin"]) -> Float[Tensor, "batch"]:
        return output.softmax(1) @ self.centres

    def std(self, output: Float[Tensor, "batch bin"]) -> Float[Tensor, "batch"]:
        away = self.centres - self.value(output)[:, None]
        return (output.softmax(1) * away**2).sum(1).sqrt()

    @property
    def centres(self) -> Float[Tensor, "bin"]:
        """The middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2
