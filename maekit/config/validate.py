"""From pydantic's findings to one message with every error, where it stands and what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from maekit.config.branches import Problem, described, known_keys, paths_of, settle
from maekit.config.units import advice_on_key, advice_on_value
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.yaml import Keys

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "model": "a mapping of keys to values",
    "dict": "a mapping of keys to values",
}


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
        made = model.model_validate(data)
    except ValidationError as error:
        found = [_explain(model, problem, locate) for problem in settle(model, data, error.errors())]
    else:
        found = [
            UserError(problem, location=locate(keys), value=value, expected=expected)
            for keys, value, problem, expected in _slips(data, made, ())
        ]
        if not found:
            return made
    if len(found) == 1:
        raise found[0]
    raise UserError(f"{len(found)} things to mend", hint="".join(f"\n  {problem}" for problem in found))


def _slips(data: Any, made: Any, keys: Keys) -> Iterator[tuple[Keys, Any, str, str]]:
    """What pydantic lets pass: True, which counts as 1 for it, and NUL, which no path or HDF5 name can hold."""
    if isinstance(data, bool) and isinstance(made, (int, float)) and not isinstance(made, bool):
        yield keys, data, f"{_dotted(keys)} is a number", "a number, not true or false"
    elif isinstance(data, str) and "\0" in data:
        yield keys, data, f"{_dotted(keys)} holds a NUL character", "text without it"
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _slips(key, key, keys)
            below = made.get(key) if isinstance(made, dict) else getattr(made, str(key), None)
            yield from _slips(value, below, (*keys, key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            below = made[i] if isinstance(made, (list, tuple)) and i < len(made) else None
            yield from _slips(value, below, (*keys, i))


def _explain(model: type[BaseModel], problem: Problem, locate: Callable[[Keys], str]) -> UserError:
    keys, error, value = problem.keys, problem.error, problem.error["input"]
    location, name, context = locate(keys), _dotted(keys), error.get("ctx", {})
    last = str(keys[-1]) if keys else ""
    if problem.instead:
        return UserError(
            f"{name} cannot be this",
            location=location,
            value=value,
            expected=problem.instead,
            hint=advice_on_value(last, value),
        )
    if error["type"] == "extra_forbidden":
        known = known_keys(problem.owner)
        hint = (
            _other_form(problem)
            or advice_on_key(last, value, known)
            or nearest(last.lower(), known)
            or _elsewhere(model, last)
        )
        return UserError(
            f"unknown key {name}", location=location, value=value, hint=hint or f"Keys known here: {', '.join(known)}."
        )
    if error["type"] == "missing":
        return UserError(f"{name} is missing", location=locate(keys[:-1]), hint=f"Add `{last}: ...`.")
    if error["type"] == "literal_error":
        choices = [choice.strip("' ") for choice in re.split(r",| or ", context["expected"])]
        return UserError(
            f"{name} has no such choice",
            location=location,
            value=value,
            expected=context["expected"],
            hint=nearest(str(value).lower(), choices),
        )
    if error["type"] == "value_error":
        text = str(context["error"])
        return UserError(f"{name}: {text}" if name else text, location=location, value=value)
    kind = error["type"].split("_")[0]
    if kind in ("model", "dict"):
        holds = described(problem.child) if known_keys(problem.child) else _KINDS[kind]
        hint = "Write its keys below it, or leave it out." if value is None else ""
        return UserError(
            f"{name or 'the file'} holds keys of its own", location=location, value=value, expected=holds, hint=hint
        )
    message = error["msg"][0].lower() + error["msg"][1:]
    message = message.removeprefix("input ").replace("tuple", "list").replace(" after validation", "")
    return UserError(
        f"{name}: {message}",
        location=location,
        value=value,
        expected=_KINDS.get(kind, ""),
        hint=advice_on_value(last, value),
    )


def _other_form(problem: Problem) -> str:
    """For a key of the alternative that was not chosen."""
    *_, choice = (None, *problem.choices)
    if choice is None or choice.depth != len(problem.keys) - 1:
        return ""
    last = str(problem.keys[-1])
    other = next((known_keys(a) for a in choice.alternatives if last in known_keys(a)), [])
    mine = ", ".join(known_keys(problem.owner))
    return f"{', '.join(other)} do not go together with {mine}; keep one kind." if other else ""


def _elsewhere(model: type[BaseModel], key: str) -> str:
    """Where a key that does not belong here does."""
    paths = [".".join(path) for path in paths_of(model, key)]
    return f"Did you mean {' or '.join(repr(path) for path in paths)}?" if 0 < len(paths) <= 3 else ""


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))
