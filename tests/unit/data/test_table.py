"""Text tables as programs and devices write them: what is found by looking, and what is refused as doubtful."""

from __future__ import annotations

import numpy as np
import pytest

from maekit.data.convert.table import TableOptions, read_table
from maekit.errors import UserError

LOOK = TableOptions()


@pytest.mark.parametrize(
    ("content", "names", "last"),
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"], [3, 4]),
        ("sep=;\na;b\nms;mV\n1;2\n3;4\n", ["a", "b"], [3, 4]),  # Shimmer's Consensys
        ("# made by a device\n# rate 100\n1\t2\n3\t4\n", ["0", "1"], [3, 4]),  # comments above columns without names
        (",0,1\n0,5.5,6.5\n1,7.5,8.5\n", ["0", "1"], [7.5, 8.5]),  # pandas with names that are numbers, and its index
        ("  1.5   2.5\n 3.5    4.5\n", ["0", "1"], [3.5, 4.5]),  # numpy.savetxt with runs of blanks
        ("t;x\n1;2\n3;4\n", ["t", "x"], [3, 4]),
    ],
)
def test_the_block_of_numbers_is_found(content: str, names: list[str], last: list[float]) -> None:
    table = read_table(content.encode(), "file.csv", LOOK)
    assert list(table.arrays) == names
    assert [float(table.numbers(name)[-1]) for name in names] == last
    assert all(len(table.numbers(name)) == 2 for name in names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(encoding: str) -> None:
    table = read_table("Größe,b\n1,2\n".encode(encoding), "file.csv", LOOK)
    assert list(table.arrays) == ["Größe", "b"]


def test_another_encoding_is_asked_for_and_read() -> None:
    content = "Größe,b\n1,2\n".encode("latin-1")
    with pytest.raises(UserError, match=r"file\.csv:1: .*UTF-8.*encoding.*latin-1"):
        read_table(content, "file.csv", LOOK)
    assert list(read_table(content, "file.csv", TableOptions(encoding="latin-1")).arrays) == ["Größe", "b"]


def test_a_torn_last_line_is_named() -> None:
    with pytest.raises(UserError, match=r"file\.csv:4: .*last line.*cut off"):
        read_table(b"a,b\n1,2\n3,4\n5", "file.csv", LOOK)


def test_a_first_row_that_could_be_names_or_values_is_refused_and_its_hint_works() -> None:
    content = b"2,4,6\n0.5,0.25,0.125\n1.5,1.25,1.125\n"
    with pytest.raises(UserError, match="header"):
        read_table(content, "file.csv", LOOK)
    named = read_table(content, "file.csv", TableOptions(header=True))
    assert np.array_equal(named.numbers("2"), [0.5, 1.5])
    plain = read_table(content, "file.csv", TableOptions(header=False))
    assert np.array_equal(plain.numbers("0"), [2, 0.5, 1.5])


def test_blank_cells_are_missing_and_other_text_is_an_error_with_its_line() -> None:
    table = read_table(b"a,b\n1,\n,NaN\n3,4\n", "file.csv", LOOK)
    assert np.array_equal(table.numbers("a"), [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(table.numbers("b"), [np.nan, np.nan, 4], equal_nan=True)
    with pytest.raises(UserError, match=r"file\.csv:3.*'seven'"):
        read_table(b"a,b\n1,2\n3,seven\n", "file.csv", LOOK).numbers("b")


def test_names_that_look_like_numbers_stay_names() -> None:
    table = read_table(b"who,x\n007,1\n1e3,2\n", "file.csv", LOOK)
    assert table.numbers_or_text("who").tolist() == ["007", "1e3"]
    assert np.array_equal(table.numbers_or_text("x"), [1, 2])
