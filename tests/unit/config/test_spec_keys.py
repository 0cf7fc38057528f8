"""Data specs that can be written without reading source: their keys, the shipped ones, and copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maekit.cli.main import app
from maekit.config.data_spec import DataSpec, load_spec, shipped_specs
from maekit.config.describe import spec_keys, spec_schema
from maekit.config.keys import all_paths
from maekit.errors import UserError


def test_every_key_of_the_models_is_there_with_type_and_meaning() -> None:
    keys = spec_keys()
    assert not [key.path for key in keys if not key.type or len(key.meaning) < 5]
    names = {tuple(part for part in key.path.replace("[]", "").split(".") if part != "NAME") for key in keys}
    assert set(all_paths(DataSpec)) <= names


def test_defaults_and_types_are_those_of_the_models() -> None:
    keys = {key.path: key for key in spec_keys()}
    assert keys["name"].default == ""
    assert (keys["missing_budget"].type, keys["missing_budget"].default) == ("number from 0 to 1", "0.5")
    assert keys["convert.streams.NAME.rearrange"].default == "none"
    assert "einops" in keys["convert.streams.NAME.rearrange"].meaning
    assert keys["signal.rate_hz"].type == "number above 0 or mapping"


def test_a_section_and_a_typo() -> None:
    assert [key.path for key in spec_keys("valid")] == ["valid", "valid.path"]
    with pytest.raises(UserError, match=r"no such key.*Did you mean 'convert.table'"):
        spec_keys("convert.tabel")


def test_the_commands_print_them() -> None:
    text = CliRunner().invoke(app, ["data", "schema", "window"], env={"COLUMNS": "400"})
    assert text.exit_code == 0, text.output
    assert "window.seconds  (number above 0; default none)  length along the time axis" in text.output
    schema = CliRunner().invoke(app, ["data", "schema", "--json"])
    assert json.loads(schema.output) == spec_schema()
    listed = CliRunner().invoke(app, ["data", "list"], env={"COLUMNS": "400"})
    assert [line.split()[0] for line in listed.output.splitlines()] == list(shipped_specs())
    assert all("licence: " in line for line in listed.output.splitlines())


@pytest.mark.parametrize("name", ["ti_dca1000_vital_signs"])
def test_a_copy_is_the_spec_with_its_comments(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["data", "copy", name, "--to", str(tmp_path / "mine.yaml")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine.yaml").read_bytes() == shipped_specs()[name].read_bytes()
    assert load_spec(tmp_path / "mine.yaml") == load_spec(name)
    again = CliRunner().invoke(app, ["data", "copy", name, "--to", str(tmp_path / "mine.yaml")])
    assert isinstance(again.exception, UserError)
    assert "would overwrite" in str(again.exception)
    CliRunner().invoke(app, ["data", "copy", name, "--to", str(tmp_path / "folder")])
    assert (tmp_path / "folder" / f"{name}.yaml").is_file()
