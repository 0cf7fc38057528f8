"""The keys of data specs with type, default and meaning, from the pydantic models and their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from maekit.config import conversion, data_spec, split_spec
from maekit.errors import UserError, nearest

_MODELS = {
    name: model
    for module in (data_spec, split_spec, conversion)
    for name, model in vars(module).items()
    if inspect.isclass(model) and issubclass(model, BaseModel) and model is not BaseModel
}
_REFERENCE = "#/$defs/"
_MAX_CHOICES = 12


class Key(NamedTuple):
    """One key of a data spec.

    Attributes:
        path: where it stands, such as `convert.streams.NAME.rate_hz`; names that a person chooses are in capitals.
        type: what its value is.
        default: as it is written in YAML; empty for a key that must be given.
        meaning: one or several sentences.
    """

    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.path}  ({self.type}; {f'default {self.default}' if self.default else 'required'})  {self.meaning}"
        )

    path: str
    type: str
    default: str
    meaning: str


def spec_schema() -> dict[str, Any]:
    """JSON Schema of a data spec, for editors, with the meaning of each key."""
    schema: dict[str, Any] = data_spec.DataSpec.model_json_schema()
    for name, definition in {"DataSpec": schema, **schema["$defs"]}.items():
        model = _MODELS.get(name)
        meanings = _documented_arguments(model) if model else {}
        for key, entry in definition.get("properties", {}).items():
            if key in meanings:
                entry["description"] = meanings[key]
        if "description" in definition:
            definition["description"] = str(definition["description"]).partition("\n\nArgs:")[0]
    return schema


def spec_keys(section: str = "") -> list[Key]:
    """The keys that a data spec may have, in the order of the models.

    Args:
        section: only this key and those below it, such as `convert.table`.

    Raises:
        UserError: there is no such key.
    """
    schema = spec_schema()
    keys = list(_keys(schema, schema["$defs"], ""))
    shown = [key for key in keys if not section or key.path == section or key.path.startswith(f"{section}.")]
    if not shown:
        paths = [key.path for key in keys]
        raise UserError(
            "no such key of a data spec",
            location="data schema",
            value=section,
            expected="a key such as convert or convert.streams.NAME",
            hint=nearest(section, paths),
        )
    return shown


def _keys(definition: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[Key]:
    required = definition.get("required", [])
    for name, entry in definition.get("properties", {}).items():
        default = "" if name in required else _yaml(entry.get("default"))
        yield Key(prefix + name, _type(entry, definitions), default, str(entry.get("description", "")))
        for place, member in _members(entry, definitions):
            yield from _keys(member, definitions, f"{prefix}{name}{place}.")


def _members(entry: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mappings that a value may be or hold, with what stands between its key and theirs."""
    if "$ref" in entry:
        member = definitions[entry["$ref"].removeprefix(_REFERENCE)]
        if "properties" in member:
            yield "", member
        else:
            yield from _members(member, definitions)
    for option in (*entry.get("anyOf", ()), *entry.get("oneOf", ())):
        yield from _members(option, definitions)
    if isinstance(entry.get("items"), dict):
        yield from (("[]" + place, member) for place, member in _members(entry["items"], definitions))
    for values in (entry.get("additionalProperties"), *entry.get("patternProperties", {}).values()):
        if isinstance(values, dict):
            yield from ((".NAME" + place, member) for place, member in _members(values, definitions))


def _type(entry: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in entry:
        member = definitions[entry["$ref"].removeprefix(_REFERENCE)]
        return "mapping" if "properties" in member else _type(member, definitions)
    if options := entry.get("anyOf") or entry.get("oneOf"):
        names = dict.fromkeys(_type(option, definitions) for option in options if option.get("type") != "null")
        return " or ".join(names)
    if "enum" in entry or "const" in entry:
        choices = [str(choice) for choice in entry.get("enum", [entry.get("const")])]
        return ", ".join(choices[:_MAX_CHOICES]) + (" ..." if len(choices) > _MAX_CHOICES else "")
    kind = entry.get("type")
    if kind == "array":
        return f"list of {_type(entry.get('items') or {}, definitions)}"
    if kind == "object":
        values = entry.get("additionalProperties") or next(iter(entry.get("patternProperties", {}).values()), None)
        return f"mapping of names to {_type(values, definitions)}" if isinstance(values, dict) and values else "mapping"
    number = {"integer": "whole number", "number": "number"}.get(str(kind))
    if number is None:
        return {"string": "text", "boolean": "true or false"}.get(str(kind), "value")
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return " ".join([number, *(f"{word} {entry[key]:g}" for key, word in limits.items() if key in entry)])


def _yaml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or '""'


def _documented_arguments(model: type) -> dict[str, str]:
    """The meanings of a model's keys, from the section `Args` of its docstring and of those that it extends."""
    meanings: dict[str, str] = {}
    text = inspect.cleandoc(model.__doc__ or "")
    section = text.partition("Args:\n")[2]
    for match in re.finditer(r"^    (\w+): (.*(?:\n {6,}.*|\n(?=\n {6}))*)", section, re.MULTILINE):
        meanings[match[1]] = " ".join(match[2].split())
    return meanings
