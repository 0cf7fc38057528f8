"""Options of a recipe against the signature of what they are for: names, types, and where a mistake stands."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.recipe.load import LoadedRecipe
    from maekit.recipe.schema import Choice


def construct(
    kind: type, choice: Choice, loaded: LoadedRecipe, keys: tuple[str | int, ...], *given: Any, **known: Any
) -> Any:
    """`kind(*given, **known, **options)`, where the options are those of a recipe.

    Args:
        kind: an adapter, masking, target or task.
        choice: name and options.
        loaded: the recipe, for places.
        keys: where the choice stands in it.
        given, known: what the recipe does not say.

    Raises:
        UserError: an unknown option, a value of the wrong type, or what the constructor finds wrong.
    """
    parameters = _keywords(kind)
    options: dict[str, Any] = {}
    for name, value in choice.options.items():
        place = loaded.locate(*keys, name)
        if name not in parameters or name in known:
            mine = [p for p in parameters if p not in known]
            raise UserError(
                f"{choice.name} has no option {name}", place=place, value=value,
                expected="one of " + ", ".join(mine) if mine else "no options", mend=nearest(name, mine),
            )  # fmt: skip
        options[name] = _checked(parameters[name], value, f"{choice.name}.{name}", place)
    try:
        return kind(*given, **known, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{choice.name}: {error}", place=loaded.locate(*keys)) from error


def _keywords(kind: type) -> dict[str, Any]:
    """Keyword-only parameters of the constructor and of those it passes further ones on to, with their types."""
    found: dict[str, Any] = {}
    for cls in kind.__mro__:
        constructor: Callable[..., None] | None = cls.__dict__.get("__init__")
        if constructor is None or not hasattr(constructor, "__code__"):
            continue
        signature = inspect.signature(constructor)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                found.setdefault(parameter.name, _type(parameter.annotation, cls))
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return found


def _type(annotation: Any, cls: type) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, vars(sys.modules[cls.__module__]))  # the annotation of installed code, not of a recipe
    except NameError:  # imported for type checkers only
        return Any


def _checked(kind: Any, value: Any, name: str, place: str) -> Any:
    if kind is inspect.Parameter.empty:
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except PydanticUserError:
        return value
    except ValidationError as error:
        raise UserError(f"{name}: {error.errors()[0]['msg'].lower()}", place=place, value=value) from None
