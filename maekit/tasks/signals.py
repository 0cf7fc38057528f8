"""The signals of a batch, each through its front end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.core.joint import PRIMARY, SignalBatch

if TYPE_CHECKING:
    from torch import nn

    from maekit.tasks.task import Batch


def sampled(batch: Batch, front: nn.Module, fronts: nn.ModuleDict) -> dict[str, SignalBatch]:
    """Every signal of a batch, standardised: the primary one first, then the auxiliary ones.

    Args:
        batch: prepared signals.
        front: the front end of the primary signal.
        fronts: those of the auxiliary signals, by name.
    """
    signals = {}
    for name, standardise in {PRIMARY: front, **dict(fronts.items())}.items():
        prefix = f"{name}." if name else ""
        x, valid = standardise(batch[f"{prefix}signal"], batch.get(f"{prefix}valid"))
        signals[name] = SignalBatch(x, valid, batch.get(f"{prefix}noise"))
    return signals
