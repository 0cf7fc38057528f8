"""The signals of a batch, each through its front end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.core.joint import PRIMARY, SignalBatch
from maekit.tasks.mix import overlaid

if TYPE_CHECKING:
    from torch import nn

    from maekit.tasks.task import Batch


def standardised(batch: Batch, front: nn.Module, fronts: nn.ModuleDict, *, mix: float = 0.0) -> Batch:
    """The batch with each signal's standardised `x`, and `measured` of its patches, in place of `signal` and `valid`.

    A batch that has `x` already is given back as it is.

    Args:
        batch: prepared signals.
        front: the front end of the primary signal.
        fronts: those of the auxiliary signals, by name.
        mix: share of the samples that another of the batch is laid over first.
    """
    if "signal" not in batch:
        return batch
    found = overlaid(batch, mix) if mix else dict(batch)
    for name, standardise in {PRIMARY: front, **dict(fronts.items())}.items():
        prefix = f"{name}." if name else ""
        x, measured = standardise(found.pop(f"{prefix}signal"), found.pop(f"{prefix}valid", None))
        found[f"{prefix}x"] = x
        if measured is not None:
            found[f"{prefix}measured"] = measured
    return found


def sampled(batch: Batch, fronts: nn.ModuleDict) -> dict[str, SignalBatch]:
    """Every signal of a standardised batch: the primary one first, then the auxiliary ones.

    Args:
        batch: as `standardised` gives it.
        fronts: front ends of the auxiliary signals, by name.
    """
    signals = {}
    for name in (PRIMARY, *fronts):
        prefix = f"{name}." if name else ""
        signals[name] = SignalBatch(batch[f"{prefix}x"], batch.get(f"{prefix}measured"), batch.get(f"{prefix}noise"))
    return signals
