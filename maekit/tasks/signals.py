"""The signals of a batch, each through its front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.core.joint import PRIMARY, SignalBatch

if TYPE_CHECKING:
    from torch import nn

    from maekit.tasks.task import Batch


def sampled(batch: Batch, front: nn.Module, fronts: nn.ModuleDict) -> dict[str, SignalBatch]:
    """Every signal of a batch, standardised: the sample's own first, then those beside it."""
    found = {}
    for name, standardised in {PRIMARY: front, **dict(fronts.items())}.items():
        of = f"{name}." if name else ""
        x, valid = standardised(batch[f"{of}signal"], batch.get(f"{of}valid"))
        found[name] = SignalBatch(x, valid, batch.get(f"{of}noise"))
    return found
