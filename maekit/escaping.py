"""Text from files and from users (names, keys, labels) as it may be shown."""

from __future__ import annotations

import re
import unicodedata

_UNUSUAL = re.compile(r"[^\x20-\x7e]")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str, *, keep: str = "") -> str:
    r"""Escape characters that act on a terminal or cannot be seen, e.g. as `\x1b` or `\u202e`.

    These are control characters (also line breaks), marks that change the direction of text, invisible characters, line
    separators, and surrogates (bytes of file names that are not UTF-8).

    Args:
        text: any text.
        keep: such characters that stay, e.g. line breaks.
    """
    return _UNUSUAL.sub(lambda match: _escape(match[0]) if match[0] not in keep else match[0], text)


def _escape(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN:
        return character.encode("unicode_escape").decode()
    return character
