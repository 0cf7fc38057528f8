"""The page and its figures from plain data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from maekit.report import figures
from maekit.report.content import Page, Table, cell
from maekit.report.html import write_report
from maekit.report.terminal import render_table
from maekit.tasks.verdict import pretraining_verdict

ROWS = [
    {
        "kind": kind,
        "step": s,
        "epoch": s / 10,
        "loss": 1 / (1 + s),
        "lr": 1e-3,
        "loss_mean_patch": 1.0,
        "effective_rank": 5.0 + s,
    }
    for s in range(1, 30)
    for kind in ("train", "validation")
]


def test_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    odd = "<img src=x onerror=alert(1)> $a_b$ [red]"
    table = Table(odd, ["", odd], [[odd, 0.12345], ["other", float("nan")]], note=odd, best=frozenset({(0, 1)}))
    picture = figures.reconstruction(
        lambda axes, x, title: axes.plot(x[0]),
        [("original", np.ones((1, 9), np.float32)), ("masked", np.full((1, 9), np.nan, np.float32))],
        caption=odd,
        shared=np.ones((1, 9), np.float32),
    )
    confusion = figures.confusion(np.array([[3, 1], [0, 4]]), [odd, "b"])
    content = Page(
        odd, odd, False, figures.curves(ROWS), [picture, confusion], [table], recipe=odd, environment={odd: odd}
    )
    page = write_report(content, tmp_path / "report.html").read_text()
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("&lt;img src=x") >= 7
    assert "<strong>0.123</strong>" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "figures on one page do not share ids"
    assert set(re.findall(r'xlink:href="#([^"]+)"', page)) <= set(ids)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"], "no partial file is left"
    assert "prefers-color-scheme: dark" in page


def test_verdicts() -> None:
    worse = [{"kind": "validation", "step": 1, "loss": 1.1, "loss_mean_patch": 1.0, "loss_interpolation": 1.4}]
    text, good = pretraining_verdict(worse)
    assert not good
    assert "is NOT below" in text
    text, good = pretraining_verdict([{**worse[0], "loss": 0.9}])
    assert good
    assert "is below" in text
    assert pretraining_verdict([]) == ("Nothing was measured yet.", None)


def test_cells_and_terminal() -> None:
    assert [cell(v) for v in (0.12345, 12.345, 123456.0, 1234, "a", float("nan"))] == [
        "0.123",
        "12.3",
        "123,456",
        "1,234",
        "a",
        "-",
    ]
    assert render_table(Table("[b]", ["[i]"], [["[red]x"]])).row_count == 1


def test_agreement_draws_limits() -> None:
    rng = np.random.default_rng(0)
    label = rng.uniform(60, 90, 200)
    picture = figures.agreement(label + 2 + rng.standard_normal(200), label, "bpm")
    assert "bias 2.0" in picture.svg or "bias 1.9" in picture.svg or "bias 2.1" in picture.svg


def test_page_of_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    """A byte in a file name that is not UTF-8 is written as an escape and does not stop the report."""
    page = write_report(Page("r", "in odd\udcff.h5", None), tmp_path / "report.html")
    assert r"odd\udcff.h5" in page.read_text(encoding="utf-8")
