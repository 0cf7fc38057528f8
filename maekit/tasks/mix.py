"""An augmentation of whole batches: one scene laid over another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection

    from maekit.tasks.task import Batch


def checked_share(mix: float) -> float:
    """A share of samples.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"mix={mix}, expected a share of samples, from 0 to 1")
    return mix


def refuse_auxiliary(mix: float, others: Collection[str]) -> None:
    """Refuse an overlay with auxiliary signals, since it would change the primary signal alone.

    Raises:
        ValueError: both are used.
    """
    if others and mix:
        raise ValueError(f"mix={mix} changes the sample alone, but {', '.join(others)} is read beside it: set it to 0")


def overlaid(batch: Batch, share: float) -> Batch:
    """Some samples of a batch with the one before them laid over.

    Each cell then has the larger of both values, of complex ones the sum, and where there are tables of objects the sample has
    those of both. Right where a cell says how much there is, as powers on any rising scale do: echoes of two scenes add up, and
    decibels of a sum are nearly those of its larger part. What was not measured in one of the two is not measured.

    Args:
        batch: with `signal`, and where they are there `valid` and `label` (batch, object, column).
        share: of its samples, drawn by chance.
    """
    signal = batch["signal"]
    chosen = torch.rand(len(signal), device=signal.device) < share

    def among(both: Tensor, one: Tensor) -> Tensor:
        return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), both, one)

    found, other = dict(batch), signal.roll(1, 0)
    found["signal"] = among(signal + other if signal.is_complex() else torch.maximum(signal, other), signal)
    if (valid := batch.get("valid")) is not None:
        found["valid"] = among(valid & valid.roll(1, 0), valid)
    if (label := batch.get("label")) is not None:
        found["label"] = torch.cat([label, among(label.roll(1, 0), torch.full_like(label, torch.nan))], 1)
    return found
