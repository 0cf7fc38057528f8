"""What is shown of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from maekit.cli.main import app
from maekit.data.inspect_folder import inspect_folder
from maekit.errors import UserError


def test_files_are_grouped_by_ending_and_layout(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text("t,ppg\n0,1.5\n1,2.5\n2,3.5\n")
    (tmp_path / "odd.csv").write_text("t,ecg,ppg\n0,1,2\n1,2,3\n2,3,4\n")
    np.save(tmp_path / "a.npy", np.zeros((4, 3)))
    (tmp_path / "notes.docx").write_bytes(b"x")
    (tmp_path / ".hidden.csv").write_text("x")
    text = "\n".join(inspect_folder(tmp_path))
    assert ".csv: 6 files" in text
    assert "2 layouts among 6" in text
    assert "5 x t float64 of 1 axes; ppg float64 of 1 axes" in text
    assert "1 x t float64 of 1 axes; ecg" in text
    assert ".npy: 1 files" in text
    assert "a format that is not read" in text
    done = CliRunner().invoke(app, ["data", "inspect", str(tmp_path)])
    assert done.exit_code == 0
    assert ".csv: 6 files" in done.output


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an empty folder"):
        list(inspect_folder(tmp_path))
