"""Options of a recipe against the signature of what they are for: names, types, and where a mistake stands."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from maekit.config.merge import SET, override
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Choice


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
    parameters = {name: type_ for name, type_ in _keywords(kind).items() if name not in known}
    location = partial(loaded.locate, *keys)
    options = _all_checked(parameters, choice.options, choice.name, location)
    try:
        return kind(*given, **known, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{choice.name}: {error}", location=location()) from error


def called(function: Callable[..., Any], name: str, settings: Sequence[str], *given: Any, **known: Any) -> Any:
    """`function(*given, **known, **options)`, where the options are `KEY=VALUE` of a command line.

    Args:
        function: with keyword-only options.
        name: of the function, for a person.
        settings: as on the command line.
        given, known: what the command line has already.

    Raises:
        UserError: as `construct`.
    """
    options: dict[str, Any] = {}
    origins: dict[Any, str] = {}
    for setting in settings:
        override(options, origins, setting)
    signature = inspect.signature(function).parameters.values()
    scope = vars(sys.modules[function.__module__])
    parameters = {
        p.name: _type(p.annotation, scope) for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in known
    }
    checked = _all_checked(parameters, options, name, lambda *keys: origins[keys])
    try:
        return function(*given, **known, **checked)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}", location=" ".join(SET + setting for setting in settings)) from error


def _all_checked(
    parameters: Mapping[str, Any], options: Mapping[str, Any], of: str, location: Callable[..., str]
) -> dict[str, Any]:
    """The options, each of the type that the parameter of its name has."""
    found = {}
    for name, value in options.items():
        if name not in parameters:
            raise UserError(
                f"{of} has no option {name}",
                location=location(name),
                value=value,
                expected="one of " + ", ".join(parameters) if parameters else "no options",
                hint=nearest(name, parameters),
            )
        found[name] = _checked(parameters[name], value, f"{of}.{name}", location(name))
    return found


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
                found.setdefault(parameter.name, _type(parameter.annotation, vars(sys.modules[cls.__module__])))
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return found


def _type(annotation: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, scope)  # the annotation of installed code, not of a recipe
    except NameError:  # imported for type checkers only
        return Any


def _checked(kind: Any, value: Any, name: str, location: str) -> Any:
    if kind is inspect.Parameter.empty:
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except PydanticUserError:
        return value
    except ValidationError as error:
        problem = error.errors()[0]
        told = (
            "expected a list, such as [1, 2]"
            if problem.get("ctx", {}).get("class") == "Sequence"
            else problem["msg"].lower()
        )
        raise UserError(f"{name}: {told}", location=location, value=value) from None
