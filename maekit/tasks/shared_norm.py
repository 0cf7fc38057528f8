"""Batch normalisation whose batch is that of all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from maekit.errors import UserError


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine parameters (eps 1e-6) over a (micro-)batch of all processes together, on any device.

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
        """Standardise each feature, in training over the batch of all processes."""
        if not self.training:
            return super().forward(x)
        if len(x) == 1 and not (dist.is_initialized() and dist.get_world_size() > 1):
            raise UserError(
                "a batch of one has no spread to normalise by",
                location="training.batch_size",
                expected="at least two samples at once",
                hint="Take larger batches, or more at once (training.gradient_accumulation_steps, training.micro_batch).",
            )
        assert self.momentum is not None, "set by BatchNorm1d's default"
        # A mean far from zero leaves nothing of the variance in float32.
        wide = x.double()
        sums = torch.cat([wide.sum(0), (wide**2).sum(0), torch.full_like(wide[0, :1], len(x))])
        if dist.is_initialized():
            dist.all_reduce(sums)
        count = sums[-1]
        mean, square = sums[:-1].view(2, -1) / count
        variance = (square - mean**2).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1).clamp(min=1)).float(), self.momentum)
        return ((wide - mean) / (variance + self.eps).sqrt()).float()
