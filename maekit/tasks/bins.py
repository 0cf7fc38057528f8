"""Regression as classification over bins of the value."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.tasks.readout import Distribution


class Bins(Distribution):
    """A distribution over bins; the prediction is its expectation or its median, its spread the uncertainty.

    The label becomes a normal distribution around it, cut to the range and summed within each bin, and the loss is the
    cross entropy to that (HL-Gauss: Imani and White, Improving Regression Performance with Distributional Losses, 2018,
    arXiv:1806.04613). Unlike one value, a distribution may hold two candidates apart instead of meeting between them.

    Args:
        edges: of the bins, rising; labels beyond the outer ones count as on the edge, and nothing beyond the outer centres is
            predicted.
        smoothing: standard deviation of the normal distribution. It remains in the uncertainty, which is no smaller.
        median: predict the median, which the absolute error asks for, and not the mean of two candidates far apart.
        first: of several numbers, say of patches, the first that is a bin; those before it and behind the last are not used.
    """

    edges: Tensor
    smoothing: Tensor

    def __init__(
        self, edges: Float[Tensor, "edge"], smoothing: float, *, median: bool = False, first: int | None = None
    ) -> None:
        super().__init__()
        self.outputs = len(edges) - 1 if first is None else None
        self.used = slice(first or 0, (first or 0) + len(edges) - 1)
        self.median = median
        # Buffers: a run goes on with the bins that it was trained with, whatever labels are there later.
        self.register_buffer("edges", edges.float())
        self.register_buffer("smoothing", torch.tensor(smoothing))

    def target(self, label: Float[Tensor, "batch"]) -> Float[Tensor, "batch bin"]:
        """What a perfect head would say, which adds up to one."""
        label = label.clamp(self.edges[0], self.edges[-1])
        below = torch.special.ndtr((self.edges - label[:, None]) / self.smoothing)
        return below.diff(dim=1) / (below[:, -1:] - below[:, :1])

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return -(self.target(label) * self.log_probability(output)).sum(1)

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        share = self.log_probability(output).exp()
        if not self.median:
            return share @ self.centres
        # Linear within the bin in which half of it is reached.
        below = share.cumsum(1)
        at = torch.searchsorted(below, torch.full_like(below[:, :1], 0.5)).clamp(max=below.shape[1] - 1)
        inside = (0.5 - below.gather(1, at) + share.gather(1, at)) / share.gather(1, at).clamp(min=1e-12)
        width = self.edges.diff()[at]
        return (self.edges[at] + inside.clamp(0, 1) * width)[:, 0]

    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        away = self.centres - self.value(output)[:, None]
        return (self.log_probability(output).exp() * away**2).sum(1).sqrt()

    def log_probability(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch bin"]:
        return output[:, self.used].log_softmax(1)

    def values(self) -> Float[Tensor, "bin"]:
        return self.centres

    @property
    def centres(self) -> Float[Tensor, "bin"]:
        """The middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2
