"""YAML with positions: plain data, and for every value the file, line and column it came from.

Tags (which can run code in other readers), duplicate keys, merge keys, several documents, infinities and alias bombs are refused.
As in YAML 1.2, `1e-4` is a number and `yes` is text. Unlike there, digits that begin with a zero are text: `001` is the name of a
subject, not a number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yaml.error import Mark

LARGEST_FILE = 1 << 20
MOST_NODES = 20_000
MOST_DIGITS = 18

Keys = tuple[str | int, ...]

_NULL = re.compile(r"(|~|null|Null|NULL)")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_NO_BLANK = re.compile(r"\s*(?:- )?([A-Za-z_][\w-]*):([^\s:/].*)", re.DOTALL)
"""`width:192`, which YAML reads as one word; not `http://` or `C:/`."""


@dataclass
class Document:
    """Plain data from one YAML text, with the location of each value."""

    name: str
    data: dict[str, Any]
    locations: dict[Keys, str] = field(default_factory=dict)

    def locate(self, keys: Keys) -> str:
        """`file:line:column` of the value at `keys`, or of the closest mapping around it."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.locations:
                return self.locations[keys[:length]]
        return self.name


def read_yaml(path: Path) -> Document:
    """Read one YAML file into plain data with positions.

    Raises:
        UserError: no such file, not text, not YAML, or YAML of a kind that is refused.
    """
    if not is_file(path):
        found = "a folder" if is_folder(path) else "nothing"
        auxiliary = [p.name for p in path.parent.glob("*.yaml")] if is_folder(path.parent) else []
        raise UserError(
            "no such file", location=str(path), value=found, expected="a YAML file", hint=nearest(path.name, auxiliary)
        )
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(
            "file too large", location=str(path), value=f"{path.stat().st_size} bytes", expected="under 1 MiB of YAML"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"not a text file (byte {error.start} is no UTF-8)",
            location=str(path),
            expected="YAML in UTF-8",
            hint="Is this really the YAML file and not the data?",
        ) from error
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", location=str(path)) from error
    return parse(text, str(path))


def is_file(path: Path) -> bool:
    """Whether the path is a file; False for a path that no file can have (too long, a forbidden character)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; see `is_file`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def parse(text: str, name: str) -> Document:
    """Parse one YAML mapping; `name` is the file in the locations."""

    def at(mark: Mark) -> str:
        return f"{name}:{mark.line + 1}:{mark.column + 1}"

    root = _compose(text, name, at)
    if root is None:
        raise UserError("empty file", location=name, expected="a mapping of keys to values")
    if isinstance(root, ScalarNode) and root.style is None and _NO_BLANK.fullmatch(root.value):
        raise _no_blank(root.value, at(root.start_mark))
    if not isinstance(root, MappingNode):
        raise UserError(
            "the top level is no mapping", location=at(root.start_mark), expected="lines of the form `key: value`"
        )
    document = Document(name, {})
    _Builder(document, at).build(root, (), ())
    return document


def parse_value(text: str, name: str) -> Any:
    """Parse one value as it would be written in a file (`--set key=VALUE`); `name` is the location of every error."""

    def at(_mark: Mark) -> str:
        return name

    root = _compose(text, name, at)
    if root is None:
        return None
    return _Builder(Document(name, {}), at).build(root, (), ())


class _Loader(yaml.SafeLoader):
    """PyYAML's reader, which refuses tags and too many nodes while it reads."""

    at: Callable[[Mark], str]
    nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _too_much(self.at(event.start_mark))
        if getattr(event, "tag", None) is not None:  # written out, not inferred from the value
            raise UserError(
                "a YAML tag",
                location=self.at(event.start_mark),
                value=_short(event.tag),
                expected="plain values",
                hint="Remove the tag: a recipe is data and runs nothing.",
            )
        return super().compose_node(parent, index)


def _compose(text: str, name: str, at: Callable[[Mark], str]) -> Node | None:
    try:
        loader = _Loader(text)
        loader.at = at
        return loader.get_single_node()
    except yaml.YAMLError as error:
        mark: Mark | None = getattr(error, "problem_mark", None)
        before: Mark | None = getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        lines = text.splitlines()
        line = lines[mark.line] if mark and mark.line < len(lines) else ""
        if before and before.line < len(lines) and _NO_BLANK.fullmatch(lines[before.line]):
            raise _no_blank(lines[before.line].strip(), at(before)) from error
        hint = "Check the indentation and the colons around this line."
        if "\t" in line[: len(line) - len(line.lstrip())]:
            problem, hint = "a tab in the indentation", "Indent with spaces."
        elif mark and line[mark.column : mark.column + 1] == "\t":
            problem, hint = "a tab between words", "Put a space there."
        elif "but found another document" in problem:
            problem, hint = "more than one document in the file", "Keep one, and remove the `---` line."
        location = at(mark) if mark else name
        raise UserError(f"not valid YAML ({problem})", location=location, value=line.strip(), hint=hint) from error
    except RecursionError as error:
        raise UserError("brackets nested without end", location=name, hint="Close them.") from error
    except (ValueError, OverflowError) as error:
        raise UserError(
            "not valid YAML (an escape for a character that does not exist)",
            location=name,
            hint="Write the character itself, or put the text in single quotes.",
        ) from error


class _Builder:
    """Builds plain data from nodes, records locations, and refuses what no recipe needs."""

    def __init__(self, document: Document, at: Callable[[Mark], str]) -> None:
        self.document = document
        self.at = at
        self.count = 0
        self.letters = 0

    def build(self, node: Node, keys: Keys, around: tuple[int, ...]) -> Any:
        location = self.at(node.start_mark)
        self.document.locations[keys] = location
        self.count += 1
        # Many aliases of a long text cost no memory here, but would in a message that shows them.
        self.letters += len(node.value) if isinstance(node, ScalarNode) else 0
        if self.count > MOST_NODES or len(around) > 50 or self.letters > LARGEST_FILE:
            raise _too_much(location)
        if id(node) in around:
            raise UserError("an alias that contains itself", location=location, hint="Write the values out.")
        inside = (*around, id(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, location)
        if isinstance(node, SequenceNode):
            return [self.build(child, (*keys, i), inside) for i, child in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        return self._mapping(node, keys, inside)

    def _mapping(self, node: MappingNode, keys: Keys, around: tuple[int, ...]) -> dict[str, Any]:
        data = self.document.data if not keys else {}
        first: dict[str, str] = {}
        for key_node, value_node in node.value:
            location = self.at(key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                raise UserError("a key that is no word", location=location, expected="`key: value`")
            key = _text(key_node, location)
            if key_node.tag.endswith(":merge"):
                raise UserError(
                    "a merge key",
                    location=location,
                    value="<<",
                    hint="Use `extends: other.yaml`, or write the keys out.",
                )
            self._check_blanks(key_node, value_node)
            if key in first:
                raise UserError(
                    "a key given twice",
                    location=location,
                    value=key,
                    expected="each key once",
                    hint=f"The first is at {first[key]}; remove one.",
                )
            first[key] = location
            data[key] = self.build(value_node, (*keys, key), around)
            self.document.locations[(*keys, key)] = location
        return data

    def _check_blanks(self, key: ScalarNode, value: Node) -> None:
        """Refuse `{width:192}`, a key without a value to YAML, and `width:192` on a line of its own, a value to YAML."""
        if not isinstance(value, ScalarNode) or value.style is not None:
            return
        if not value.value and key.style is None and _NO_BLANK.fullmatch(key.value):
            raise _no_blank(key.value, self.at(key.start_mark))
        if value.start_mark.line > key.end_mark.line and _NO_BLANK.fullmatch(value.value):
            raise _no_blank(value.value, self.at(value.start_mark))

    def _scalar(self, node: ScalarNode, location: str) -> Any:
        text = _text(node, location)
        if node.style is not None or _LEADING_ZERO.fullmatch(text):
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            if len(text.lstrip("+-")) > MOST_DIGITS:
                raise UserError(
                    "a number too long to be exact",
                    location=location,
                    value=text,
                    expected=f"at most {MOST_DIGITS} digits",
                    hint="Put it in quotes if it is a name.",
                )
            return int(text)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
            raise UserError(
                "a number that is not finite",
                location=location,
                value=text,
                expected="a finite number",
                hint="Put it in quotes if it is a name.",
            )
        return float(text) if _FLOAT.fullmatch(text) else text


def _text(node: ScalarNode, location: str) -> str:
    text: str = node.value
    if _HALF_CHARACTER.search(text):
        raise UserError(
            "a character that no text holds",
            location=location,
            value=text,
            expected="whole characters, not halves of a surrogate pair",
        )
    return text


def _no_blank(text: str, location: str) -> UserError:
    key, value = text.split(":", 1)
    return UserError(
        "no blank after the colon", location=location, value=text, hint=f"Write `{key}: {value.split(' ')[0]}`."
    )


def _too_much(location: str) -> UserError:
    return UserError(
        "too much in one file",
        location=location,
        value="aliases or nesting that expand without end",
        expected=f"at most {MOST_NODES} values, nested at most 50 deep",
        hint="Write the values out.",
    )


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
