"""Finding adapters, encoders, maskings, targets and tasks by the short names that recipes use.

Installed packages declare them as entry points of the groups `maekit.adapters`, `maekit.encoders`, `maekit.maskings`,
`maekit.targets`, `maekit.tokenizers` and `maekit.tasks`; the built-in ones are declared the same way in our own pyproject. Code that is
not installed comes in only through `--plugin FILE.py`, where `register` names it.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
import zlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["adapters", "encoders", "maskings", "targets", "tokenizers", "tasks"]
T = TypeVar("T", bound=type)


class _Registered(NamedTuple):
    cls: type
    file: str


_registered: dict[tuple[str, str], _Registered] = {}
loaded: list[Path] = []
"""Plug-in files that were run here, for processes that must know them too."""


def register(kind: Kind, name: str) -> Callable[[T], T]:
    """Decorator for a class in a plug-in file: `@register("adapters", "temperature")`.

    Raises:
        UserError: an installed package or another plug-in file has that name already.
    """

    def note(cls: T) -> T:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
        earlier = _registered.get((kind, name))
        taken = f"the installed {kind}" if name in _installed(kind) else ""
        if earlier and earlier.file != file:
            taken = f"the {kind} of {earlier.file}"
        if taken:
            raise UserError(
                f"the name {name!r} is taken among {taken}",
                location=file,
                value=name,
                expected="a name of its own",
                hint="Rename the plug-in's class in `register`.",
            )
        _registered[kind, name] = _Registered(cls, file)
        return cls

    return note


def names(kind: Kind) -> list[str]:
    """All known short names, without importing what is behind them."""
    return sorted({*_installed(kind), *(name for group, name in _registered if group == kind)})


def find(kind: Kind, name: str, *, location: str = "") -> Any:
    """The class behind a short name.

    Args:
        kind: which group.
        name: as in the recipe.
        location: where the name stands, for the message.

    Raises:
        UserError: nobody declares it, two packages do, or its import fails.
    """
    if (kind, name) in _registered:
        return _registered[kind, name].cls
    declared = _installed(kind).get(name, [])
    if not declared:
        known = names(kind)
        raise UserError(
            f"no {kind.removesuffix('s')} of this name is installed",
            location=location,
            value=name,
            expected="one of " + ", ".join(known),
            hint=nearest(name, known) or "A file of your own is given with `--plugin FILE.py`.",
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
    try:
        return declared[0].load()
    except Exception as error:  # whatever somebody's package may raise while it is imported
        raise UserError(
            f"the {kind.removesuffix('s')} {name!r} cannot be imported ({type(error).__name__}: {error})",
            location=declared[0].value,
            hint="Reinstall the package that declares it.",
        ) from error


def load_file(path: Path) -> None:
    """Run one plug-in file, which registers what it brings.

    Raises:
        UserError: no such file, or an error inside it, with its line.
    """
    if not path.is_file():
        raise UserError("no such plug-in file", location=str(path), expected="a Python file")
    file = path.resolve()
    # Two files of one name in two folders are two modules.
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
        # A file that fails leaves nothing half registered.
        _registered.clear()
        _registered.update(before)
        sys.modules.pop(name, None)
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise _failure(error, path, file) from error
    loaded.append(file)


def _failure(error: BaseException, path: Path, file: Path) -> UserError:
    """The message for what a plug-in raised; `path` as the person typed it, `file` as Python knows it."""
    if isinstance(error, SyntaxError):
        # The broken file may be another one, which the plug-in imports.
        where = path if error.filename in (None, str(file)) else error.filename
        return UserError(f"not valid Python ({error.msg})", location=f"{where}:{error.lineno}:{error.offset}")
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), None)
    return UserError(
        f"the plug-in failed ({type(error).__name__}: {error})", location=f"{path}:{line}" if line else str(path)
    )


def _installed(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Entry points by name; the same declaration seen twice on the path counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"maekit.{kind}"):
        others = found.setdefault(point.name, [])
        if all(point.value != other.value for other in others):
            others.append(point)
    return found
