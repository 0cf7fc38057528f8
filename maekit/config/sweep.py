"""`--sweep key=a,b,c`: the grid of points of a sweep or a study, each with a name and a list of overrides."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from maekit.config.keys import all_paths
from maekit.config.schema import Recipe, is_choice
from maekit.config.yaml import parse_value
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPTION = "--sweep "
INIT = "init."
"""`init.KEY` is the key of the recipe that `init` names."""
VARIED_ANYWAY = ("name", "seed", "data.split.fold")
"""Keys that seeds and folds set."""
LONGEST_WORD = 40


@dataclass(frozen=True)
class Swept:
    """One key and the values it takes.

    Attributes:
        key: in full, e.g. `model.mask_ratio`; below `init.` for the recipe that `init` names.
        values: as YAML reads them.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """The last part of the key, or the last two where the last alone could be another."""
        within, key = (INIT, self.key.removeprefix(INIT)) if self.key.startswith(INIT) else ("", self.key)
        parts = tuple(key.split("."))
        alone = [path for path in _whole() if path[-1] == parts[-1]] == [parts] and parts[0] != "init"
        return within + ".".join(parts[-1:] if alone else parts[-2:])


@dataclass(frozen=True)
class GridPoint:
    """One value for each swept key."""

    swept: tuple[Swept, ...] = ()
    values: tuple[Any, ...] = ()

    def labelled(self) -> dict[str, Any]:
        """Value by label, in the order of the options."""
        return {swept.label: value for swept, value in zip(self.swept, self.values, strict=True)}

    def overrides(self) -> list[str]:
        """As `--set` takes them; a choice by name keeps its options where the name stays the same."""
        return [_setting(swept.key, value) for swept, value in zip(self.swept, self.values, strict=True)]

    def only(self, wanted: Callable[[str], bool]) -> GridPoint:
        """Without the keys that are not wanted."""
        kept = [i for i, swept in enumerate(self.swept) if wanted(swept.key)]
        return GridPoint(tuple(self.swept[i] for i in kept), tuple(self.values[i] for i in kept))

    @property
    def folder(self) -> str:
        """`mask_ratio-0.5_masking-span`: the same whatever else is swept; empty without keys."""
        return "_".join(f"{label}-{_word(value)}" for label, value in self.labelled().items())

    def __str__(self) -> str:
        return ", ".join(f"{label} {_shown(value)}" for label, value in self.labelled().items())


def parse_sweep(settings: Sequence[str]) -> tuple[Swept, ...]:
    """The keys of `key=a,b,c`, each in full; a part of a key that only one key ends in is enough.

    Raises:
        UserError: not of that form, an unknown or ambiguous key, no or equal values, a key twice.
    """
    found: list[Swept] = []
    for setting in settings:
        location = OPTION + setting
        name, equals, text = setting.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise UserError("not a list of values for a key", location=location, expected="--sweep key=a,b,c")
        key = full_key(name.strip(), location)
        values = parse_value(f"[{text}]", location)
        if any(value in values[:i] for i, value in enumerate(values)):
            raise UserError("a value twice", location=location, value=text, expected="each value once")
        if any(key == other.key for other in found):
            raise UserError(f"{key} is swept twice", location=location, expected="all its values in one --sweep")
        found.append(Swept(key, tuple(values)))
    return tuple(found)


def grid(swept: Sequence[Swept]) -> list[GridPoint]:
    """All combinations, the last key changing fastest; one point without overrides where nothing is swept."""
    return [GridPoint(tuple(swept), values) for values in product(*(one.values for one in swept))]


def full_key(name: str, location: str) -> str:
    """The key of the schema that `name` is, or is the end of; below a choice by name anything may stand.

    Raises:
        UserError: no such key, several, or one that seeds and folds vary.
    """
    if name.startswith(INIT) and name != "init.recipe":
        return INIT + full_key(name.removeprefix(INIT), location)
    parts = tuple(name.split("."))
    for length in range(len(parts), 0, -1):
        head, rest = parts[:length], parts[length:]
        paths = [path for path in _whole() if path == head] or [path for path in _whole() if path[-length:] == head]
        if not paths or (rest and not any(is_choice(path) or path == ("auxiliary",) for path in paths)):
            continue
        if len(paths) > 1:
            raise UserError(
                f"{name} could be several keys",
                location=location,
                value=name,
                expected="one of " + ", ".join(".".join((*path, *rest)) for path in paths),
            )
        key = ".".join((*paths[0], *rest))
        if key in VARIED_ANYWAY:
            raise UserError(
                f"{key} is varied anyway",
                location=location,
                expected="another key",
                hint="Seeds are set by --seeds, and every fold is run.",
            )
        return key
    known = {".".join(path) for path in _whole()} | {path[-1] for path in _whole()}
    raise UserError(
        "no key of a recipe ends in this",
        location=location,
        value=name,
        expected="a key or its end; options of a choice with what they are of: adapter.KEY, masking.KEY",
        hint=nearest(name, known),
    )


@cache
def _whole() -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(all_paths(Recipe)))


def _setting(key: str, value: Any) -> str:
    within = INIT if key.startswith(INIT) else ""
    if isinstance(value, str) and is_choice(tuple(key.removeprefix(within).split("."))):
        key += ".name"
    return f"{key}={json.dumps(value)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _word(value: Any) -> str:
    """A value as a part of a folder's name; what cannot stand there is told apart by a checksum."""
    text = _shown(value)
    word = re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:LONGEST_WORD]
    return word if word == text else f"{word}-{zlib.crc32(text.encode()):08x}"
