"""The house: who may import whom, where modality words may stand, and habits that a test can keep."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("maekit/**/*.py"), *ROOT.glob("adapters/*.py")])

EVERYWHERE = {"maekit.errors"}
TYPES = {"maekit.data.sample", "maekit.config.data_spec"}
MAY_IMPORT = {
    "maekit.core": {"maekit.core"},
    "maekit.data": {"maekit.data", "maekit.config.yaml", "maekit.config.validate", "maekit.data_specs"},
    "maekit.tasks": {"maekit.tasks", "maekit.core"},
    "maekit.training": {
        "maekit.training",
        "maekit.tasks.task",
        "maekit.data.loading",
        "maekit.data.sampler",
        "maekit.config.schema",
    },
    "maekit.config": {"maekit.config", "maekit.config.data_spec", "maekit.recipes"},
    "maekit.report": {"maekit.report"},
    "maekit.adapters": {"maekit.adapters", "maekit.core", "maekit.adapter", *TYPES},
    "maekit.adapter": {"maekit.core", *TYPES},
    "maekit.config.options": {"maekit.config"},
    "maekit.plugins": set(),
    "maekit.interop": {"maekit.interop", "maekit.core"},
    "maekit.interop.import_export": {"maekit"},
    "maekit.testing": {"maekit.adapter", "maekit.core", "maekit.data.sample"},
    "maekit.build.weights": {"maekit.core", "maekit.config", "maekit.training.checkpoint", "maekit.build.experiment"},
    "maekit.build.tokenizers": {
        "maekit.plugins",
        "maekit.config.options",
        "maekit.build.weights",
        "maekit.config",
        "maekit.core",
        "maekit.adapter",
    },
    "maekit.build.experiment": {
        "maekit.build.tokenizers",
        "maekit.plugins",
        "maekit.config.options",
        "maekit.adapter",
        "maekit.core",
        "maekit.data",
        "maekit.config",
        "maekit.tasks",
    },
    "maekit.build.models": {
        "maekit.build.experiment",
        "maekit.build.tokenizers",
        "maekit.plugins",
        "maekit.config.options",
        "maekit.core",
        "maekit.config",
        "maekit.tasks",
    },
    "maekit.api": {"maekit"},
    "maekit.build.training_stats": {
        "maekit.adapter",
        "maekit.build.experiment",
        "maekit.data.hdf5.source",
        "maekit.data.sample",
        "maekit.tracking",
    },
    "maekit.inference.predict": {"maekit"},
    "maekit.inference.recording": {
        "maekit.adapter",
        "maekit.build.experiment",
        "maekit.data",
        "maekit.tasks.task",
        "maekit.build.training_stats",
    },
    "maekit.inference.writers": set(),
    "maekit.inference.objects": {
        "maekit.build.experiment",
        "maekit.data",
        "maekit.inference.writers",
        "maekit.inference.recording",
        "maekit.inference.object_writers",
        "maekit.inference.object_pictures",
        "maekit.tasks",
        "maekit.build.training_stats",
        "maekit.training",
    },
    "maekit.inference.object_writers": {"maekit.metrics.plane", "maekit.tasks.detection"},
    "maekit.inference.object_pictures": {
        "maekit.build.experiment",
        "maekit.data",
        "maekit.inference.object_writers",
        "maekit.report",
        "maekit.tasks",
    },
    "maekit.runs.report_objects": {"maekit"},
    "maekit.inference.pictures": {
        "maekit.build.experiment",
        "maekit.data",
        "maekit.inference.writers",
        "maekit.report",
        "maekit.tasks",
    },
    "maekit.cli.predict": {"maekit.cli.console", "maekit.inference.predict"},
    "maekit.profiling.dry_run": {"maekit"},
    "maekit.profiling.bench": {"maekit"},
    "maekit.studies.probe": {"maekit"},
    "maekit.studies.detection_baselines": {"maekit"},
    "maekit.studies.jobs": {"maekit.plugins", "maekit.training.lock", "maekit.training.stopping"},
    "maekit.studies.methods": {"maekit"},
    "maekit.studies.plan": {"maekit"},
    "maekit.studies.scoring": {
        "maekit.studies.jobs",
        "maekit.studies.results",
        "maekit.metrics.scores",
        "maekit.tracking",
    },
    "maekit.studies.scoring_objects": {
        "maekit.studies.scoring",
        "maekit.studies.jobs",
        "maekit.studies.results",
        "maekit.tasks",
    },
    "maekit.studies.study": {"maekit"},
    "maekit.cli.demo": {"maekit"},
    "maekit.runs.reconstruct": {"maekit"},
    "maekit.runs.report": {"maekit"},
    "maekit.runs.compare": {"maekit"},
    "maekit.cli.console": {"maekit.report.terminal"},
    "maekit.cli.data": {"maekit.cli.console", "maekit.plugins", "maekit.config.options", "maekit.data"},
    "maekit.cli.recipe": {"maekit.cli.console", "maekit.config", "maekit.build.experiment", "maekit.build.models"},
    "maekit.cli.study": {"maekit.cli.console", "maekit.studies.study", "maekit.profiling.dry_run", "maekit.report"},
    "maekit.cli.main": {
        "maekit.cli.console",
        "maekit.cli.data",
        "maekit.cli.predict",
        "maekit.cli.recipe",
        "maekit.cli.study",
        "maekit.profiling.bench",
        "maekit.profiling.dry_run",
        "maekit.api",
        "maekit.interop.import_export",
        "maekit.studies.probe",
        "maekit.runs.compare",
        "maekit.cli.demo",
        "maekit.runs.reconstruct",
        "maekit.runs.report",
        "maekit.plugins",
        "maekit.training.run",
        "maekit.training.loop",
    },
    "maekit": set(),
    "maekit.__main__": {"maekit.cli.main"},
}

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
KNOW_NO_MODALITY = ("core", "data", "tasks", "training")
EXCEPTIONS = {"image_folder.py", "packed_folder.py", "pack.py"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("maekit", *parts) if parts[0] == "adapters" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if module == room or module.startswith(room + ".")), key=len)


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it."""
    return {name for name in imported(ast.walk(ast.parse(path.read_text()))) if name.split(".")[0] == "maekit"}


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
    line = re.sub(r"image[ _]?folder", "", line, flags=re.IGNORECASE)
    return {word.lower() for word in WORD.findall(line)} & MODALITIES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_layers(path: Path) -> None:
    module = module_of(path)
    room = room_of(module)
    allowed = MAY_IMPORT[room] | EVERYWHERE
    for name in imports(path):
        assert any(name == one or name.startswith(one + ".") for one in allowed), f"{module} may not import {name}"


@pytest.mark.parametrize("room", KNOW_NO_MODALITY)
def test_no_modality_word_where_none_is_known(room: str) -> None:
    files = [path for path in (ROOT / "maekit" / room).rglob("*.py") if path.name not in EXCEPTIONS]
    assert files
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not modality_words(line), f"{path}:{number}: {modality_words(line)}"


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
    light = {
        "maekit.errors",
        "maekit.cli.console",
        "maekit.cli.data",
        "maekit.cli.predict",
        "maekit.cli.recipe",
        "maekit.cli.study",
    }
    for path in (ROOT / "maekit").glob("cli*.py"):
        names = imported(ast.parse(path.read_text()).body)
        assert {name.split(".")[0] for name in names} - sys.stdlib_module_names <= {"typer", "click", "rich", "maekit"}
        assert {name for name in names if name.startswith("maekit")} <= light


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
