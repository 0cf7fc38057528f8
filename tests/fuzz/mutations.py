"""Mutations of bytes, text and trees, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

NUMBERS = (
    *("0", "-1", "1", "2", "-0.0", "0.5", "1e-300", "1e308", "-1e308", "1e999", "nan", ".nan", "inf", "-.inf", "1e5"),
    *("2147483647", "4294967296", "9223372036854775807", "18446744073709551616", "1000000000", "0x10", "1_000", "010"),
    *("1e9", "12,5", "9" * 5000, "٣", "1.2.3", "--5", "1e", "0.1e-9", "-9999"),
)
"""Numbers at and beyond the limits of the types that they are read into."""

WORDS = (
    *("", "~", "null", "true", "[]", "{}", "[[]]", "{a: }", "''", '"', "!!python/object/apply:os.system [id]"),
    *(
        "!!set {a}",
        "!!binary aGk=",
        "!!timestamp 2020-01-01",
        "&a [*a]",
        "*missing",
        "<<: {a: 1}",
        "- ",
        "? a",
        "|\n  x",
    ),
    *(
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ufeff",
        "\ud7ff",
        "é",
        "\x85",
        "../../x",
        "/etc/passwd",
        "/dev/zero",
        "~/x",
        "a" * 3000,
    ),
    *(
        "**",
        "*",
        "(",
        "(a+)+$",
        "(?P<record>.*)",
        "[",
        "\\",
        "%s",
        "{0}",
        ":x:",
        "NaN",
        "s",
        "Hz",
        "channel",
        "time",
        "\t",
    ),
    *(
        "x:y",
        "#",
        "---",
        "...",
        "%YAML 9.9",
        "2020-01-01T00:00:00Z",
        "class",
        "__class__",
        "name",
        "extends: .",
        "\r",
        "\n",
    ),
)
"""Text that parsers, patterns, paths and terminals treat specially."""

BYTES = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff" * 8,
    b"\x00" * 8,
    b"\x7f" + b"\xff" * 7,
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8", "latin-1", "utf-16", "utf-8-sig", "utf-32")

Values = Sequence[Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def mutate_bytes(rng: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """Content with one to four of its spans changed, removed, doubled, cut off, or taken from another file."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            return bytes(rng.choice(BYTES))
        at, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 64, 1024))
        operation = rng.randrange(8)
        if operation == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif operation == 1:
            data[at] = rng.randrange(256)
        elif operation == 2:
            extreme = rng.choice(BYTES)
            data[at : at + len(extreme)] = extreme
        elif operation == 3:
            del data[at : at + length]
        elif operation == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 3))
        elif operation == 5:
            del data[at:]
        elif operation == 6:
            data[at:at] = rng.randbytes(length)
        elif other:
            start = rng.randrange(len(other))
            data[at:] = other[start:]
    return bytes(data)


def mutate_text(rng: random.Random, text: str, other: str = "") -> str:
    """Text with one to four of its lines, numbers, words or characters changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice(_TEXT_MUTATIONS)(rng, text, other or text)
    return text


def _lines(rng: random.Random, text: str, other: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at, operation = rng.randrange(len(lines)), rng.randrange(6)
    if operation == 0:
        del lines[at]
    elif operation == 1:
        lines.insert(at, lines[at])
    elif operation == 2:
        lines.insert(at, rng.choice(other.splitlines(keepends=True) or ["\n"]))
    elif operation == 3:
        away = rng.randrange(len(lines))
        lines[at], lines[away] = lines[away], lines[at]
    elif operation == 4:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    else:
        lines[at] = lines[at].replace(
            *rng.choice(((",", ";"), (" ", "\t"), (":", ""), (".", ","), ("\n", "\r\n"), (",", ",,")))
        )
    return "".join(lines)


def _replace(rng: random.Random, text: str, pattern: re.Pattern[str], replacements: Sequence[str]) -> str:
    matches = list(pattern.finditer(text))
    if not matches:
        return text + rng.choice(replacements)
    match = rng.choice(matches)
    return text[: match.start()] + rng.choice(replacements) + text[match.end() :]


def _numbers(rng: random.Random, text: str, other: str) -> str:
    return _replace(rng, text, _NUMBER, NUMBERS)


def _words(rng: random.Random, text: str, other: str) -> str:
    return _replace(rng, text, _WORD, [*WORDS, *NUMBERS, *_WORD.findall(other)[:200]])


def _characters(rng: random.Random, text: str, other: str) -> str:
    at = rng.randrange(len(text) + 1)
    inserted = rng.choice((*WORDS, *"{}[]:,-#'\"&*!|>%@`\t \n"))
    return text[:at] + inserted + text[at + rng.choice((0, 0, 1, 3)) :]


def _cut(rng: random.Random, text: str, other: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _splice(rng: random.Random, text: str, other: str) -> str:
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


_TEXT_MUTATIONS: tuple[Callable[[random.Random, str, str], str], ...] = (
    *(_lines, _lines, _numbers, _numbers, _words, _words, _characters, _cut, _splice),
)


def mutate_encoded(rng: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """A text file with its text, its encoding or its bytes changed."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, content, other)
    text = mutate_text(rng, content.decode("utf-8", "replace"), other.decode("utf-8", "replace"))
    return text.encode(rng.choice(ENCODINGS), "replace")


def strange_value(rng: random.Random) -> Any:
    """A value of a type or size that is seldom meant."""
    choices: Values = (
        *(None, True, False, 0, -1, 2**31, 2**63, 10**30, -0.5, 1e308, 1e-300, float("nan"), float("inf"), "", [], {}),
        *([[]], [None], {"": None}, {"name": 3}, [1, "a", None], {"a": {"b": [{}]}}, [0] * 300, 7, 1.0, 3, 100_000),
        *(rng.choice(WORDS), rng.choice(WORDS), rng.choice(NUMBERS)),
    )
    return copy.deepcopy(rng.choice(choices))


def mutate_tree(rng: random.Random, tree: Any, other: Any = None) -> Any:
    """A copy of nested dicts and lists with one to three nodes replaced, removed, renamed or taken from another tree."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        nodes = list(_nodes(tree))
        if not nodes:
            return strange_value(rng)
        holder, key = rng.choice(nodes)
        donors = list(_nodes(other)) or nodes
        operation = rng.randrange(6)
        if operation == 0:
            del holder[key]
        elif operation == 1 and isinstance(holder, dict):
            name = rng.choice((str(rng.choice(donors)[1]), rng.choice(WORDS), f"{key}s", str(key).upper()))
            holder[name] = holder.pop(key)
        elif operation == 2:
            donor, name = rng.choice(donors)
            holder[key] = copy.deepcopy(donor[name])
        elif operation == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = rng.choice(
                (holder[key] * 1000, -holder[key], holder[key] / 7, 0, holder[key] + 1, holder[key] * 10**9)
            )
        elif operation == 4 and isinstance(holder, dict):
            donor, name = rng.choice(donors)
            holder[name if isinstance(donor, dict) else str(name)] = copy.deepcopy(donor[name])
        else:
            holder[key] = strange_value(rng)
    return tree


def _nodes(tree: Any) -> Any:
    """(container, key) of every node below the root."""
    if isinstance(tree, dict | list):
        for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
            yield tree, key
            yield from _nodes(value)


def mutate_yaml(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A YAML file with its nodes or its text changed."""
    if rng.random() < 0.4:
        return mutate_encoded(rng, content, other)
    tree = mutate_tree(rng, yaml.load(content, _LOADER), yaml.load(other, _LOADER))
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def mutate_json(rng: random.Random, content: bytes, other: bytes = b"{}") -> bytes:
    """A JSON file with its nodes or its text changed."""
    if rng.random() < 0.4:
        return mutate_encoded(rng, content, other)
    return json.dumps(mutate_tree(rng, json.loads(content), json.loads(other))).encode("utf-8", "replace")
