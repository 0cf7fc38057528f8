"""The wheel holds everything, and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, for setuptools leaves build/ and an egg-info where it works; tests may also run where git is not.
    for name in ("maekit", "adapters", "recipes", "data_specs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return next(folder.glob("*.whl"))


def test_nothing_is_forgotten(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for folder, inside in (("maekit", ""), ("adapters", "maekit/"), ("recipes", "maekit/"), ("data_specs", "maekit/")):
        for path in (ROOT / folder).rglob("*"):
            # Whatever its suffix: a stylesheet that somebody adds tomorrow must not vanish either.
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{inside}{path.relative_to(ROOT)}")
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True,
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = [
        sys.executable,
        "-c",
        f"import maekit; assert maekit.__file__.startswith({str(site)!r}); from maekit.cli.main import main; main()",
    ]
    for arguments in (["--help"], ["recipe", "check"], ["demo", "--quick", "--runs", str(tmp_path / "runs")]):
        done = subprocess.run(
            [*run, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "spectral peak" in done.stdout
    assert (tmp_path / "runs/pretrain_quick/report.html").stat().st_size > 50_000
