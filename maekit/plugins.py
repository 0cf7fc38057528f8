"""Finding adapters, maskings, targets and tasks by the short names that recipes use.

Installed packages declare them as entry points of the groups `maekit.adapters`, `maekit.maskings`,
`maekit.targets` and `maekit.tasks`; the built-in ones are declared the same way in our own pyproject. Code that is
not installed comes in only through `--plugin FILE.py`, where `register` names it.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["adapters", "maskings", "targets", "tasks"]
T = TypeVar("T", bound=type)

_registered: dict[tuple[str, str], type] = {}


def register(kind: Kind, name: str) -> Callable[[T], T]:
    """Decorator for a class in a plug-in file: `@register("adapters", "temperature")`.

    Raises:
        UserError: an installed package has that name already.
    """

    def note(cls: T) -> T:
        if name in _installed(kind):
            raise UserError(
                f"the name {name!r} is taken among the installed {kind}", place=cls.__module__, value=name,
                expected="a name of its own", mend="Rename the plug-in's class in `register`.",
            )  # fmt: skip
        _registered[kind, name] = cls
        return cls

    return note


def names(kind: Kind) -> list[str]:
    """All known short names, without importing what is behind them."""
    return sorted({*_installed(kind), *(name for group, name in _registered if group == kind)})


def find(kind: Kind, name: str, *, place: str = "") -> Any:
    """The class behind a short name.

    Args:
        kind: which group.
        name: as in the recipe.
        place: where the name stands, for the message.

    Raises:
        UserError: nobody declares it, two packages do, or its import fails.
    """
    if (kind, name) in _registered:
        return _registered[kind, name]
    declared = _installed(kind).get(name, [])
    if not declared:
        known = names(kind)
        raise UserError(
            f"no {kind.removesuffix('s')} of this name is installed", place=place, value=name,
            expected="one of " + ", ".join(known),
            mend=nearest(name, known) or "A file of your own is given with `--plugin FILE.py`.",
        )  # fmt: skip
    if len(declared) > 1:
        packages = ", ".join(sorted(point.dist.name for point in declared if point.dist))
        raise UserError(
            f"two packages declare the {kind.removesuffix('s')} {name!r}", place=place, value=packages,
            expected="one of them installed", mend="Uninstall one, or rename it there.",
        )  # fmt: skip
    try:
        return declared[0].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the {kind.removesuffix('s')} {name!r} cannot be imported ({error})", place=declared[0].value,
            mend="Reinstall the package that declares it.",
        ) from error  # fmt: skip


def load_file(path: Path) -> None:
    """Run one plug-in file, which registers what it brings.

    Raises:
        UserError: no such file, or an error inside it, with its line.
    """
    if not path.is_file():
        raise UserError("no such plug-in file", place=str(path), expected="a Python file")
    name = f"maekit_plugin_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise UserError("not a Python file", place=str(path), expected="a file ending in .py")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    before = len(_registered)
    try:
        module_spec.loader.exec_module(module)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"not valid Python ({error.msg})", place=f"{path}:{error.lineno}:{error.offset}") from error
    except Exception as error:  # whatever a user's file may raise while it is imported
        line = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), 0
        )
        raise UserError(f"the plug-in failed ({type(error).__name__}: {error})", place=f"{path}:{line}") from error
    if len(_registered) == before:
        raise UserError(
            "the plug-in registers nothing", place=str(path),
            mend='Put `@register("adapters", "NAME")` from maekit.plugins above its class.',
        )  # fmt: skip


def _installed(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Entry points by name; the same declaration seen twice on the path counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"maekit.{kind}"):
        others = found.setdefault(point.name, [])
        if all(point.value != other.value for other in others):
            others.append(point)
    return found
