"""The wheel holds everything, and works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return next(folder.glob("*.whl"))


def test_nothing_is_forgotten(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("maekit/")}
    expected = {
        str(p.relative_to(ROOT)) for p in (ROOT / "maekit").rglob("*") if p.suffix in (".py", ".jinja", ".typed")
    }
    for folder in ("adapters", "recipes", "data_specs"):
        expected |= {
            f"maekit/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yaml", ".md")
        }
    assert inside == expected


def test_the_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = [
        sys.executable,
        "-c",
        "import sys, maekit; assert 'site' in maekit.__file__; from maekit.cli import main; main()",
    ]
    for arguments in (["--help"], ["recipe", "check"], ["demo", "--quick", "--runs", str(tmp_path / "runs")]):
        done = subprocess.run(
            [*run, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "spectral peak" in done.stdout
    assert (tmp_path / "runs/pretrain_quick/report.html").stat().st_size > 50_000
