"""The house: who may import whom, where modality words may stand, and habits that a test can keep."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("maekit/**/*.py"), *ROOT.glob("adapters/*.py")])

EVERYWHERE = {"maekit.errors"}
TYPES = {"maekit.data.sample", "maekit.data.spec"}
MAY_IMPORT = {
    "maekit.core": {"maekit.core"},
    "maekit.data": {"maekit.data", "maekit.recipe.yaml", "maekit.recipe.validate", "maekit.data_specs"},
    "maekit.tasks": {"maekit.tasks", "maekit.core"},
    "maekit.training": {"maekit.training", "maekit.tasks.task", "maekit.data.loading", "maekit.data.sampler", "maekit.recipe.schema"},
    "maekit.recipe": {"maekit.recipe", "maekit.data.spec", "maekit.recipes"},
    "maekit.report": {"maekit.report"},
    "maekit.adapters": {"maekit.adapters", "maekit.core", "maekit.adapter", *TYPES},
    "maekit.adapter": {"maekit.core", *TYPES},
    "maekit.options": {"maekit.recipe"},
    "maekit.plugins": set(),
    "maekit.testing": {"maekit.adapter", "maekit.core", "maekit.data.sample"},
    "maekit.weights": {"maekit.recipe", "maekit.training.checkpoint", "maekit.build"},
    "maekit.build": {"maekit.plugins", "maekit.options", "maekit.adapter", "maekit.core", "maekit.data", "maekit.recipe", "maekit.tasks"},
    "maekit.verbs": {"maekit"},
    "maekit.study": {"maekit"},
    "maekit.demo": {"maekit"},
    "maekit.reconstruction": {"maekit"},
    "maekit.reporting": {"maekit"},
    "maekit.cli": {"maekit"},
    "maekit": set(),
    "maekit.__main__": {"maekit.cli"},
}  # fmt: skip

MODALITIES = re.compile(
    r"\b(image|images|picture|pictures|radar|heart|ecg|ppg|doppler|spectrogram|audio|chirp|bpm|beats?)\b", re.IGNORECASE
)
KNOW_NO_MODALITY = ("core", "data", "tasks", "training")
EXCEPTIONS = {"image_folder.py"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("maekit", *parts) if parts[0] == "adapters" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if module == room or module.startswith(room + ".")), key=len)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                found.add(deeper if (ROOT / f"{deeper.replace('.', '/')}.py").is_file() else node.module)
    return {name for name in found if name.split(".")[0] == "maekit"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_layers(path: Path) -> None:
    module = module_of(path)
    room = room_of(module)
    allowed = MAY_IMPORT[room] | EVERYWHERE
    for name in imports(path):
        assert any(name == one or name.startswith(one + ".") for one in allowed), f"{module} may not import {name}"


@pytest.mark.parametrize("room", KNOW_NO_MODALITY)
def test_no_modality_word_where_none_is_known(room: str) -> None:
    for path in (ROOT / "maekit" / room).glob("*.py"):
        if path.name in EXCEPTIONS:
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            match = MODALITIES.search(line)
            assert match is None or "image_folder" in line.lower() or "ImageFolder" in line, (
                f"{path}:{number}: {match and match[0]}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_habits(path: Path) -> None:
    text = path.read_text()
    assert path.name not in ("utils.py", "helpers.py", "common.py")
    assert len(text.splitlines()) <= 450
    assert not re.search(r"^\s*print\(", text, re.MULTILINE)
    assert ast.get_docstring(ast.parse(text)), "every file says what it is"


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
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "import adapters"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "import it by that name" in done.stderr
