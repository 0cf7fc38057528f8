"""YAML of recipes: what is read, what is refused, and that nothing else than these two ever happens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maekit.config.yaml import Document, parse, parse_value, read_yaml
from maekit.errors import UserError


@pytest.mark.parametrize(
    "tagged",
    [
        "!!str 5",
        "!!int '5'",
        "!!float 1",
        "!!bool 'true'",
        "!!map {}",
        "!!seq []",
        "!!set {a}",
        "!!binary aGk=",
        "!!null ''",
        "! x",
        "!env X",
        "!!python/name:os.system x",
        "!!python/name:os.system ''",
        "!!python/object/apply:os.system [x]",
        "[1, !!str 2]",
        "!<tag:example.org,2000:x> y",
    ],
)
def test_every_tag_is_refused(tagged: str) -> None:
    with pytest.raises(UserError, match=r"mine:1:.* a YAML tag"):
        parse(f"a: {tagged}\n", "mine")


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "NaN", ".inf", "+.INF", ".nan", "Infinity", "1e999", "-1e400"])
def test_what_is_not_finite_is_refused_unless_it_is_a_word(text: str) -> None:
    with pytest.raises(UserError, match="mine:1:4: a number that is not finite"):
        parse(f"a: {text}\n", "mine")
    assert parse(f"a: '{text}'\n", "mine").data == {"a": text}


def test_numbers_are_exact_or_words() -> None:
    assert parse("a: [001, -07, 0, -0, 00.5, 999999999999999999]\n", "x").data == {
        "a": ["001", "-07", 0, 0, 0.5, 999999999999999999]
    }
    with pytest.raises(UserError, match="too long to be exact"):
        parse("a: 1234567890123456789\n", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\UFFFFFFFF"', "character that does not exist"),
        ('a: "\\U00110000"', "character that does not exist"),
        ('a: "\\uD800"', "no text holds"),
        ("a: " + "[" * 5000, "nested without end"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "nested at most 50"),
        ("a: &x [*x]", "contains itself"),
        ("a: *x", "undefined alias"),
        ("? [a]\n: 1", "a key that is no word"),
        ("a:\tb", "a tab between words"),
        ("a:\n\tb: 1", "a tab in the indentation"),
        ("a: 1\na: 2", "x:2:1: a key given twice.*x:1:1"),
        ("&k a: 1\n*k : 2", "a key given twice"),
        ("a: {b: 1, b: 1}", "a key given twice"),
        ("a: 1\n---\nb: 1", "more than one document"),
        ("<<: {a: 1}", "a merge key"),
        ("%YAML 3.0\n---\na: 1", "not valid YAML"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text, "x")


def test_a_long_text_behind_many_aliases_is_a_bomb_too() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 5_000)}]\n"
    with pytest.raises(UserError, match="too much in one file"):
        parse(text, "x")


def test_too_many_values_are_refused_before_they_are_all_read() -> None:
    text = "a:\n" + "- 1\n" * 250_000
    begin = time.process_time()
    with pytest.raises(UserError, match="at most 20000 values"):
        parse(text, "x")
    assert time.process_time() - begin < 20


def test_an_alias_of_few_values_is_read() -> None:
    assert parse("a: &a {x: 1}\nb: *a\n", "x").data == {"a": {"x": 1}, "b": {"x": 1}}


def test_places(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffa:\n  b: [1,\n   {c: 2}]\n", encoding="utf-8")
    document = read_yaml(path)
    assert document.data == {"a": {"b": [1, {"c": 2}]}}
    assert document.locate(("a", "b")) == f"{path}:2:3"
    assert document.locate(("a", "b", 0)) == f"{path}:2:7"
    assert document.locate(("a", "b", 1, "c")) == f"{path}:3:5"
    assert document.locate(("a", "b", 7, "z")) == document.locate(("a", "b"))
    assert document.locate(("nowhere",)).startswith(str(path))


def test_a_value_on_the_command_line_is_placed_there() -> None:
    with pytest.raises(UserError, match=r"^--set a=\[1: not valid"):
        parse_value("[1", "--set a=[1")
    assert parse_value("{a: [1e-3, yes]}", "") == {"a": [1e-3, "yes"]}
    assert parse_value("", "") is None


@pytest.mark.parametrize("name", ["a" * 300, "nul\0", "x/" * 3000])
def test_paths_no_file_can_have(name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(Path(name))


@given(st.binary(max_size=80))
@example(b"\xff\xfe\x00a")
@example(b"a: \xc3(\n")
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    said = ""
    try:
        assert isinstance(read_yaml(path), Document)
    except UserError as error:
        said = str(error)
    assert not said or str(path) in said


_pieces = st.sampled_from(
    [
        "a",
        "b: ",
        "- ",
        "\n",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "&x ",
        "*x",
        "!!str ",
        "!t ",
        "|",
        ">",
        "'",
        '"',
        "\\",
        "\\u",
        "D800",
        "\\UFFFFFFFF",
        "#",
        "%",
        "---\n",
        "...\n",
        "? ",
        "<<: ",
        ".nan",
        "1e999",
        "0x1f",
        "~",
        "\x85",
        "\u2028",
        "\ufeff",
        "=",
        "9" * 5000,
    ]
)


@given(st.lists(_pieces, max_size=14).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_pieces_of_yaml_are_read_or_refused(text: str) -> None:
    for read in (parse, parse_value):
        try:
            read(text, "fuzz")
        except UserError:
            continue
