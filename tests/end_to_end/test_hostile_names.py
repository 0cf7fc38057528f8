"""Names from files and users (classes, keys, files) that would act on a terminal or hide: shown escaped everywhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest

from maekit.cli.console import err, out, print_table, show
from maekit.cli.main import main
from maekit.errors import UserError
from maekit.escaping import visible
from maekit.report import svg
from maekit.report.content import Page, Picture, Table
from maekit.report.html import write_report

NAMES = {
    "escape sequence": "a\x1b[2Jb",
    "C1 control": "a\x9b2Jb",
    "line break": "a\nerror b",
    "carriage return": "a\rb",
    "right to left": "a\u202egnp.exe",
    "isolate": "a\u2067b",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "emoji name": "a :x: b",
    "markup": "a [red]b [link=x]c",
}
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["maekit", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    written = capsys.readouterr()
    return code, written.out + written.err


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_in_a_recording(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group(name)
        group.attrs["subject"] = name
        group.create_dataset("x", data=np.random.default_rng(0).random(500), dtype="f4").attrs[name] = name
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        'name: hostile\nfiles: "*.h5"\nrecords: "/*"\nsignal: {path: x, axes: [time], rate_hz: 50}\n'
        "group: {attribute: subject}\nwindow: {axis: time, length: 100}\n"
    )
    for arguments in (("inspect", tmp_path / "a.h5"), ("check", spec, "--root", tmp_path)):
        _, text = run(capsys, monkeypatch, "data", *arguments)
        assert visible(name) in text or repr(name)[1:-1] in text, text
        assert not ACTING.search(text)
        assert "\nerror b" not in text


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_in_an_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = "".join(f"\\U{ord(character):08x}" for character in name)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f'"{quoted}": 1\nname: "{quoted}"\n')
    for arguments in (
        ("recipe", "check", recipe),
        ("data", "inspect", tmp_path / name.replace("/", "")),
        ("run", name),
    ):
        code, text = run(capsys, monkeypatch, *arguments)
        assert code == 2, text
        assert not ACTING.search(text), text
        assert "\nerror b" not in text
    error = UserError("no such thing as " + name, location=name, value=name, expected=name, hint=visible(name))
    assert not ACTING.search(str(error))
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_on_the_console(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(name)
    assert capsys.readouterr().out == visible(name) + "\n"
    print_table(Table(name, [name, "b"], [[name, 1]], name))
    assert not ACTING.search(capsys.readouterr().out)
    out.print(name, markup=False)
    err.print(name, markup=False)
    assert not ACTING.search("".join(capsys.readouterr()))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_in_a_report(name: str, tmp_path: Path) -> None:
    with svg.styled():
        figure, axes = plt.subplots()
        axes.set_title(name + " $x_1$")
        picture = svg.fragment(figure)
        plt.close(figure)
    assert "x_1$" in picture
    table = Table(name, [name], [[name]], name)
    page = Page(name, name, None, pictures=[Picture((picture,), name, name)], tables=[table], environment={name: name})
    text = write_report(page, tmp_path / "page.html").read_text()
    assert not ACTING.search(text)
    assert "<svg" in text


def test_usual_text_stays() -> None:
    for text in ("ä é 漢字 – µ\u00a0° 🫀", "a\\b $x$ [b]", ""):
        assert visible(text) == text
    assert visible("a\tb\n", keep="\n") == "a\\tb\n"
    assert visible("\udcff") == "\\udcff"
