"""Mean and standard deviation of each channel over the training split: the normalisation that a front is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce

from maekit.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, in the unit that `Front.transform` gives."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def channel_statistics(
    batches: Iterable[tuple[Float[Tensor, "batch channel *axes"], Bool[Tensor, "batch *axes"] | None, str]],
    names: Sequence[str],
) -> ChannelStatistics:
    """Statistics over the measured values of all batches.

    Args:
        batches: values, which of them were measured (None: all), and the location of the batch for messages.
        names: of the channels, for messages.

    Raises:
        UserError: no measured value at all, or a channel that never changes.
    """
    count, location = 0, ""
    total = squares = torch.zeros(())
    for values, measured, where in batches:
        location = location or where
        columns = rearrange(values.double(), "batch channel ... -> channel (batch ...)")
        if measured is not None:
            columns = columns[:, rearrange(measured, "batch ... -> (batch ...)")]
        count += columns.shape[1]
        total = total + reduce(columns, "channel value -> channel", "sum")
        squares = squares + reduce(columns**2, "channel value -> channel", "sum")
    if not count:
        raise UserError(
            "no measured value in the training split", location=location, hint="Check the split and `valid`."
        )
    mean = total / count
    variance = squares / count - mean**2
    constant = torch.where(variance <= 1e-12 * mean**2)[0].tolist()
    if constant:
        raise UserError(
            "a channel that never changes in the training split",
            location=location,
            value=", ".join(names[i] if i < len(names) else str(i) for i in constant),
            expected="values that vary",
            hint="Drop the channel from the data spec or look at the recording with `maekit data inspect`.",
        )
    return ChannelStatistics(tuple(mean.tolist()), tuple(variance.sqrt().tolist()))
