"""Plug-ins: adapters, augmentations, encoders, maskings, targets, tokenizers and tasks, by the short names that recipes use.

Installed packages declare them as entry points of the groups `maekit.adapters`, `maekit.augmentations`, `maekit.encoders`,
`maekit.maskings`, `maekit.targets`, `maekit.tokenizers` and `maekit.tasks`; the built-in ones are declared in the same way in pyproject.toml. Code that
is not installed is loaded by `--plugin FILE.py` alone, in which `register` names it.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
import zlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["adapters", "augmentations", "encoders", "maskings", "targets", "tokenizers", "tasks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
T = TypeVar("T", bound=type)


class _Registered(NamedTuple):
    cls: type
    file: str


_registered: dict[tuple[str, str], _Registered] = {}
loaded: list[Path] = []
"""Plug-in files that were run in this process; worker processes run them as well."""


class Reference(NamedTuple):
    """Where the class of a plug-in is defined: its module and its name there."""

    module: str
    name: str


def register(kind: Kind, name: str) -> Callable[[T], T]:
    """Decorator for a class in a plug-in file: `@register("adapters", "temperature")`.

    Raises:
        UserError: an installed package or another plug-in file uses that name already.
    """

    def add(cls: T) -> T:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
        earlier = _registered.get((kind, name))
        owner = f"the installed {kind}" if name in _installed(kind) else ""
        if earlier and earlier.file != file:
            owner = f"the {kind} of {earlier.file}"
        if owner:
            raise UserError(
                f"the name {name!r} is taken among {owner}",
                location=file,
                value=name,
                expected="a name of its own",
                hint="Rename the plug-in's class in `register`.",
            )
        _registered[kind, name] = _Registered(cls, file)
        return cls

    return add


def names(kind: Kind) -> list[str]:
    """All short names of one kind; nothing is imported."""
    return sorted({*_installed(kind), *(name for group, name in _registered if group == kind)})


def find(kind: Kind, name: str, *, location: str = "") -> Any:
    """Import the class of a plug-in.

    Args:
        kind: which group.
        name: as in the recipe.
        location: of the name, for the message.

    Raises:
        UserError: no package declares it, two packages do, or its import fails.
    """
    if (kind, name) in _registered:
        return _registered[kind, name].cls
    entry_point = _declared(kind, name, location)
    try:
        return entry_point.load()
    except Exception as error:  # whatever somebody's package may raise while it is imported
        raise UserError(
            f"the {kind.removesuffix('s')} {name!r} cannot be imported ({type(error).__name__}: {error})",
            location=entry_point.value,
            hint="Reinstall the package that declares it.",
        ) from error


def reference(kind: Kind, name: str, *, location: str = "") -> Reference:
    """Where the class of a plug-in is defined; nothing is imported.

    Raises:
        UserError: no package declares it, or two packages do.
    """
    if (kind, name) in _registered:
        cls = _registered[kind, name].cls
        return Reference(cls.__module__, cls.__qualname__)
    entry_point = _declared(kind, name, location)
    return Reference(entry_point.module, entry_point.attr)


def _declared(kind: Kind, name: str, location: str) -> EntryPoint:
    """The one entry point of a short name.

    Raises:
        UserError: there is none, or there are several.
    """
    declared = _installed(kind).get(name, [])
    if not declared:
        available = names(kind)
        raise UserError(
            f"no {kind.removesuffix('s')} of this name is installed",
            location=location,
            value=name,
            expected="one of " + ", ".join(available),
            hint=nearest(name, available) or "A file of your own is given with `--plugin FILE.py`.",
        )
    if len(declared) > 1:
        packages = ", ".join(sorted(point.dist.name for point in declared if point.dist))
        raise UserError(
            f"two packages declare the {kind.removesuffix('s')} {name!r}",
            location=location,
            value=packages,
            expected="one of them installed",
            hint="Uninstall one, or rename it there.",
        )
    return declared[0]


def load_file(path: Path) -> None:
    """Run a plug-in file, which registers its classes.

    Raises:
        UserError: no such file, or an error inside it, with its line.
    """
    if not path.is_file():
        raise UserError("no such plug-in file", location=str(path), expected="a Python file")
    file = path.resolve()
    # The checksum makes files of the same name in two folders two modules.
    name = f"maekit_plugin_{path.stem}_{zlib.crc32(bytes(file)):08x}"
    module_spec = importlib.util.spec_from_file_location(name, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError("not a Python file", location=str(path), expected="a file ending in .py")
    before = dict(_registered)
    try:
        module = sys.modules[name] = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        if _registered == before:
            raise UserError(
                "the plug-in registers nothing",
                location=str(path),
                hint='Put `@register("adapters", "NAME")` from maekit.plugins above its class.',
            )
    except BaseException as error:
        # Take back what a file registered before it failed.
        _registered.clear()
        _registered.update(before)
        sys.modules.pop(name, None)
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise _failure(error, path, file) from error
    loaded.append(file)


def _failure(error: BaseException, path: Path, file: Path) -> UserError:
    """The message for an exception of a plug-in; `path` is the file as the user typed it, `file` as Python knows it."""
    if isinstance(error, SyntaxError):
        # The syntax error may be in a file that the plug-in imports.
        where = path if error.filename in (None, str(file)) else error.filename
        return UserError(f"not valid Python ({error.msg})", location=f"{where}:{error.lineno}:{error.offset}")
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), None)
    return UserError(
        f"the plug-in failed ({type(error).__name__}: {error})", location=f"{path}:{line}" if line else str(path)
    )


def _installed(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Entry points by name; equal declarations, of a package that is on the path twice, count once."""
    by_name: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"maekit.{kind}"):
        declared = by_name.setdefault(point.name, [])
        if all(point.value != other.value for other in declared):
            declared.append(point)
    return by_name
