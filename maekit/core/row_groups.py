"""Leaving padding out of a computation: rows of a batch are cut to the tokens that they select, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST_SHARE, LEAST_TOKENS = 0.1, 128
"""Tokens are left out, and groups halved, where that saves at least this share of them, and a half so many: moving tokens and
smaller products cost time too."""

Computation: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""(tokens (row, picked, width), which of them a row selects (row, picked), None: all) -> as many tokens."""


class RowGroup(NamedTuple):
    """Rows of a batch that select about as many tokens.

    Attributes:
        where: (row, picked) position of each token among all of the batch: what a row selects, in order, then what fills it up.
        selected: (row, picked) False where a token only fills up its row; None where none does.
    """

    where: Int[Tensor, "row picked"]
    selected: Bool[Tensor, "row picked"] | None


def can_be_read(values: Tensor) -> bool:
    """Whether shapes may depend on values: not on a device, for which the host would wait, nor in a compiled graph."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def update_selected(
    tokens: Float[Tensor, "batch token width"], selected: Bool[Tensor, "batch token"], compute: Computation
) -> Float[Tensor, "batch token width"]:
    """Tokens after a computation in which only the selected ones of a row count; most others come back as they were.

    Nothing is left out where the mask cannot be read.

    Args:
        tokens: of every row.
        selected: True where a token counts.
        compute: must not let a row depend on another one, or on tokens that are not selected.
    """
    if not can_be_read(selected):
        return compute(tokens, selected)
    groups = row_groups(selected)
    if sum(group.where.numel() for group in groups) > (1 - LEAST_SHARE) * selected.numel():
        return compute(tokens, selected)
    flat = tokens.flatten(0, 1)
    updated = [
        compute(flat.index_select(0, group.where.flatten()).view(*group.where.shape, -1), group.selected)
        for group in groups
    ]
    where = torch.cat([group.where.flatten() for group in groups])
    return flat.index_copy(0, where, torch.cat([part.flatten(0, 1) for part in updated])).view_as(tokens)


def row_groups(selected: Bool[Tensor, "batch token"]) -> list[RowGroup]:
    """All rows in groups, each as long as its fullest row and no shorter than one token."""
    rows, length = selected.shape
    counts = selected.sum(dim=1)
    order = counts.argsort(stable=True)
    counted: list[int] = counts[order].tolist()
    first = (~selected).argsort(dim=1, stable=True)
    groups = []
    for begin, end in _spans(counted, 0, rows):
        chosen, longest = order[begin:end, None], max(1, counted[end - 1])
        ids = first[chosen[:, 0], :longest]
        mask = None if counted[begin] == longest else selected[chosen, ids]
        groups.append(RowGroup(chosen * length + ids, mask))
    return groups


def _spans(counts: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Where groups begin and end among rows sorted by their counts."""
    middle, longest = (begin + end) // 2, counts[end - 1]
    left_out = (middle - begin) * (longest - counts[max(middle - 1, begin)])
    if left_out < max(LEAST_TOKENS, LEAST_SHARE * (end - begin) * longest):
        return [(begin, end)]
    return _spans(counts, begin, middle) + _spans(counts, middle, end)
