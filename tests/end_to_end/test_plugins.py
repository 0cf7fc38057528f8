"""A modality from outside, given as a file and as an installed package."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from maekit import plugins
from maekit.errors import UserError

EXAMPLE = Path(__file__).parents[1] / "greenhouse.py"

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


MINE = """\
from maekit.plugins import register
@register("adapters", "mine")
class Mine: ...
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
    command = [
        sys.executable,
        "-m",
        "maekit",
        "--plugin",
        str(EXAMPLE),
        "pretrain",
        str(greenhouse / "recipe.yaml"),
        "--runs",
        str(greenhouse / "runs"),
    ]
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
    package(site, "greenhouse", "greenhouse = greenhouse_climate:Greenhouse")
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
    [
        ("x = (", r"mine\.py:1:5: not valid Python"),
        ("x = 1\n\n1 / 0", r"mine\.py:3: the plug-in failed \(ZeroDivisionError"),
        ("import sys\nsys.exit(3)", r"mine\.py:2: the plug-in failed \(SystemExit"),
        ("x = 1", "registers nothing"),
        (MINE + "raise KeyError('gone')", r"mine\.py:4: the plug-in failed \(KeyError"),
        (
            "from maekit.plugins import register\n@register('adapters', 'image')\nclass A: ...",
            "is taken among the installed",
        ),
    ],
)
def test_bad_plugin_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    for written in (path, Path("mine.py")):
        with pytest.raises(UserError, match=message):
            plugins.load_file(written)
    assert "mine" not in plugins.names("adapters"), "a file that failed left its name behind"
    with pytest.raises(UserError, match="no such plug-in"):
        plugins.load_file(tmp_path / "other.py")


def test_a_syntax_error_is_placed_in_the_file_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_helper.py").write_text("\nx = (")
    (tmp_path / "mine.py").write_text("import broken_helper")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"broken_helper\.py:2:5"):
        plugins.load_file(tmp_path / "mine.py")


def test_plugin_files_do_not_take_each_others_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})
    mine, theirs = tmp_path / "mine.py", tmp_path / "folder/mine.py"
    theirs.parent.mkdir()
    mine.write_text(MINE)
    theirs.write_text(MINE)
    plugins.load_file(mine)
    plugins.load_file(mine)
    with pytest.raises(UserError, match=rf"taken among the adapters of {mine}"):
        plugins.load_file(theirs)
    theirs.write_text(MINE.replace('"mine"', '"theirs"'))
    plugins.load_file(theirs)
    assert {"mine", "theirs", "image"} <= set(plugins.names("adapters"))
    assert plugins.find("adapters", "mine").__module__ != plugins.find("adapters", "theirs").__module__


def package(site: Path, name: str, entry: str) -> None:
    """Lay out an installed package that declares one adapter, as pip would."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[maekit.adapters]\n{entry}\n")


def test_two_packages_of_one_name_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "ours", "climate = ours:Climate")
    package(tmp_path, "theirs", "climate = theirs:Climate")
    package(tmp_path, "shadow", "image = shadow:Image")
    package(tmp_path, "broken", "broken = broken_package:Broken")
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"two packages declare the adapter 'climate'.*ours, theirs"):
        plugins.find("adapters", "climate")
    with pytest.raises(UserError, match=r"two packages declare the adapter 'image'.*maekit, shadow"):
        plugins.find("adapters", "image")
    with pytest.raises(UserError, match=r"cannot be imported \(RuntimeError: no licence\)"):
        plugins.find("adapters", "broken")


def test_names_are_listed_without_importing_what_is_behind_them() -> None:
    code = (
        "import sys; from maekit import plugins; "
        "listed = [plugins.names(k) for k in ('adapters', 'maskings', 'targets', 'tasks')]; "
        "assert all(listed), listed; sys.exit(' '.join({'torch', 'numpy', 'maekit.core'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_built_in_names_come_from_entry_points() -> None:
    declared = {
        kind: {p.name for p in importlib.metadata.entry_points(group=f"maekit.{kind}")}
        for kind in ("encoders", "maskings", "targets", "tasks")
    }
    assert declared["encoders"] >= {"transformer", "cnn", "tcn"}
    assert declared["maskings"] >= {"random", "block", "grid", "span"}
    for kind, names in declared.items():
        for name in names:
            assert callable(plugins.find(kind, name))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Did you mean 'heart_rate'"):
        plugins.find("adapters", "hart_rate")


def test_the_readme_shows_the_adapter_that_is_tested() -> None:
    readme = (EXAMPLE.parents[1] / "README.md").read_text()
    shown = readme[readme.index('@register("adapters", "greenhouse")') :].partition("```")[0].strip()
    assert shown in EXAMPLE.read_text()
    assert len(shown.splitlines()) < 20
