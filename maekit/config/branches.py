"""Which alternative of a union a person meant, so that they hear only of that one's errors.

Pydantic reports the errors of every alternative that failed, and puts the alternative's label into the path of
keys. Walking the path along the model's annotations tells labels from keys; the shape of the data tells what was meant.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from maekit.config.units import has_unit

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from maekit.config.yaml import Keys


class _Choice(NamedTuple):
    """One alternative of the union at the first `depth` keys."""

    depth: int
    label: str
    alternative: Any
    alternatives: tuple[Any, ...]


@dataclass(frozen=True)
class Problem:
    """An error of pydantic's, at the keys as they stand in the file.

    Attributes:
        keys: path without labels.
        error: as pydantic gives it.
        owner: model that holds the last key, if one does.
        child: what the annotation says should stand there.
        choices: alternatives taken on the way.
        instead: where no alternative is near, what all of them would have been.
    """

    keys: Keys
    error: ErrorDetails
    owner: Any
    child: Any
    choices: tuple[_Choice, ...] = ()
    instead: str = ""


def settle(model: type[BaseModel], data: Any, errors: list[ErrorDetails]) -> list[Problem]:
    """Errors of the alternatives that were meant, each place once, in the order found."""
    problems = _settle([_walk(model, error) for error in errors], data, 0)
    kept: dict[tuple[Keys, str], Problem] = {}
    for problem in problems:
        kept.setdefault((problem.keys, problem.error["type"]), problem)
    return list(kept.values())


def known_keys(annotation: Any) -> list[str]:
    """Keys of a model; none for anything else."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.alias or name for name, field in annotation.model_fields.items()]
    return []


def all_paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of keys in a model, those of all alternatives."""
    for name, field in model.model_fields.items():
        yield (*above, name)
        for alternative in _alternatives(field.annotation):
            if isinstance(alternative, type) and issubclass(alternative, BaseModel) and len(above) < 6:
                yield from all_paths(alternative, (*above, name))


def paths_of(model: type[BaseModel], key: str) -> Iterator[tuple[str, ...]]:
    """Every path in a model that ends in this key, below another."""
    return (path for path in all_paths(model) if path[-1] == key and len(path) > 1)


def _walk(model: type[BaseModel], error: ErrorDetails) -> Problem:
    current: Any = model
    owner: Any = None
    keys: Keys = ()
    choices: tuple[_Choice, ...] = ()
    for part in error["loc"]:
        alternatives = _alternatives(current)
        if len(alternatives) > 1:
            current = next((a for a in alternatives if _label_fits(str(part), a)), alternatives[-1])
            choices = (*choices, _Choice(len(keys), str(part), current, alternatives))
            continue
        owner = alternatives[0] if alternatives else None
        current = _below(owner, part)
        keys = (*keys, part)
    rest = _alternatives(current)
    return Problem(keys, error, owner, rest[0] if len(rest) == 1 else None, choices)


def _settle(problems: list[Problem], data: Any, level: int) -> list[Problem]:
    """At every union met as the `level`-th on the way, keep one alternative's problems."""
    if all(len(problem.choices) <= level for problem in problems):
        return problems
    kept: list[Problem] = []
    done: set[Keys] = set()
    for problem in problems:
        if len(problem.choices) <= level:
            kept.append(problem)
            continue
        at = problem.keys[: problem.choices[level].depth]
        if at in done:
            continue
        done.add(at)
        rivals = [p for p in problems if len(p.choices) > level and p.keys[: p.choices[level].depth] == at]
        value = _value(data, at)
        scores = {p.choices[level].label: _fit(p.choices[level].alternative, value) for p in rivals}
        best = max(scores, key=lambda label: scores[label])
        if scores[best] > 0:
            kept += _settle([p for p in rivals if p.choices[level].label == best], data, level + 1)
            continue
        possible = " or ".join(described(a) for a in problem.choices[level].alternatives)
        kept.append(Problem(at, {**problem.error, "input": value}, None, None, instead=possible))
    return kept


def _fit(alternative: Any, value: Any) -> float:
    """How well the shape of a value fits an alternative: 0 not at all; for a mapping, more for each key it knows."""
    kind = _kind(alternative)
    if isinstance(value, dict) and kind == "mapping":
        known = known_keys(alternative)
        return 1 + sum(key in known for key in value) - 0.01 * len(set(known) - set(value))
    if isinstance(value, list):
        return float(kind == "list")
    if isinstance(value, str):
        return float(kind == "number") if has_unit(value) else float(kind == "word")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(kind == "number")
    return 0.0


def _kind(alternative: Any) -> str:
    origin = get_origin(alternative) or alternative
    if origin in (list, tuple, set):
        return "list"
    if origin is Literal or origin is str:
        return "word"
    if origin in (int, float):
        return "number"
    return "mapping" if origin is dict or (isinstance(origin, type) and issubclass(origin, BaseModel)) else "other"


def described(alternative: Any) -> str:
    """What an alternative wants, for a person."""
    if get_origin(alternative) is Literal:
        return " or ".join(map(repr, get_args(alternative)))
    if isinstance(alternative, type) and issubclass(alternative, BaseModel):
        if alternative.model_config.get("extra") == "allow":
            return "a name, or a mapping with `name` and options"
        return f"a mapping with keys among {', '.join(known_keys(alternative))}"
    names = {"list": "a list", "word": "text", "mapping": "a mapping of keys to values"}
    return names.get(_kind(alternative), "a whole number" if alternative is int else "a number")


def _label_fits(label: str, alternative: Any) -> bool:
    if isinstance(alternative, type) and issubclass(alternative, BaseModel):
        # A model with a validator of its own is labelled `function-after[_validator(), Name]`.
        return re.fullmatch(rf"(.*\W)?{alternative.__name__}\]*", label) is not None
    starts = {
        "list": ("list", "tuple", "set"),
        "mapping": ("dict",),
        "number": ("int", "float", "constrained-int", "constrained-float"),
    }
    kind = _kind(alternative)
    if kind == "word":
        return label.startswith(("literal", "str", "constrained-str"))
    return label.removeprefix("function-").startswith(starts.get(kind, ("?",)))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Members of a union without None, each without its constraints; one for what is no union."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        members = (_alternatives(member) for member in get_args(annotation) if member is not type(None))
        return tuple(member for inner in members for member in inner)
    return (annotation,)


def _below(annotation: Any, part: str | int) -> Any:
    """The annotation of what stands at one key or index inside another."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    args = get_args(annotation)
    if get_origin(annotation) is dict and len(args) == 2:
        return args[1]
    if get_origin(annotation) is tuple and isinstance(part, int) and part < len(args):
        return args[part]
    return args[0] if args else None


def _value(data: Any, keys: Keys) -> Any:
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data
