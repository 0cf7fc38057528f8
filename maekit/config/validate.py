"""Plain data to pydantic models; all errors in one message, each with its place in the file and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from maekit.config import unions
from maekit.config.keys import all_paths, known_keys, owner_of, without_tags
from maekit.config.units import advice_on_key, advice_on_value
from maekit.errors import RENAMED, UserError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from maekit.config.keys import Owner
    from maekit.config.yaml import Keys

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
}
"""What the errors of pydantic whose type begins with this word expected."""
MOST_PLACES = 3
"""A hint names so many places at most where an unknown key would be right."""


def validate(model: type[M], data: Any, locate: Callable[[Keys], str]) -> M:
    """Make a model from plain data.

    Args:
        model: a pydantic model.
        data: as read from YAML.
        locate: maps a path of keys to its location, such as `file:line:column`.

    Raises:
        UserError: one message that lists every error.
    """
    try:
        instance = model.model_validate(data)
    except ValidationError as error:
        errors = [_explain(model, details, locate) for details in error.errors()]
    else:
        errors = list(_accepted_by_mistake(data, instance, (), locate))
        if not errors:
            return instance
    if len(errors) == 1:
        raise errors[0]
    raise UserError(f"{len(errors)} errors", hint="".join(f"\n  {error}" for error in errors))


def _accepted_by_mistake(data: Any, value: Any, keys: Keys, locate: Callable[[Keys], str]) -> Iterator[UserError]:
    """Errors that pydantic does not see: `true` for a number (it counts as 1), and NUL, which no path or HDF5 name may hold."""
    if isinstance(data, bool) and isinstance(value, (int, float)) and not isinstance(value, bool):
        yield UserError(
            f"{_dotted(keys)} is a number", location=locate(keys), value=data, expected="a number, not true or false"
        )
    elif isinstance(data, str) and "\0" in data:
        yield UserError(
            f"{_dotted(keys)} holds a NUL character", location=locate(keys), value=data, expected="text without it"
        )
    elif isinstance(data, dict):
        for key, below in data.items():
            yield from _accepted_by_mistake(key, key, keys, locate)
            child = value.get(key) if isinstance(value, dict) else getattr(value, str(key), None)
            yield from _accepted_by_mistake(below, child, (*keys, key), locate)
    elif isinstance(data, list):
        for i, below in enumerate(data):
            child = value[i] if isinstance(value, (list, tuple)) and i < len(value) else None
            yield from _accepted_by_mistake(below, child, (*keys, i), locate)


def _explain(model: type[BaseModel], error: ErrorDetails, locate: Callable[[Keys], str]) -> UserError:
    """One error of pydantic's in words."""
    keys = without_tags(error["loc"])
    location, name, value = locate(keys), _dotted(keys), error["input"]
    last = str(keys[-1]) if keys else ""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            hint = _hint_for_unknown_key(model, owner_of(model, error["loc"]), last, value)
            return UserError(f"unknown key {name}", location=location, value=value, hint=hint)
        case "missing":
            return UserError(f"{name} is missing", location=locate(keys[:-1]), hint=f"Add `{last}: ...`.")
        case "literal_error":
            choices = [choice.strip("' ") for choice in re.split(r",| or ", context["expected"])]
            problem, expected = f"{name} has no such choice", context["expected"]
            hint = nearest(str(value), choices)
            return UserError(problem, location=location, value=value, expected=expected, hint=hint)
        case "value_error":
            text = str(context["error"])
            return UserError(f"{name}: {text}" if name else text, location=location, value=value)
        case unions.NO_MEMBER:
            hint, expected = advice_on_value(last, value), error["msg"]
            return UserError(f"{name} cannot be this", location=location, value=value, expected=expected, hint=hint)
        case "model_type" | "model_attributes_type":
            return _not_a_mapping(name, value, location, known_keys(owner_of(model, (*error["loc"], "")).model))
    message = (error["msg"][0].lower() + error["msg"][1:]).removeprefix("input ")
    message = message.replace("tuple", "list").replace(" after validation", "")
    expected = _KINDS.get(error["type"].split("_")[0], "")
    hint = advice_on_value(last, value)
    return UserError(f"{name}: {message}", location=location, value=value, expected=expected, hint=hint)


def _not_a_mapping(name: str, value: Any, location: str, keys: list[str]) -> UserError:
    expected = f"a mapping with keys among {', '.join(keys)}"
    if keys == ["name"]:  # a plug-in: its options are not known here
        expected = "a name, or a mapping with `name` and options"
    hint = "Write its keys below it, or leave it out." if value is None else ""
    return UserError(
        f"{name or 'the file'} holds keys of its own", location=location, value=value, expected=expected, hint=hint
    )


def _hint_for_unknown_key(model: type[BaseModel], owner: Owner, key: str, value: Any) -> str:
    known = known_keys(owner.model)
    for alternative in owner.alternatives:
        if key in known_keys(alternative):
            return f"{', '.join(known_keys(alternative))} do not go together with {', '.join(known)}; keep one kind."
    return (
        advice_on_key(key, value, known)
        or nearest(key, known)
        or _elsewhere(model, key)
        or f"Keys known here: {', '.join(known)}."
    )


def _elsewhere(model: type[BaseModel], key: str) -> str:
    """A hint at the sections that do have this key."""
    current = RENAMED.get(key, key)
    paths = [".".join(path) for path in dict.fromkeys(all_paths(model)) if path[-1] == current and len(path) > 1]
    return f"Did you mean {' or '.join(map(repr, paths))}?" if 0 < len(paths) <= MOST_PLACES else ""


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))
