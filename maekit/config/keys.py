"""The keys that a pydantic model knows: all of them, and the model that stands at a path of keys."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag

from maekit.config.unions import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maekit.config.yaml import Keys

Model = type[BaseModel]
DEEPEST = 6
"""Levels of nested models that are searched for keys."""


class Owner(NamedTuple):
    """The model that a key belongs to.

    Attributes:
        model: the model; None below a plain mapping or list.
        alternatives: further models that the same place of the recipe may hold.
    """

    model: Model | None
    alternatives: tuple[Model, ...] = ()


def known_keys(model: Model | None) -> list[str]:
    """Keys of a model, as they are written in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def all_paths(model: Model, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of keys in a model; in a union, those of every member."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        if len(prefix) < DEEPEST:
            for member in _models(field.annotation):
                yield from all_paths(member, (*prefix, name))


def owner_of(model: Model, location: Keys) -> Owner:
    """The model that the last key of an error's location belongs to.

    Args:
        model: the root.
        location: keys and tags of union members, as pydantic gives them.
    """
    annotation: Any = model
    owner = Owner(model)
    for part in location[:-1]:
        if str(part).startswith(MARK):
            siblings = tuple(_models(annotation))
            annotation = _tagged(annotation, str(part))
            chosen = tuple(_models(annotation))
            owner = Owner(chosen[0] if chosen else None, tuple(m for m in siblings if m not in chosen))
            continue
        annotation = _child(annotation, part)
        models = tuple(_models(annotation))
        owner = Owner(models[0]) if len(models) == 1 else Owner(None)
    return owner


def without_tags(location: Keys) -> Keys:
    """The keys of an error's location, without the tags of union members."""
    return tuple(part for part in location if not str(part).startswith(MARK))


def _members(annotation: Any) -> Iterator[Any]:
    """Members of a union, or the annotation itself; without None, `Annotated` kept."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(inner) in (Union, types.UnionType):
        for member in get_args(inner):
            yield from _members(member)
    elif inner is not type(None):
        yield annotation


def _models(annotation: Any) -> Iterator[Model]:
    for member in _members(annotation):
        inner = get_args(member)[0] if get_origin(member) is Annotated else member
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield inner


def _tagged(annotation: Any, tag: str) -> Any:
    for member in _members(annotation):
        if any(isinstance(data, Tag) and data.tag == tag for data in getattr(member, "__metadata__", ())):
            return member
    return None


def _child(annotation: Any, part: str | int) -> Any:
    """The annotation of what stands at a key or an index."""
    for member in _members(annotation):
        inner = get_args(member)[0] if get_origin(member) is Annotated else member
        origin, arguments = get_origin(inner), get_args(inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(str(part))
            return field.annotation if field else None
        if origin is dict:
            return arguments[1]
        if origin is tuple and isinstance(part, int) and part < len(arguments):
            return arguments[part]
        if origin in (list, tuple):
            return arguments[0]
    return None
