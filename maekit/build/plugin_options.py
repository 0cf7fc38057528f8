"""Options of plug-ins and their defaults, read from the source code: nothing is imported, so that `maekit recipe` is instant."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit import plugins
from maekit.config.options import unknown_option
from maekit.config.schema import split_choice

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Choice
    from maekit.config.yaml import Keys

SET_BY_MAEKIT: dict[plugins.Kind, frozenset[str]] = {
    "encoders": frozenset({"auxiliary", "mask_token"}),
    "tasks": frozenset({"classes", "columns", "mean", "places", "plane", "std"}),
}
"""Constructor arguments that come from the data or from other parts of a recipe; they are no options."""
DEEPEST = 10
"""Base classes that are followed."""


@dataclass(frozen=True)
class Default:
    """A default value that can be written in a recipe, and the place of its definition as `file:line`."""

    value: Any
    location: str


@dataclass(frozen=True)
class Options:
    """Keyword-only parameters of a plug-in's constructor and of the base classes that it passes others on to.

    Attributes:
        names: all of them.
        defaults: those with a default that is a plain value.
        complete: whether the source of every class was found.
    """

    names: frozenset[str]
    defaults: dict[str, Default]
    complete: bool


def plugin_choices(loaded: LoadedRecipe) -> Iterator[tuple[plugins.Kind, Keys, Choice]]:
    """Every plug-in that a recipe names, with its kind and its keys."""
    recipe = loaded.recipe
    yield "adapters", ("adapter",), recipe.adapter
    for i, augmentation in enumerate(recipe.augment):
        yield "augmentations", ("augment", i), augmentation
    for name, signal in recipe.auxiliary.items():
        adapter, augmentations = split_choice(signal, loaded.locate("auxiliary", name, "augment"))
        yield "adapters", ("auxiliary", name), adapter
        for i, augmentation in enumerate(augmentations):
            yield "augmentations", ("auxiliary", name, "augment", i), augmentation
    yield "encoders", ("model", "backbone"), recipe.model.backbone
    yield "maskings", ("model", "masking"), recipe.model.masking
    yield "targets", ("model", "target"), recipe.model.target
    yield "tasks", ("task",), recipe.task


def default_options(loaded: LoadedRecipe) -> dict[Keys, tuple[Any, str]]:
    """Options of the recipe's plug-ins that it leaves at their defaults: by their keys, the value and where it is defined.

    Raises:
        UserError: a plug-in that is not installed.
    """
    defaults: dict[Keys, tuple[Any, str]] = {}
    for kind, keys, choice in plugin_choices(loaded):
        if kind == "augmentations":  # entries of a list, on one line, which has no room for origins
            continue
        options = read_options(kind, choice.name, location=loaded.locate(*keys, "name"))
        for name, default in options.defaults.items():
            if name not in choice.options:
                defaults[*keys, name] = (default.value, f"default of {choice.name}, {default.location}")
    return defaults


def check_options(loaded: LoadedRecipe) -> None:
    """Check the names of the recipe's plug-ins and of their options.

    Raises:
        UserError: a plug-in that is not installed, or an option that it does not have.
    """
    for kind, keys, choice in plugin_choices(loaded):
        options = read_options(kind, choice.name, location=loaded.locate(*keys, "name"))
        for name, value in choice.options.items():
            if options.complete and name not in options.names:
                raise unknown_option(choice.name, name, value, sorted(options.names), loaded.locate(*keys, name))


def read_options(kind: plugins.Kind, name: str, *, location: str = "") -> Options:
    """Options of a plug-in.

    Raises:
        UserError: it is not installed.
    """
    reference = plugins.reference(kind, name, location=location)
    names: set[str] = set()
    defaults: dict[str, Default] = {}
    complete = _collect(reference.module, reference.name, names, defaults, 0)
    fixed = SET_BY_MAEKIT.get(kind, frozenset())
    defaults = {option: default for option, default in defaults.items() if option not in fixed}
    return Options(frozenset(names - fixed), defaults, complete)


def _collect(module: str, name: str, names: set[str], defaults: dict[str, Default], depth: int) -> bool:
    """Add the options of a class, and of its bases where it passes keyword arguments on; False where a source is missing."""
    source = _Source.of(module)
    found = source.find_class(name) if source else None
    if source is None or found is None or depth > DEEPEST:
        return False
    constructor = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if constructor is not None:
        arguments = constructor.args
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if argument.arg in names:
                continue
            names.add(argument.arg)
            if default is not None and (value := source.evaluate(default)) is not _UNKNOWN:
                defaults[argument.arg] = Default(value, f"{source.path.name}:{argument.lineno}")
        if arguments.kwarg is None:
            return True
    elif any(_is_dataclass(decorator) for decorator in found.decorator_list):
        return False
    known = True
    for base in found.bases:
        reference = source.refer(base)
        if reference is not None and reference.module.partition(".")[0] not in _WITHOUT_OPTIONS:
            known &= _collect(reference.module, reference.name, names, defaults, depth + 1)
    return known


_UNKNOWN = object()
_WITHOUT_OPTIONS = sys.stdlib_module_names | {"torch"}
"""Packages whose classes, as bases of a plug-in, bring no options."""


@dataclass(frozen=True)
class _Source:
    """The parsed source of a module."""

    module: str
    path: Path
    tree: ast.Module

    @staticmethod
    @cache
    def of(module: str) -> _Source | None:
        """Parse a module; None where it has no source file that can be read."""
        path = _file_of(module)
        try:
            return None if path is None else _Source(module, path, ast.parse(path.read_bytes()))
        except (OSError, SyntaxError, ValueError):
            return None

    def find_class(self, name: str) -> ast.ClassDef | None:
        return next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)

    def refer(self, node: ast.expr) -> plugins.Reference | None:
        """Where a base class, written as an expression, is defined."""
        if isinstance(node, ast.Subscript):  # Base[T]
            return self.refer(node.value)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = self._imported(node.value.id)
            return None if module is None else plugins.Reference(".".join(filter(None, module)), node.attr)
        if not isinstance(node, ast.Name):
            return None
        if self.find_class(node.id) is not None:
            return plugins.Reference(self.module, node.id)
        imported = self._imported(node.id)
        return None if imported is None else plugins.Reference(*imported)

    def evaluate(self, node: ast.expr, depth: int = 0) -> Any:
        """A literal, or a constant of a module that has a literal value; otherwise `_UNKNOWN`."""
        try:
            value = ast.literal_eval(node)
        except ValueError:
            value = self._constant(node.id, depth) if isinstance(node, ast.Name) and depth <= DEEPEST else _UNKNOWN
        return value if _is_plain(value) else _UNKNOWN

    def _constant(self, name: str, depth: int) -> Any:
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            value = getattr(node, "value", None)
            if name in names and value is not None:
                return self.evaluate(value, depth + 1)
        imported = self._imported(name)
        source = _Source.of(imported[0]) if imported else None
        return source._constant(imported[1], depth + 1) if source and imported and depth <= DEEPEST else _UNKNOWN

    def _imported(self, name: str) -> tuple[str, str] | None:
        """Module and name that a name of this module was imported from; an empty name for a module itself."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return node.module, alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return alias.name, ""
        return None


def _is_plain(value: Any) -> bool:
    """Whether a default can be written in YAML."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(below) for key, below in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _is_dataclass(node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(function).endswith("dataclass")


def _file_of(module: str) -> Path | None:
    """The source file of a module, found without importing the packages that it lies in."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
        return Path(file) if file else None
    root, *parts = module.split(".")
    spec = find_spec(root)
    for depth, part in enumerate(parts, start=1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        package = ".".join((root, *parts[: depth - 1]))
        path = getattr(sys.modules.get(package), "__path__", spec.submodule_search_locations)
        spec = PathFinder.find_spec(f"{package}.{part}", list(path))
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
