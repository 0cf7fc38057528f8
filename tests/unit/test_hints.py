"""Every option, command and key that an error's text names in backticks exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

import maekit
from maekit import plugins
from maekit.cli.main import app
from maekit.config.data_spec import DataSpec
from maekit.config.schema import Recipe

HOLE = "\x00"
"""Stands for what a message inserts."""

ROOTS = [Path(maekit.__file__).parent, Path(maekit.__file__).parents[1] / "adapters"]
NO_KEYS = {
    "<": "the first character of a web page",
    "version": "the first word of a Git LFS pointer",
    "model": "a name in somebody's checkpoint",
    "h5copy": "a program of HDF5",
    "for i, x in enumerate(old[NAME]): new[f'r{i}/{NAME}'] = x": "Python with h5py",
    "h5repack": "a program of HDF5",
    "nccopy -k nc4 OLD NEW": "a program of netCDF",
    "ffmpeg -i FILE -c:a pcm_s16le NEW.wav": "a program",
    "cd": "a command of the shell",
    "full": "a function of MATLAB",
    "new[NAME] = old[NAME][...] * factors": "Python with h5py",
    "maekit.predict": "Python",
    "side": "an attribute of pictures in a table",
    "dask scheduler": "a program of dask",
    "dask worker --nthreads 1": "a program of dask",
    "--nthreads": "an option of dask",
    "latin-1": "an encoding",
    "runs": "a folder",
    "_": "a character",
    "-": "a character",
    ".": "a character",
    "..": "a folder",
    "/": "a character",
    '@register("adapters", "NAME")': "Python of a plug-in file",
    "register": "Python of a plug-in file",
    "columns": "an attribute in a file, too",
    "over": "a key in a published file",
    "boxes": "a key in a published file",
    "lengths": "an attribute of a label kind, in Python",
    "rates": "an argument of a target, in Python",
    "key: value": "the form of a line of YAML",
    "simulate": "a method of adapters, in Python",
    "accuracy": "a metric",
    "sample": "an axis of an ADC cube",
    "--status": "an option of a program of HDF5",
    "{name: ...}": "the form of a choice",
}
"""What may stand in backticks though it is no option, command or key, with the reason."""


def _text(node: ast.expr) -> str:
    """The text that an expression makes, with HOLE for what is not in the source."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} {_text(node.orelse)}"
    return ""


def _messages() -> Iterator[tuple[str, str]]:
    """(place, text) of every argument of an error that is raised in the source."""
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if name.endswith("Error"):
                        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                            yield f"{path.parent.name}/{path.name}:{node.lineno}", _text(argument)


def _commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """Options by command."""
    found = {path: {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}}
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            found |= _commands(child, (*path, name))
    return found


def _names(annotation: Any, seen: set[Any]) -> set[str]:
    """Names of fields, and values of choices, of a type and of all types in it."""
    if get_origin(annotation) is Literal:
        return {str(value) for value in get_args(annotation)}
    names: set[str] = set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        for name, field in annotation.model_fields.items():
            names |= {name, field.alias or name} | _names(field.annotation, seen)
            names |= {name for part in field.metadata for name in _names(part, seen)}
    for argument in get_args(annotation):
        names |= _names(argument, seen)
    return names


def _plugin_names() -> set[str]:
    """Short names of plug-ins and of what adapters offer, and their arguments."""
    names: set[str] = set()
    for kind in plugins.KINDS:
        for name in plugins.names(kind):
            cls = plugins.find(kind, name)
            names |= {name, *inspect.signature(cls).parameters}
            if kind == "adapters":
                names |= {*cls.derivations, *cls.transformations, *cls.reducers}
                for function in (cls.simulate, *cls.transformations.values(), *cls.derivations.values()):
                    names |= set(inspect.signature(function).parameters)
    return names


COMMANDS = _commands(get_command(app))
GROUPS = {command[:-1] for command in COMMANDS if command}
OPTIONS = set().union(*COMMANDS.values())


@pytest.fixture(scope="module")
def keys() -> set[str]:
    for path in sorted(ROOTS[0].joinpath("config").glob("*.py")):
        importlib.import_module(f"maekit.config.{path.stem}")
    seen: set[Any] = set()
    names = _names(Recipe, seen) | _names(DataSpec, seen) | _plugin_names()
    return names | {
        "extends",
        "time",
        "channel",
        "class",
        "record",
        "frame",
        "test",
        "train",
        "validation",
        "none",
        "majority",
        "accuracy",
    }


def _check_command(words: list[str]) -> str:
    """What is wrong with `maekit WORD ...`."""
    path: tuple[str, ...] = ()
    for word in words[1:]:
        if (*path, word) in COMMANDS:
            path = (*path, word)
        elif (*path, word)[:-1] in GROUPS:
            return f"no such command: {word}"
        else:
            break
    wrong = [word for word in words if word.startswith("--") and word not in COMMANDS[path] | COMMANDS[()]]
    return f"no such option of {' '.join(path)}: {', '.join(wrong)}" if wrong else ""


def _check_keys(text: str, keys: set[str]) -> str:
    """What is wrong with a key, a path of keys, `key: value` or `key=value`."""
    try:
        tree = yaml.safe_load(text.replace(HOLE, "HOLE").replace("...", "HOLE").replace("=", ": ", 1))
    except yaml.YAMLError:
        return "no YAML"
    names: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                names.extend(str(key).split("."))
                if isinstance(value, dict | list):
                    collect(value)
        elif isinstance(node, list):
            for item in node:
                collect(item)

    collect(tree)
    if not isinstance(tree, dict):
        names = text.split(".")
    unknown = [
        name for name in names if name not in keys and "HOLE" not in name and HOLE not in name and not name.isupper()
    ]
    return f"no such key: {', '.join(unknown)}" if unknown else ""


def problem(quoted: str, keys: set[str]) -> str:
    """Why what stands in backticks cannot be typed; empty if it can."""
    is_pattern = " -> " in quoted or quoted == "->" or "*" in quoted.partition(" ")[0]
    if quoted in NO_KEYS or not quoted.strip(HOLE) or is_pattern or re.fullmatch(r"\w+\(\)", quoted):
        return ""
    words = quoted.split()
    if words[0] == "maekit":
        return _check_command(words)
    if words[0].startswith("--"):
        if words[0] not in OPTIONS:
            return "no such option"
        return _check_keys(words[1].split("=")[0], keys) if words[0] == "--set" and len(words) > 1 else ""
    return _check_keys(quoted, keys)


def test_what_errors_name_exists(keys: set[str]) -> None:
    quoted = [(place, name) for place, text in _messages() for name in re.findall(r"`([^`]+)`", text)]
    assert len(quoted) > 200
    wrong = [f"{place}: `{name}`: {what}" for place, name in quoted if (what := problem(name, keys))]
    assert not wrong, "\n".join(wrong).replace(HOLE, "*")


def test_options_outside_backticks_exist() -> None:
    named = [(place, name) for place, text in _messages() for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)]
    assert len(named) > 40
    wrong = [f"{place}: {name}" for place, name in named if name not in OPTIONS and name not in NO_KEYS]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("quoted", "what"),
    [
        ("maekit data convrt", "no such command"),
        ("maekit predict RUN --form csv", "no such option"),
        ("--ovrwrite", "no such option"),
        ("--set data.rot=FOLDER", "no such key: rot"),
        ("rate_hx: 50", "no such key: rate_hx"),
        ("signal.stps", "no such key: stps"),
        ("convert: {streams: {NAME: {keey: NAME}}}", "no such key: keey"),
        ("maekit finetune --from RUN", ""),
        ("--set training.batch_size=...", ""),
        (f"through: {{adapter: range_doppler, function: {HOLE}}}", ""),
    ],
)
def test_what_does_not_exist_is_noticed(keys: set[str], quoted: str, what: str) -> None:
    found = problem(quoted, keys)
    assert re.search(what, found) if what else not found, found
