"""Which groups train, validate and test: a split, or folds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

from maekit.config.unions import LIST, MARK, NUMBER, TEXT, by_kind, choose

Name = Annotated[str, Field(min_length=1)]
STRICT = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)
"""No unknown keys, no change after reading; a name may be written as a number."""


class Split(BaseModel):
    """Which groups train, validate and test.

    Args:
        train: groups that train; `rest` takes every group that is not named elsewhere.
        validation: groups that validate.
        test: groups that test.
    """

    model_config = STRICT

    train: Annotated[
        Annotated[list[Name], Field(min_length=1), LIST] | Annotated[Literal["rest"], TEXT],
        by_kind("a list of groups, or 'rest'"),
    ] = "rest"
    validation: list[Name] = []
    test: list[Name] = []

    @model_validator(mode="after")
    def _nobody_twice(self) -> Self:
        sides = {"validation": self.validation, "test": self.test}
        if self.train != "rest":
            sides["train"] = self.train
        seen: dict[str, str] = {}
        for side, names in sides.items():
            for name in names:
                if name in seen:
                    twice = f"twice in {side}" if seen[name] == side else f"in both {seen[name]} and {side}"
                    raise ValueError(f"the group {name!r} is {twice}; a group belongs to one side only")
                seen[name] = side
        return self


class Folds(BaseModel):
    """Cross-validation by group: fold `fold` tests, `validation_groups` of the others validate, the rest train.

    Args:
        folds: their number, or `leave_one_out` for as many as groups.
        fold: the one that tests, from 0.
        validation_groups: how many of the other groups validate.
        exclude: groups that take no part.
        seed: of the order in which groups are dealt to folds.
    """

    model_config = STRICT

    folds: Annotated[
        Annotated[int, Field(ge=2), NUMBER] | Annotated[Literal["leave_one_out"], TEXT],
        by_kind("a whole number, or 'leave_one_out'"),
    ]
    fold: Annotated[int, Field(ge=0)] = 0
    validation_groups: Annotated[int, Field(ge=0)] = 1
    exclude: list[Name] = []
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        if self.folds != "leave_one_out" and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: folds are counted from 0 to {self.folds - 1}")
        return self


_SPLIT, _FOLDS = Tag(MARK + "split"), Tag(MARK + "folds")


def _split_or_folds(value: Any) -> Tag | None:
    if isinstance(value, (Split, Folds)):
        return _FOLDS if isinstance(value, Folds) else _SPLIT
    if not isinstance(value, dict):
        return None
    # `folds` decides, also beside keys of the other kind, which are then the unknown ones.
    only_folds = set(value) & set(Folds.model_fields) and not set(value) & set(Split.model_fields)
    return _FOLDS if "folds" in value or only_folds else _SPLIT


AnySplit = Annotated[
    Annotated[Split, _SPLIT] | Annotated[Folds, _FOLDS],
    choose(
        _split_or_folds,
        f"a mapping with keys among {', '.join(Split.model_fields)}, or among {', '.join(Folds.model_fields)}",
    ),
]
