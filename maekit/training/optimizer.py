"""AdamW and LARS with the paper's parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING, Any

import torch
from timm.optim import Lars
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

if TYPE_CHECKING:
    from maekit.config.schema import Optimizer, Schedule
    from maekit.tasks.task import Task


def learning_rate(step: int, *, steps_per_epoch: int, batch_size: int, base_lr: float, schedule: Schedule) -> float:
    """Linear warm-up from zero, then half a cosine down to `min_lr`; `base_lr` is for a batch of 256."""
    peak = base_lr * batch_size / 256
    epoch = step / steps_per_epoch
    if epoch < schedule.warmup_epochs:
        return peak * epoch / schedule.warmup_epochs
    progress = (epoch - schedule.warmup_epochs) / max(schedule.epochs - schedule.warmup_epochs, 1e-12)
    return schedule.min_lr + (peak - schedule.min_lr) * 0.5 * (1 + cos(pi * min(progress, 1.0)))


def parameter_groups(task: Task, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by weight decay and depth.

    One-dimensional parameters (biases and norms) and those the task names take no weight decay. `lr_scale` is
    layer_decay^(depth + 1 - id), id 0 for what stands before the blocks, i + 1 for block i (Bao et al., BEiT, 2021).
    `vectors` is True for groups of one-dimensional parameters.
    """
    no_weight_decay = task.no_weight_decay()
    last = len(task.blocks) + 1
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        vector = parameter.ndim == 1
        decay = 0.0 if vector or name in no_weight_decay else weight_decay
        depth = task.depth_of(name)
        scale = layer_decay ** (last - (last if depth is None else depth))
        group = groups.setdefault(
            (decay, scale, vector), {"params": [], "weight_decay": decay, "lr_scale": scale, "vectors": vector}
        )
        group["params"].append(parameter)
    return list(groups.values())


def make_optimizer(task: Task, settings: Optimizer) -> torch.optim.Optimizer:
    """What the recipe names; its learning rate is set at every step by `set_learning_rate`.

    AdamW is torch's fused one, LARS timm's, which adapts the rate of weights and leaves that of vectors as it is.
    """
    groups = parameter_groups(task, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    for group in groups:
        group["always_adapt"] = not group["vectors"]
    return Lars(groups, lr=0.0, momentum=settings.momentum, trust_coeff=settings.trust_coefficient)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def gradient_norm(task: Task, clip: float | None) -> Tensor:
    """Euclidean norm over all gradients (a scalar on the device), which are scaled down to `clip` where it is exceeded."""
    parameters = [p for p in task.parameters() if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    if clip is not None:
        clip_grads_with_norm_(parameters, clip, norm)
    return norm
