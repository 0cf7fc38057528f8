"""A modality from outside, given as a file and as an installed package."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from maekit import plugins
from maekit.errors import UserError

EXAMPLE = Path(__file__).parent / "greenhouse.py"

SPEC = """\
name: greenhouse
files: "*.h5"
records: "/*"
signal: {path: climate, axes: [time, channel], channels: [temperature, humidity], unit: "°C, %", rate_hz: 0.000277778}
window: {axis: time, length: 48, hop: 24}
split: {validation: [greenhouse/house3]}
"""

RECIPE = """\
name: greenhouse
adapter: {name: greenhouse}
data: {spec: spec.yaml, root: DATA}
model: {encoder: {width: 16, depth: 1, heads: 2}, decoder: {width: 8, depth: 1, heads: 2}, mask_ratio: 0.5}
schedule: {epochs: 1}
training: {batch_size: 8}
"""


@pytest.fixture
def greenhouse(tmp_path: Path) -> Path:
    code = f"import sys; sys.path.insert(0, {str(EXAMPLE.parent)!r}); import greenhouse, pathlib; greenhouse.Greenhouse.simulate(pathlib.Path({str(tmp_path / 'data')!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("DATA", str(tmp_path / "data")))
    return tmp_path


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_a_plugin_file_pretrains(greenhouse: Path) -> None:
    command = [sys.executable, "-m", "maekit", "--plugin", str(EXAMPLE), "pretrain", str(greenhouse / "recipe.yaml"),
               "--runs", str(greenhouse / "runs")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "°C, %" in (greenhouse / "runs/greenhouse/report.html").read_text()
    without = subprocess.run(
        [c for c in command if c not in ("--plugin", str(EXAMPLE))], capture_output=True, text=True, check=False
    )
    assert without.returncode == 2
    assert "no adapter of this name" in without.stderr
    assert "recipe.yaml:2:11" in without.stderr


def test_an_installed_package_pretrains(greenhouse: Path, tmp_path: Path) -> None:
    """The same class in a package with an entry point (as pip lays it out)."""
    site = tmp_path / "site"
    (site / "greenhouse-1.0.dist-info").mkdir(parents=True)
    (site / "greenhouse-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: greenhouse\nVersion: 1.0\n")
    (site / "greenhouse-1.0.dist-info/entry_points.txt").write_text(
        "[maekit.adapters]\ngreenhouse = greenhouse_climate:Greenhouse\n"
    )
    source = EXAMPLE.read_text().replace('@register("adapters", "greenhouse")\n', "")
    (site / "greenhouse_climate.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "maekit",
        "pretrain",
        str(greenhouse / "recipe.yaml"),
        "--runs",
        str(greenhouse / "runs"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(site), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = (", "not valid Python"), ("1 / 0", r"the plug-in failed \(ZeroDivisionError"), ("x = 1", "registers nothing"),
     ("from maekit.plugins import register\n@register('adapters', 'image')\nclass A: ...", "is taken among the installed")],
)  # fmt: skip
def test_bad_plugin_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        plugins.load_file(path)
    with pytest.raises(UserError, match="no such plug-in"):
        plugins.load_file(tmp_path / "other.py")


def test_built_in_names_come_from_entry_points() -> None:
    declared = {
        kind: {p.name for p in importlib.metadata.entry_points(group=f"maekit.{kind}")}
        for kind in ("maskings", "targets", "tasks")
    }
    assert declared["maskings"] >= {"random", "block", "grid", "span", "axis"}
    for kind, names in declared.items():
        for name in names:
            assert callable(plugins.find(kind, name))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Did you mean 'heart_rate'"):
        plugins.find("adapters", "hart_rate")
