"""A recipe as YAML that loads again, with the origin of each value as a comment."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from maekit.config.yaml import parse_value
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.config.yaml import Keys

COMMENT_COLUMN = 55
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./*-]*")


def render(data: Mapping[str, Any], origins: Mapping[Keys, str] | None = None) -> str:
    """Nested mappings as YAML, one key a line.

    Args:
        data: what to write.
        origins: where values came from, by their keys; written as comments, `default` for those that are not listed.
    """
    lines: list[str] = []
    _append(data, (), origins, lines)
    return "\n".join(lines) + "\n"


def _append(data: Mapping[str, Any], keys: Keys, origins: Mapping[Keys, str] | None, lines: list[str]) -> None:
    indent = "  " * len(keys)
    for key, value in data.items():
        here = (*keys, key)
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{scalar(key)}:")
            _append(value, here, origins, lines)
            continue
        text = f"{indent}{scalar(key)}: {scalar(value)}"
        if origins is not None:
            text = f"{text:<{COMMENT_COLUMN}} # {_printable(origins.get(here, 'default'))}"
        lines.append(text)


def scalar(value: Any) -> str:
    """One value in flow style; words without quotes where they read back as the same words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(below)}" for key, below in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, str) and _WORD.fullmatch(value) and _reads_back(value):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _reads_back(word: str) -> bool:
    try:
        return bool(parse_value(word, "") == word)
    except UserError:  # `nan` is a word only in quotes
        return False


def _printable(text: str) -> str:
    """Replace characters that would end a line or a comment by escapes."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
