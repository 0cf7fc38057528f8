"""Splits name groups, never rows, and no group stands on two sides."""

from __future__ import annotations

import logging
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import Folds, Split
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Indices = dict[str, "NDArray[np.int64]"]


def resolve(groups: NDArray[np.str_], split: Split | Folds | None, location: str) -> Indices:
    """Sample indices of `train`, `validation` and `test`.

    Args:
        groups: the group of each sample.
        split: names of groups, or folds; None puts everything into training.
        location: for messages.

    Raises:
        UserError: a group on two sides, one that does not exist, or nothing to train on.
    """
    present = sorted(set(groups.tolist()))
    names = (
        _folds(present, split, location) if isinstance(split, Folds) else _named(present, split or Split(), location)
    )
    for one, other in combinations(names, 2):
        both = sorted(set(names[one]) & set(names[other]))
        if both:
            raise UserError(
                f"a group stands in both {one} and {other}",
                location=location,
                value=both[0],
                expected="every group on one side",
                hint="Remove it from one of the two.",
            )
    if not names["train"]:
        raise UserError(
            "no group is left for training", location=location, value=split, hint=f"Groups: {', '.join(present)}."
        )
    return {side: np.flatnonzero(np.isin(groups, members)) for side, members in names.items()}


def fold_count(groups: NDArray[np.str_], folds: Folds) -> int:
    """How many folds there are."""
    return len(set(groups.tolist()) - set(folds.exclude)) if folds.folds == "leave_one_out" else folds.folds


def labelled(
    indices: NDArray[np.int64],
    groups: NDArray[np.str_],
    labels: NDArray[Any],
    *,
    wanted: int | Sequence[str] | None,
    fraction: float,
    classes: bool,
    seed: int,
    location: str,
) -> NDArray[np.int64]:
    """The training samples whose labels may be used.

    Args:
        indices: the training samples.
        wanted: groups with labels: how many (drawn by `seed`), or which; None for all.
        fraction: share of the remaining samples, drawn by `seed`, of each class alike where there are `classes`.

    Raises:
        UserError: more groups than there are, or nothing left.
    """
    rng = np.random.default_rng((seed, 7))
    present = sorted(set(groups[indices].tolist()))
    if isinstance(wanted, int):
        if wanted > len(present):
            raise UserError(
                "more labelled groups than training groups",
                location=location,
                value=wanted,
                expected=f"at most {len(present)}",
            )
        wanted = [present[i] for i in rng.permutation(len(present))[:wanted]]
    if wanted is not None:
        _check_known(wanted, present, "labelled_groups", location)
        indices = indices[np.isin(groups[indices], list(wanted))]
    if fraction < 1:
        strata = labels[indices] if classes else np.zeros(len(indices))
        parts = []
        for value in np.unique(strata):
            members = indices[strata == value]
            parts.append(rng.permutation(members)[: max(1, round(fraction * len(members)))])
        indices = np.sort(np.concatenate(parts))
    return indices


def _named(present: list[str], split: Split, location: str) -> dict[str, list[str]]:
    held = {"validation": list(split.validation), "test": list(split.test)}
    for side, members in held.items():
        _check_known(members, present, side, location)
    if split.train == "rest":
        train = [name for name in present if name not in held["validation"] and name not in held["test"]]
    else:
        train = list(split.train)
        _check_known(train, present, "train", location)
    return {"train": train, **held}


def _folds(present: list[str], folds: Folds, location: str) -> dict[str, list[str]]:
    for name in set(folds.exclude) - set(present):  # it takes no part, as was asked; but was it meant?
        logger.info("%s: excluded group %r is not in the data. %s", location, name, nearest(name, present))
    order = [name for name in present if name not in folds.exclude]
    if folds.folds != "leave_one_out":
        order = [order[i] for i in np.random.default_rng(folds.seed).permutation(len(order))]
    count = len(order) if folds.folds == "leave_one_out" else folds.folds
    if count > len(order) or folds.fold >= count:
        raise UserError(
            "no such fold",
            location=location,
            value=f"fold {folds.fold} of {count}",
            expected=f"folds over {len(order)} groups, counted from 0",
        )
    test = order[folds.fold :: count]
    rest = [name for name in order if name not in test]
    start = folds.fold % max(1, len(rest))
    rotated = rest[start:] + rest[:start]
    validation = rotated[: folds.validation_groups]
    return {"train": rotated[folds.validation_groups :], "validation": validation, "test": test}


def _check_known(names: Sequence[str], present: list[str], side: str, location: str) -> None:
    unknown = [name for name in names if name not in present]
    if unknown:
        raise UserError(
            f"{side} names a group that is not in the data",
            location=location,
            value=unknown[0],
            expected="one of " + ", ".join(present[:30]),
            hint=nearest(unknown[0], present),
        )
