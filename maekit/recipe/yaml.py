"""YAML with positions: plain data, and for every value the file, line and column it came from.

Only what a recipe needs is read. Tags (which run code elsewhere), duplicate keys, merge keys, several documents,
infinities and alias bombs are refused; `1e-4` is a number and `yes` a word, as in YAML 1.2.
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
    from pathlib import Path

LARGEST_FILE = 1 << 20
MOST_NODES = 20_000

Keys = tuple[str | int, ...]

_NULL = re.compile(r"(|~|null|Null|NULL)")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))")


@dataclass
class Document:
    """Plain data from one YAML text, and where each value stands in it."""

    name: str
    data: dict[str, Any]
    places: dict[Keys, str] = field(default_factory=dict)

    def locate(self, keys: Keys) -> str:
        """`file:line:column` of the value at `keys`, or of the nearest thing around it."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.places:
                return self.places[keys[:length]]
        return self.name


def read_yaml(path: Path) -> Document:
    """Read one YAML file into plain data with positions.

    Raises:
        UserError: no such file, not text, not YAML, or YAML of a kind that is refused.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        beside = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UserError(
            "no such file", place=str(path), value=found, expected="a YAML file", mend=nearest(path.name, beside)
        )
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(
            "file too large", place=str(path), value=f"{path.stat().st_size} bytes", expected="under 1 MiB of YAML"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"not a text file (byte {error.start} is no UTF-8)", place=str(path), expected="YAML in UTF-8",
            mend="Is this really the YAML file and not the data?",
        ) from error  # fmt: skip
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", place=str(path)) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Parse one YAML mapping; `name` stands for the file in places."""
    root = _compose(text, name)
    if root is None:
        raise UserError("empty file", place=name, expected="a mapping of keys to values")
    if not isinstance(root, MappingNode):
        raise UserError(
            "the top level is no mapping", place=_place(name, root), expected="lines of the form `key: value`"
        )
    document = Document(name, {})
    _Builder(document).build(root, (), ())
    return document


def parse_value(text: str, name: str) -> Any:
    """Parse one value as it would stand in a file (`--set key=VALUE`)."""
    root = _compose(text, name)
    if root is None:
        return None
    return _Builder(Document(name, {})).build(root, (), ())


def _compose(text: str, name: str) -> Node | None:
    try:
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        mend = "Check the indentation and the colons around this line."
        if "\t" in line[: mark.column + 1 if mark else None]:
            problem, mend = "a tab in the indentation", "Indent with spaces."
        elif "but found another document" in problem:
            problem, mend = "more than one document in the file", "Keep one, and remove the `---` line."
        raise UserError(f"not valid YAML ({problem})", place=place, value=line.strip(), mend=mend) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid YAML ({type(error).__name__})", place=name) from error
    return node


def _place(name: str, node: Node) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


class _Builder:
    """Nodes to plain data, noting positions and refusing what a recipe has no use for."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def build(self, node: Node, keys: Keys, around: tuple[int, ...]) -> Any:
        place = _place(self.document.name, node)
        self.document.places[keys] = place
        self.count += 1
        if self.count > MOST_NODES or len(around) > 50:
            raise UserError(
                "too much in one file", place=place, value="aliases or nesting that expand without end",
                expected=f"at most {MOST_NODES} values, nested at most 50 deep", mend="Write the values out.",
            )  # fmt: skip
        if id(node) in around:
            raise UserError("an alias that contains itself", place=place, mend="Write the values out.")
        inside = (*around, id(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rsplit(":", 1)[1] not in ("map", "seq"):
            raise UserError("a YAML tag", place=place, value=_short(node.tag), expected="plain values",
                            mend="Remove the tag: a recipe is data and runs nothing.")  # fmt: skip
        if isinstance(node, SequenceNode):
            return [self.build(child, (*keys, i), inside) for i, child in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        return self._mapping(node, keys, inside)

    def _mapping(self, node: MappingNode, keys: Keys, around: tuple[int, ...]) -> dict[str, Any]:
        data = self.document.data if not keys else {}
        first: dict[str, str] = {}
        for key_node, value_node in node.value:
            place = _place(self.document.name, key_node)
            if not isinstance(key_node, ScalarNode):
                raise UserError("a key that is no word", place=place, expected="`key: value`")
            key = key_node.value
            if key_node.tag.endswith(":merge"):
                raise UserError(
                    "a merge key", place=place, value="<<", mend="Use `extends: other.yaml`, or write the keys out."
                )
            if key in first:
                raise UserError("a key given twice", place=place, value=key, expected="each key once",
                                mend=f"The first is at {first[key]}; remove one.")  # fmt: skip
            first[key] = place
            data[key] = self.build(value_node, (*keys, key), around)
            self.document.places[(*keys, key)] = place
        return data

    def _scalar(self, node: ScalarNode, place: str) -> Any:
        text: str = node.value
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.endswith((":binary", ":python")):
            raise UserError("a YAML tag", place=place, value=_short(node.tag), expected="plain values",
                            mend="Remove the tag: a recipe is data and runs nothing.")  # fmt: skip
        if node.style is not None:
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text) and len(text) < 20:
            return int(text)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
            raise UserError("a number that is not finite", place=place, value=text, expected="a finite number")
        return float(text) if _FLOAT.fullmatch(text) else text


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
