"""Splits of samples into training, validation and test: they name groups, and no group is on two sides."""

from __future__ import annotations

import logging
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.split_spec import Folds, Split
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Indices = dict[str, "NDArray[np.int64]"]
"""Sample indices by side: `train`, `validation` and `test`."""

SIDES = ("train", "validation", "test")

SIDE_OF_GROUP = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The side of a group with one of these names, where a data set has no other groups and its spec states no split."""


def resolve_split(groups: NDArray[np.str_], split: Split | Folds | None, location: str) -> Indices:
    """Sample indices of `train`, `validation` and `test`.

    Without a split, groups that are all named like sides (`train`, `val`, ...) go where their names say, and any other
    groups are all for training.

    Args:
        groups: the group of each sample.
        split: names of groups, or folds.
        location: shown in error messages.

    Raises:
        UserError: a group is on two sides or does not exist, or no group is left for training.
    """
    present = sorted(set(groups.tolist()))
    if isinstance(split, Folds):
        names = _fold_groups(present, split, location)
    else:
        names = _named_groups(present, split or _split_by_name(present), location)
    for first, second in combinations(names, 2):
        both = sorted(set(names[first]) & set(names[second]))
        if both:
            raise UserError(
                f"a group stands in both {first} and {second}",
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
    """Number of folds."""
    return len(set(groups.tolist()) - set(folds.exclude)) if folds.folds == "leave_one_out" else folds.folds


def select_labelled(
    indices: NDArray[np.int64],
    groups: NDArray[np.str_],
    labels: NDArray[Any],
    *,
    labelled_groups: int | Sequence[str] | None,
    fraction: float,
    stratify: bool,
    seed: int,
    location: str,
) -> NDArray[np.int64]:
    """Select the training samples whose labels may be used.

    Args:
        indices: the training samples.
        groups: the group of every sample of the source.
        labels: the label of every sample of the source.
        labelled_groups: number of groups with labels (drawn by `seed`), or their names; None for all.
        fraction: share of the remaining samples, drawn by `seed`.
        stratify: draw the same share of each class.
        seed: of the draws.
        location: shown in error messages.

    Raises:
        UserError: more groups than there are, or an unknown group.
    """
    rng = np.random.default_rng((seed, 7))
    present = sorted(set(groups[indices].tolist()))
    if isinstance(labelled_groups, int):
        if labelled_groups > len(present):
            raise UserError(
                "more labelled groups than training groups",
                location=location,
                value=labelled_groups,
                expected=f"at most {len(present)}",
            )
        labelled_groups = [present[i] for i in rng.permutation(len(present))[:labelled_groups]]
    if labelled_groups is not None:
        _check_groups_exist(labelled_groups, present, "labelled_groups", location)
        indices = indices[np.isin(groups[indices], list(labelled_groups))]
    if fraction < 1:
        strata = labels[indices] if stratify else np.zeros(len(indices))
        parts = []
        for value in np.unique(strata):
            members = indices[strata == value]
            parts.append(rng.permutation(members)[: max(1, round(fraction * len(members)))])
        indices = np.sort(np.concatenate(parts))
    return indices


def _split_by_name(present: list[str]) -> Split:
    """By the names of the groups if all are named like sides and one is `train`; otherwise everything in training."""
    if "train" not in present or not set(present) <= set(SIDE_OF_GROUP):
        return Split()
    sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name in present:
        sides[SIDE_OF_GROUP[name]].append(name)
    return Split(train=sides["train"], validation=sides["validation"], test=sides["test"])


def _named_groups(present: list[str], split: Split, location: str) -> dict[str, list[str]]:
    held_out = {"validation": list(split.validation), "test": list(split.test)}
    for side, members in held_out.items():
        _check_groups_exist(members, present, side, location)
    if split.train == "rest":
        train = [name for name in present if name not in held_out["validation"] and name not in held_out["test"]]
    else:
        train = list(split.train)
        _check_groups_exist(train, present, "train", location)
    return {"train": train, **held_out}


def _fold_groups(present: list[str], folds: Folds, location: str) -> dict[str, list[str]]:
    for name in set(folds.exclude) - set(present):  # harmless, but perhaps a misspelling
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


def _check_groups_exist(names: Sequence[str], present: list[str], side: str, location: str) -> None:
    unknown = [name for name in names if name not in present]
    if unknown:
        raise UserError(
            f"{side} names a group that is not in the data",
            location=location,
            value=unknown[0],
            expected="one of " + ", ".join(present[:30]),
            hint=nearest(unknown[0], present),
        )
