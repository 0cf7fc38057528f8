"""From pydantic's findings to one message with every error, where it stands and what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from maekit.recipe.yaml import Keys

M = TypeVar("M", bound=BaseModel)

_UNIT = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ%/]+)\s*")


def validate(model: type[M], data: Any, locate: Callable[[Keys], str]) -> M:
    """`model` made from plain data.

    Args:
        model: a pydantic model.
        data: what was read.
        locate: from the path of keys to a place such as `file:line:column`.

    Raises:
        UserError: one message that lists every problem.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = _distinct(error.errors())
        single = [_explain(model, data, problem, locate) for problem in problems]
        if len(single) == 1:
            raise single[0] from None
        listing = "\n".join(f"  {problem}" for problem in single)
        raise UserError(f"{len(single)} things to mend:\n{listing}\n") from None


def _distinct(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """One error a place: of the branches of a union, the one that got furthest into the data."""
    kept: dict[Keys, ErrorDetails] = {}
    for error in errors:
        keys = _keys(error)
        rivals = [other for other in errors if other is not error and _keys(other)[: len(keys)] == keys]
        word = isinstance(error["input"], str)
        if error["type"] in ("string_type", "literal_error") and rivals and not word:
            continue  # a mapping was meant, and the branch for mappings says more
        if error["type"] == "model_type" and word and any(other["type"] == "literal_error" for other in rivals):
            continue  # a name was meant
        kept.setdefault(keys, error)
    return list(kept.values()) or errors[:1]


def _keys(error: ErrorDetails) -> Keys:
    """The path of keys without pydantic's names for the branches of a union."""
    return tuple(part for part in error["loc"] if isinstance(part, int) or not _is_branch(part))


def _is_branch(part: str) -> bool:
    return "[" in part or part[:1].isupper() or part in ("str", "int", "float", "list", "bool")


def _explain(model: type[BaseModel], data: Any, error: ErrorDetails, locate: Callable[[Keys], str]) -> UserError:
    keys = _keys(error)
    place = locate(keys)
    name = ".".join(map(str, keys))
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        known = _fields(model, keys[:-1])
        mend = nearest(str(keys[-1]), known) or f"Keys known here: {', '.join(known)}."
        return UserError(f"unknown key {name}", place=place, value=error["input"], mend=mend)
    if error["type"] == "missing":
        return UserError(f"{name} is missing", place=locate(keys[:-1]), mend=f"Add `{keys[-1]}: ...`.")
    if error["type"] == "literal_error":
        choices = [choice.strip("' ") for choice in re.split(r",| or ", context["expected"])]
        return UserError(
            f"{name} has no such choice", place=place, value=error["input"], expected=context["expected"],
            mend=nearest(str(error["input"]), choices),
        )  # fmt: skip
    if error["type"] == "value_error":
        return UserError(
            f"{name}: {context['error']}" if name else str(context["error"]), place=place, value=error["input"]
        )
    mend = ""
    if isinstance(error["input"], str) and (match := _UNIT.fullmatch(error["input"])):
        mend = f"Write the number alone ({match[1]}), in the unit that the key's name or its documentation gives."
    message = error["msg"][0].lower() + error["msg"][1:]
    return UserError(f"{name}: {message.removeprefix('input ')}", place=place, value=error["input"],
                     expected=_expected(error), mend=mend)  # fmt: skip


def _expected(error: ErrorDetails) -> str:
    kinds = {"float": "a number", "int": "a whole number", "bool": "true or false", "string": "text", "list": "a list",
             "tuple": "a list", "model": "a mapping of keys to values", "dict": "a mapping of keys to values"}  # fmt: skip
    return kinds.get(error["type"].split("_")[0], "")


def _fields(model: type[BaseModel], keys: Keys) -> list[str]:
    """The keys that are known at a path inside a model."""
    current: type[BaseModel] | None = model
    for key in keys:
        if current is None or isinstance(key, int):
            continue
        info = current.model_fields.get(key)
        current = _model_in(info.annotation) if info else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
