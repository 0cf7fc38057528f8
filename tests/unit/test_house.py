"""The house: where modality words may stand, and habits that a test can keep."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("maekit/**/*.py"), *ROOT.glob("adapters/**/*.py")])

MODALITIES = {
    "image",
    "images",
    "picture",
    "pictures",
    "radar",
    "radars",
    "heart",
    "hearts",
    "ecg",
    "ppg",
    "doppler",
    "spectrogram",
    "spectrograms",
    "audio",
    "chirp",
    "chirps",
    "bpm",
    "beat",
    "beats",
}
# `heart_rate`, `HeartRate` and "heart-rate" are all the word heart.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LIGHT = {
    "maekit",
    "maekit.errors",
    "maekit.escaping",
    "maekit.files",
    *(f"maekit.cli.{path.stem}" for path in (ROOT / "maekit/cli").glob("*.py")),
}
KNOW_NO_MODALITY = ("core", "data", "tasks", "training")
EXCEPTIONS = {"images", "random_source.py"}  # image folders, which data/ knows by name
ALLOWED = {"label_kinds": {"picture", "pictures", "image", "images"}, "cells.py": {"bpm"}}
"""What label kinds call what they draw, and a unit that heads of tables state."""


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute here"
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                found.add(deeper if (ROOT / f"{deeper.replace('.', '/')}.py").is_file() else node.module)
    return found


def modality_words(line: str) -> set[str]:
    # The one kind of folder that data/ knows by name.
    line = re.sub(r"data\.images(\.\w+)?|image[ _]?folder", "", line, flags=re.IGNORECASE)
    return {word.lower() for word in WORD.findall(line)} & MODALITIES


@pytest.mark.parametrize("room", KNOW_NO_MODALITY)
def test_no_modality_word_where_none_is_known(room: str) -> None:
    files = [path for path in (ROOT / "maekit" / room).rglob("*.py") if not EXCEPTIONS & {path.name, path.parent.name}]
    assert files
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            words = modality_words(line) - ALLOWED.get(path.name, set()) - ALLOWED.get(path.parent.name, set())
            assert not words, f"{path}:{number}: {words}"


@pytest.mark.parametrize(
    "line", ["heart_rate = 1", "class RangeDoppler:", "# an ECG", "'to_bpm'", "image_size", "ImageFolder of images"]
)
def test_modality_words_are_seen_inside_names(line: str) -> None:
    assert modality_words(line)
    assert not modality_words("ImageFolderSource reads an image_folder by heartening means")


def test_the_core_stands_on_torch_einops_and_timm() -> None:
    for path in (ROOT / "maekit/core").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(ast.walk(ast.parse(path.read_text())))}
        assert roots - sys.stdlib_module_names <= {"torch", "einops", "timm", "jaxtyping", "maekit"}, path


def test_the_command_line_starts_with_little() -> None:
    """What a command needs is imported inside it, so that `maekit --help` answers at once."""
    for path in (ROOT / "maekit/cli").glob("*.py"):
        if path.stem == "demo":  # imported inside its command
            continue
        names = imported(ast.parse(path.read_text()).body)
        assert {name.split(".")[0] for name in names} - sys.stdlib_module_names <= {"typer", "click", "rich", "maekit"}
        assert {name for name in names if name.startswith("maekit")} <= LIGHT


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_habits(path: Path) -> None:
    text = path.read_text()
    assert path.name not in ("utils.py", "helpers.py", "common.py")
    assert len(text.splitlines()) <= 450
    tree = ast.parse(text)
    assert not any(isinstance(node, ast.Name) and node.id == "print" for node in ast.walk(tree)), "print"
    assert ast.get_docstring(tree), "every file says what it is"


def test_public_names_are_documented() -> None:
    bare = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                bare.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert not bare


def test_the_adapters_folder_has_one_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import adapters"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "import it by that name" in done.stderr


def test_the_drawing_shows_the_rooms_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = [set(floor.split(" | ")) for floor in contracts[0]["layers"]]
    drawing = (ROOT / "docs/architecture.md").read_text().split("```")[1]
    drawn = re.findall(r"maekit\.\w+", drawing)
    rooms = {f"maekit.{path.parent.name}" for path in (ROOT / "maekit").glob("*/__init__.py")} | {"maekit.adapters"}
    assert rooms <= set(drawn) <= set().union(*floors)
    order = [next(number for number, floor in enumerate(floors) if room in floor) for room in drawn]
    assert order == sorted(order)


def test_few_files_lie_outside_a_room() -> None:
    assert len([*(ROOT / "maekit").glob("*.py")]) <= 12
    assert len([*(ROOT / "adapters").glob("*.py")]) <= 4


def test_the_architecture_page_names_what_exists() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    places = re.findall(r"`((?:maekit|adapters)/[\w/]+\.py)(?::([\w.]+))?`", page)
    assert len(places) > 30
    for path, name in places:
        assert (ROOT / path).is_file(), path
        scope: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
        for part in name.split(".") if name else ():
            defined = [node for node in scope if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
            assert defined, f"{path} has no {name}"
            scope = defined[0].body


def test_the_readme_shows_the_adapter_of_the_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    example = (ROOT / "tests/greenhouse.py").read_text()
    shown = next(block for block in blocks if "Greenhouse" in block)
    assert len([line for line in shown.splitlines() if line.strip()]) < 20
    for line in shown.splitlines():
        assert line in example.splitlines() or line.strip() == "axes.plot(x.T)"
