"""Batch normalisation whose batch is that of all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine parameters (eps 1e-6) over the samples of all processes, on any device.

    What goes in carries no gradient (features of a frozen encoder), so sums are simply added up; torch's own
    SyncBatchNorm, which differentiates through them, needs a GPU.

    Args:
        width: numbers in a feature.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False, eps=1e-6)

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        assert self.momentum is not None, "set by BatchNorm1d's default"
        x = x.float()
        sums = torch.cat([x.sum(0), (x**2).sum(0), x.new_tensor([len(x)])])
        dist.all_reduce(sums)
        count = sums[-1]
        mean, square = sums[:-1].view(2, -1) / count
        variance = (square - mean**2).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        return (x - mean) / (variance + self.eps).sqrt()
