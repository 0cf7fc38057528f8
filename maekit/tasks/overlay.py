"""An augmentation of whole batches: one scene laid over another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection

    from maekit.tasks.task import Batch


def checked_share(overlay: float) -> float:
    """A share of samples.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= overlay <= 1:
        raise ValueError(f"overlay={overlay}, expected a share of samples, from 0 to 1")
    return overlay


def overlaid(batch: Batch, share: float, beside: Collection[str]) -> Batch:
    """Some samples of a batch with the one before them laid over.

    Each cell then has the larger of both values, and where there are tables of objects the sample has those of both. Right
    where a cell says how much there is, as powers on any rising scale do: echoes of two scenes add up, and decibels of a sum
    are nearly those of its larger part. What was not measured in one of the two is not measured.

    Args:
        batch: with `signal`, and where they are there `valid` and `label` (batch, object, column).
        share: of its samples, drawn by chance.
        beside: names of signals that are read beside the sample.

    Raises:
        UserError: there are such signals, which nothing is laid over.
    """
    if beside:
        raise UserError("an overlay changes the sample alone", value=f"overlay={share}, beside: {', '.join(beside)}",
                        expected="none where other signals are read beside it", mend="Set `task.overlay` to 0.")  # fmt: skip
    signal = batch["signal"]
    chosen = torch.rand(len(signal), device=signal.device) < share

    def among(both: Tensor, one: Tensor) -> Tensor:
        return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), both, one)

    found = dict(batch)
    found["signal"] = among(torch.maximum(signal, signal.roll(1, 0)), signal)
    if (valid := batch.get("valid")) is not None:
        found["valid"] = among(valid & valid.roll(1, 0), valid)
    if (label := batch.get("label")) is not None:
        found["label"] = torch.cat([label, among(label.roll(1, 0), torch.full_like(label, torch.nan))], 1)
    return found
