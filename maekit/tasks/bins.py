"""Regression as classification over bins of the value."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maekit.tasks.readout import Distribution


class Bins(Distribution):
    """A distribution over bins; the prediction is its expectation or its median, the uncertainty its standard deviation.

    The target is a normal distribution around the label, truncated to the range and integrated over each bin, and the loss is
    the cross entropy to it (HL-Gauss: Imani and White, Improving Regression Performance with Distributional Losses, 2018,
    arXiv:1806.04613). Unlike a point estimate, a distribution can keep two candidates apart.

    Args:
        edges: of the bins, rising; labels beyond the outer ones are clamped, and nothing beyond the outer centres is predicted.
        smoothing: standard deviation of the target; a lower bound of the uncertainty.
        median: predict the median, which minimises the absolute error, instead of the expectation.
        first: of several outputs, one a patch for example, the index of the first bin; outputs before it and behind the last
            bin are not used.
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
        """Probability of each bin that the loss asks for."""
        label = label.clamp(self.edges[0], self.edges[-1])
        below = torch.special.ndtr((self.edges - label[:, None]) / self.smoothing)
        return below.diff(dim=1) / (below[:, -1:] - below[:, :1])

    def loss(self, output: Float[Tensor, "batch out"], label: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """See `Readout.loss`."""
        return -(self.target(label) * self.log_probability(output)).sum(1)

    def value(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """See `Readout.value`."""
        probability = self.log_probability(output).exp()
        if not self.median:
            return probability @ self.centres
        # Linear within the bin in which the cumulative probability reaches one half.
        below = probability.cumsum(1)
        at = torch.searchsorted(below, torch.full_like(below[:, :1], 0.5)).clamp(max=below.shape[1] - 1)
        inside = (0.5 - below.gather(1, at) + probability.gather(1, at)) / probability.gather(1, at).clamp(min=1e-12)
        width = self.edges.diff()[at]
        return (self.edges[at] + inside.clamp(0, 1) * width)[:, 0]

    def std(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch"]:
        """See `Readout.std`."""
        away = self.centres - self.value(output)[:, None]
        return (self.log_probability(output).exp() * away**2).sum(1).sqrt()

    def log_probability(self, output: Float[Tensor, "batch out"]) -> Float[Tensor, "batch bin"]:
        """See `Readout.log_probability`."""
        return output[:, self.used].log_softmax(1)

    def values(self) -> Float[Tensor, "bin"]:
        """See `Readout.values`."""
        return self.centres

    @property
    def centres(self) -> Float[Tensor, "bin"]:
        """The middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2
