"""Unions in recipes and data specs: the kind of a YAML value decides which member validates it.

A member is marked with the kind of value that it takes, and the union with a discriminator:
`Annotated[Annotated[Preset, TEXT] | Annotated[Size, MAPPING], by_kind("a preset, or a mapping")]`. Pydantic then reports the errors
of one member only, and `expected` where no member takes a value of that kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Discriminator, Tag

from maekit.config.units import has_unit

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "\0"
"""First character of every tag, which tells tags from keys in the location of an error; no key of a recipe may hold it."""
NO_MEMBER = "no_member"
"""Type of the error for a value that no member of a union takes; its message is what the union takes."""

NUMBER, TEXT, LIST, MAPPING = (Tag(MARK + kind) for kind in ("number", "text", "list", "mapping"))


def choose(tag_of: Callable[[Any], Tag | None], expected: str) -> Discriminator:
    """A discriminator that asks `tag_of` for the member; `expected` describes what the whole union takes."""

    def name_of(value: Any) -> str | None:
        tag = tag_of(value)
        return tag.tag if tag else None

    return Discriminator(name_of, custom_error_type=NO_MEMBER, custom_error_message=expected)


def by_kind(expected: str, *, units: bool = False) -> Discriminator:
    """A discriminator between members that take different kinds of YAML values.

    Args:
        expected: what the whole union takes, for the message.
        units: whether `50 Hz` counts as a number, so that the error explains how to write it.
    """
    return choose(lambda value: NUMBER if units and has_unit(value) else _kind(value), expected)


def _kind(value: Any) -> Tag | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if isinstance(value, (list, tuple)):
        return LIST
    return MAPPING if isinstance(value, (dict, BaseModel)) else None
