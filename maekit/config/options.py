"""Options of plug-ins: checked against the signature of what they are passed to, with the location of a mistake."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from maekit.config.merge import SET, override
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Choice


def construct(
    kind: type, choice: Choice, loaded: LoadedRecipe, keys: tuple[str | int, ...], *arguments: Any, **keywords: Any
) -> Any:
    """Call `kind(*arguments, **keywords, **options)` with the options of a recipe.

    Args:
        kind: class of a plug-in.
        choice: its name and options.
        loaded: the recipe, for locations.
        keys: where the choice stands in it.
        arguments: positional arguments that do not come from the recipe.
        keywords: keyword arguments that do not come from the recipe; they are no options.

    Raises:
        UserError: an unknown option, a value of the wrong type, or what the constructor rejects.
    """
    parameters = {name: type_ for name, type_ in _keyword_parameters(kind).items() if name not in keywords}
    location = partial(loaded.locate, *keys)
    options = _check_options(parameters, choice.options, choice.name, location)
    try:
        return kind(*arguments, **keywords, **options)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{choice.name}: {error}", location=location()) from error


def call_with_settings(
    function: Callable[..., Any], name: str, settings: Sequence[str], *arguments: Any, **keywords: Any
) -> Any:
    """Call `function(*arguments, **keywords, **options)` with options that were given as `KEY=VALUE` on the command line.

    Args:
        function: has keyword-only options.
        name: of the function, for messages.
        settings: as typed.
        arguments: positional arguments that are no options.
        keywords: keyword arguments that are no options.

    Raises:
        UserError: as in `construct`.
    """
    options: dict[str, Any] = {}
    origins: dict[Any, str] = {}
    for setting in settings:
        override(options, origins, setting)
    signature = inspect.signature(function).parameters.values()
    scope = vars(sys.modules[function.__module__])
    parameters = {
        p.name: _resolve_annotation(p.annotation, scope)
        for p in signature
        if p.kind is p.KEYWORD_ONLY and p.name not in keywords
    }
    checked = _check_options(parameters, options, name, lambda *keys: origins[keys])
    try:
        return function(*arguments, **keywords, **checked)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{name}: {error}", location=" ".join(SET + setting for setting in settings)) from error


def unknown_option(owner: str, name: str, value: Any, names: Iterable[str], location: str) -> UserError:
    """The error for an option that a plug-in or function does not have; `names` are those that it has."""
    names = list(names)
    return UserError(
        f"{owner} has no option {name}",
        location=location,
        value=value,
        expected="one of " + ", ".join(names) if names else "no options",
        hint=nearest(name, names),
    )


def _check_options(
    parameters: Mapping[str, Any], options: Mapping[str, Any], owner: str, locate: Callable[..., str]
) -> dict[str, Any]:
    """Validate each option against the type of the parameter of its name."""
    checked = {}
    for name, value in options.items():
        if name not in parameters:
            raise unknown_option(owner, name, value, parameters, locate(name))
        checked[name] = _check_type(parameters[name], value, f"{owner}.{name}", locate(name))
    return checked


def _keyword_parameters(kind: type) -> dict[str, Any]:
    """Keyword-only parameters, with their types, of a constructor and of those that it passes `**options` on to."""
    parameters: dict[str, Any] = {}
    for cls in kind.__mro__:
        constructor: Callable[..., None] | None = cls.__dict__.get("__init__")
        if constructor is None or not hasattr(constructor, "__code__"):
            continue
        signature = inspect.signature(constructor)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                type_ = _resolve_annotation(parameter.annotation, vars(sys.modules[cls.__module__]))
                parameters.setdefault(parameter.name, type_)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return parameters


def _resolve_annotation(annotation: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, scope)  # the annotation of installed code, not of a recipe
    except NameError:  # imported for type checkers only
        return Any


def _check_type(type_: Any, value: Any, name: str, location: str) -> Any:
    if type_ is inspect.Parameter.empty:
        return value
    try:
        return TypeAdapter(type_).validate_python(value)
    except PydanticUserError:  # a type that pydantic cannot check
        return value
    except ValidationError as error:
        details = error.errors()[0]
        is_sequence = details.get("ctx", {}).get("class") == "Sequence"
        problem = "expected a list, such as [1, 2]" if is_sequence else details["msg"].lower()
        raise UserError(f"{name}: {problem}", location=location, value=value) from None
