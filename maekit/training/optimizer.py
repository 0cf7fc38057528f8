"""AdamW and LARS with the paper's parameter groups, and the learning-rate schedule."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

if TYPE_CHECKING:
    from maekit.config.schema import Optimizer, Schedule
    from maekit.tasks.task import Task


def learning_rate(step: int, *, steps_per_epoch: int, batch_size: int, base_lr: float, schedule: Schedule) -> float:
    """Learning rate of a step: linear warm-up from zero, then half a cosine down to `min_lr`.

    The peak follows the linear scaling rule: `base_lr` is for a batch of 256.
    """
    peak = base_lr * batch_size / 256
    epoch = step / steps_per_epoch
    if epoch < schedule.warmup_epochs:
        return peak * epoch / schedule.warmup_epochs
    progress = (epoch - schedule.warmup_epochs) / max(schedule.epochs - schedule.warmup_epochs, 1e-12)
    return schedule.min_lr + (peak - schedule.min_lr) * 0.5 * (1 + cos(pi * min(progress, 1.0)))


def parameter_groups(task: Task, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Group the trainable parameters by weight decay and depth.

    One-dimensional parameters (biases and norms) and those in `task.no_weight_decay()` get no weight decay. `lr_scale`
    is layer_decay^(depth + 1 - id), with id 0 for everything before the blocks and i + 1 for block i (Bao et al., BEiT,
    2021). `vectors` is True for groups of one-dimensional parameters.
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
    """Make the optimizer that a recipe names; `set_learning_rate` sets its learning rate at every step.

    AdamW is torch's fused implementation. LARS is timm's; it adapts the rate of weights, not that of vectors.
    """
    groups = parameter_groups(task, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    from timm.optim import Lars

    for group in groups:
        group["always_adapt"] = not group["vectors"]
    return Lars(groups, lr=0.0, momentum=settings.momentum, trust_coeff=settings.trust_coefficient)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group to `rate` times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def gradient_norm(task: Task, clip: float | None) -> Tensor:
    """Compute the Euclidean norm of all gradients, and scale them down to a norm of `clip` where it is larger.

    Returns:
        The norm before clipping, a scalar on the device.
    """
    parameters = [p for p in task.parameters() if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if hasattr(norm, "full_tensor"):  # of sharded gradients
        norm = norm.full_tensor()
    if clip is not None:
        clip_grads_with_norm_(parameters, clip, norm)
    return norm
