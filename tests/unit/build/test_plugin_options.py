"""Options of plug-ins, read from the source: the same as the classes have, shown with the recipe, checked without torch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from maekit import plugins
from maekit.build.plugin_options import SET_BY_MAEKIT, check_options, default_options, read_options
from maekit.config.load import load_recipe
from maekit.config.shipped import shipped_recipes
from maekit.errors import UserError

RECIPE = "heart_rate/demo_finetune"


def signature(cls: type) -> dict[str, object]:
    """Keyword-only parameters of a class and of the bases that it passes others on to, with their defaults."""
    parameters: dict[str, object] = {}
    for base in cls.__mro__:
        constructor = base.__dict__.get("__init__")
        if not inspect.isfunction(constructor):
            continue
        for parameter in inspect.signature(constructor).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                parameters.setdefault(parameter.name, parameter.default)
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(constructor).parameters.values()):
            break
    return parameters


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)])
def test_what_is_read_is_what_the_class_has(kind: plugins.Kind, name: str) -> None:
    options = read_options(kind, name)
    expected = signature(plugins.find(kind, name))
    fixed = SET_BY_MAEKIT.get(kind, frozenset())
    assert options.complete
    assert options.names == set(expected) - fixed
    for option, default in options.defaults.items():
        assert default.value == expected[option]
    written = {option for option, value in expected.items() if value is not inspect.Parameter.empty}
    assert set(options.defaults) == written - fixed


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_with_all_defaults_is_a_recipe_with_the_same_options(name: str, tmp_path: Path) -> None:
    loaded = load_recipe(name)
    defaults = default_options(loaded)
    assert all(origin.startswith("default of ") for _, origin in defaults.values())
    path = tmp_path / "shown.yaml"
    path.write_text(loaded.yaml(origins=True, defaults=defaults))
    shown = load_recipe(path)
    check_options(shown)
    assert default_options(shown) == {}
    assert shown.recipe.adapter.options.items() >= loaded.recipe.adapter.options.items()


def test_options_and_plugins_that_are_none_are_refused_where_they_stand() -> None:
    cases = {
        "adapter.patch_sec=1": r"^--set adapter.patch_sec=1: heart_rate has no option patch_sec.*Did you mean 'patch_s'",
        "model.backbone=comb": r"no encoder of this name.*It is now called 'harmonic_cnn'",
        "model.backbone={name: harmonic_cnn, taps: [0]}": r"has no option taps.*It is now called 'offsets'",
        "task.mean=3": "regression has no option mean",
        "augment=[{name: gian, db: 3}]": "Did you mean 'gain'",
        "augment=[{name: gain, dB: 3}]": "gain has no option dB.*Did you mean 'db'",
        "model.masking.name=spam": "Did you mean 'span'",
    }
    for setting, message in cases.items():
        with pytest.raises(UserError, match=message):
            check_options(load_recipe(RECIPE, [setting]))


def test_a_plugin_file_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})
    (tmp_path / "mine.py").write_text(
        "from maekit.plugins import register\n"
        "LENGTH = 7\n"
        "class Base:\n"
        "    def __init__(self, info, *, patch=LENGTH, names=('a', 'b')): ...\n"
        "@register('adapters', 'mine')\n"
        "class Mine(Base):\n"
        "    def __init__(self, info, *, gain: float = 2 ** 0.5, **options): super().__init__(info, **options)\n"
    )
    plugins.load_file(tmp_path / "mine.py")
    options = read_options("adapters", "mine")
    assert options.complete
    assert options.names == {"patch", "names", "gain"}
    assert {name: default.value for name, default in options.defaults.items()} == {"patch": 7, "names": ("a", "b")}
    assert options.defaults["patch"].location == "mine.py:4"


def test_what_answers_at_once_imports_nothing_heavy() -> None:
    """Help, lists, whole recipes and mistakes in them."""
    code = (
        "import sys, maekit.cli.main as cli\n"
        "for line in ('--help', 'recipe --help', 'recipe list', 'recipe show RECIPE', 'recipe schema',\n"
        "             'recipe check RECIPE --set model.backbone=comb', 'study x --over a'):\n"
        "    sys.argv = ['maekit', *line.replace('RECIPE', 'heart_rate/demo_finetune').split()]\n"
        "    try: cli.main()\n"
        "    except SystemExit: pass\n"
        "    heavy = {'torch', 'numpy', 'h5py', 'scipy', 'matplotlib', 'timm'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "default of heart_rate, heart_rate.py:" in done.stdout
