"""Text tables as programs and devices write them: what is found by looking, and what is refused as doubtful."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from maekit.data.convert.table import read_table
from maekit.data.convert.table_layout import TableOptions
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
        (
            "Subject;007\nDevice;Foo v2\n\nt;x\ns;mV\n" + "1;2\n" * 9 + "3;4\n",
            ["t", "x"],
            [3, 4],
        ),  # facts above a blank line
        ("t;x\n\n1;2\n3;4\n", ["t", "x"], [3, 4]),
        ("t;x\n1;2\n3;4\n# end of recording\n", ["t", "x"], [3, 4]),
    ],
)
def test_the_block_of_numbers_is_found(content: str, names: list[str], last: list[float]) -> None:
    table = read_table(content.encode(), "file.csv", LOOK)
    assert list(table.arrays) == names
    assert [float(table.numbers(name)[-1]) for name in names] == last
    assert all(len(table.numbers(name)) == content.count("1;2") + 1 for name in names if ";" in content)


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


def test_whole_numbers_that_rise_evenly_above_others_could_be_names() -> None:
    with pytest.raises(UserError, match=r"names or values.*10, 20, 30.*header"):
        read_table(b"10,20,30\n5,9,7\n6,8,8\n", "file.csv", LOOK)
    ramps = read_table(b"10,20,30\n11,22,33\n5,6,9\n", "file.csv", LOOK)
    assert np.array_equal(ramps.numbers("0"), [10, 11, 5]), "rows that rise evenly themselves"


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


OPENSIGNALS = (
    "# OpenSignals Text File Format\n"
    '# {"00:07": {"sensor": ["ECG"], "column": ["nSeq", "I1", "A2"], "sampling rate": 1000, "resolution": [4, 1, 10]}}\n'
    "# EndOfHeader\n"
    "0\t1\t496\t\n1\t1\t503\t\n2\t1\t510\t\n"
)


@pytest.mark.parametrize(
    ("content", "names", "rate_hz"),
    [
        (OPENSIGNALS, ["nSeq", "I1", "A2"], 1000),
        ("# Simple Text Format\n# Sampling Rate (Hz):= 100.00\n# Labels:= ECG\n1.5\n2.5\n", ["ECG"], 100),
        ("# Sampling Rate (kHz):= 2\n# Labels:= x\ty\n1.5\t2\n2.5\t3\n", ["x", "y"], 2000),
        ("%Sample Rate = 250 Hz\nSample Index, EXG 0\n1, 2.5\n2, 3.5\n", ["Sample Index", "EXG 0"], 250),
        ("# t x\n1.5 2\n2.5 3\n", ["t", "x"], None),
        ("# made by a device in 2020\n1.5\n2.5\n", ["0"], None),
        ("# fs: 100\n# sampling rate: 200\n1.5\n2.5\n", ["0"], None),  # two rates are none
        ("# {not json\n1.5\n2.5\n", ["0"], None),
    ],
)
def test_names_and_rate_are_read_from_comments(content: str, names: list[str], rate_hz: float | None) -> None:
    table = read_table(content.encode(), "file.txt", LOOK)
    assert list(table.arrays) == names
    assert table.rate_hz == rate_hz
    if content.startswith("#"):  # no row names the columns, so that they have numbers too
        assert np.array_equal(table.numbers(names[-1]), table.numbers(len(names) - 1))


def test_two_devices_in_one_head() -> None:
    head = '# {"a": {"column": ["nSeq", "A1"], "sampling rate": 100}, "b": {"column": ["nSeq", "A1"], "sampling rate": 100}}\n'
    table = read_table((head + "0\t1\t2\t3\n1\t1\t2\t3\n").encode(), "file.txt", LOOK)
    assert list(table.arrays) == ["nSeq.0", "A1.1", "nSeq.2", "A1.3"]
    assert table.rate_hz == 100


def test_resolution_is_kept() -> None:
    table = read_table(OPENSIGNALS.encode(), "file.txt", LOOK)
    assert table.attributes["resolution_bits"] == {"nSeq": 4, "I1": 1, "A2": 10}


WHOLE = "t,x\n" + "".join(f"{i},{i}.5\n" for i in range(10))


@pytest.mark.parametrize("end", ["10", "10,", "10,1", "\0" * 100, "10,\0\0\0"])
def test_a_torn_end_is_left_out_where_this_is_stated(end: str) -> None:
    content = (WHOLE + end).encode()
    if end not in ("10,", "10,1"):  # which could be whole rows
        with pytest.raises(UserError, match=r"file\.csv:12: .*`torn: skip`"):
            read_table(content, "file.csv", LOOK)
    table = read_table(content, "file.csv", TableOptions(torn="last"))
    assert np.array_equal(table.numbers("x"), np.arange(10) + 0.5)
    assert table.attributes["findings"] == ["1 torn line left out of file.csv: line 12"]


def test_torn_lines_between_others_are_left_out_by_another_option() -> None:
    content = WHOLE.replace("5,5.5\n", "5\n").replace("7,7.5\n", "\0\0\0\0\n").encode()
    for options in (LOOK, TableOptions(torn="last")):
        with pytest.raises(UserError, match=r"file\.csv:(7|9): .*`?time`?"):
            read_table(content, "file.csv", options)
    table = read_table(content, "file.csv", TableOptions(torn="any"))
    assert table.numbers("t").tolist() == [0, 1, 2, 3, 4, 6, 8, 9]
    assert table.locate(5) == "file.csv:8"


def test_lines_of_a_stated_mark_are_left_out() -> None:
    content = b"// a device\nt,x\n1,2\n// a pause\n3,4\n"
    table = read_table(content, "file.csv", TableOptions(comment="//"))
    assert table.numbers("x").tolist() == [2, 4]
    with pytest.raises(UserError, match=r'file\.csv:4: .*comment: "#"'):
        read_table(content.replace(b"//", b"#"), "file.csv", LOOK)
    assert len(read_table(content.replace(b"//", b"#"), "file.csv", TableOptions(comment="#")).numbers("x")) == 2


def test_lines_above_a_table_are_left_out_by_their_number() -> None:
    content = b"1,2\n7,8\nt,x\n1.5,2\n3.5,4\n"
    assert read_table(content, "file.csv", TableOptions(skip=2)).numbers("x").tolist() == [2, 4]


def test_wide_text_without_a_mark_is_refused_with_its_encoding() -> None:
    content = "t,x\n1,2\n3,4\n".encode("utf-16-le")
    with pytest.raises(UserError, match=r"`encoding: utf-16-le`"):
        read_table(content, "file.csv", LOOK)
    assert read_table(content, "file.csv", TableOptions(encoding="utf-16-le")).numbers("x").tolist() == [2, 4]


def test_numbers_are_parsed_exactly_and_without_a_warning() -> None:
    values = np.random.default_rng(0).normal(size=40_000) * 10.0 ** np.random.default_rng(1).integers(-20, 20, 40_000)
    values[:3] = 0.1, 0.1 + 0.2, 123456789.123456789
    content = "a\n" + "\n".join(map(repr, values.tolist())) + "\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_table(content.encode(), "file.csv", LOOK).numbers("a"), values)


@pytest.mark.parametrize("late", ["2147483648", "-9223372036854775808", "0.1", "", "x"])
def test_a_column_may_change_its_kind_far_down(late: str) -> None:
    """Columns are parsed in pieces; what a later one holds changes nothing before it."""
    count = 70_000
    content = "a,b\n" + "".join(f"{i},1\n" for i in range(count)) + f"{late},1\n"
    table = read_table(content.encode(), "file.csv", LOOK)
    values = table.native("a")
    assert len(values) == count + 1
    if late == "x":
        assert values.dtype.kind == "U"
        with pytest.raises(UserError, match=r"file\.csv:70002: .*'x'"):
            table.numbers("a")
        return
    assert np.array_equal(values[:count], np.arange(count))
    assert np.array_equal(table.numbers("a")[-1:], [float(late or "nan")], equal_nan=True)
    assert late.strip("-").isdigit() == (values.dtype.kind == "i")


@pytest.mark.parametrize("blank", ["\n", "   \n", "\t\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_blank_lines_are_no_rows(blank: str, delimiter: str) -> None:
    if blank == "\t\n" and delimiter == "\t":
        pytest.skip("a row of two blank cells")
    content = f"a{delimiter}b\n1{delimiter}2\n{blank}3{delimiter}4\n{blank}".encode()
    table = read_table(content, "file.csv", TableOptions(delimiter=delimiter))
    assert table.numbers("b").tolist() == [2, 4]
    assert table.locate(1) == "file.csv:4"


def test_quoted_cells() -> None:
    table = read_table(b'a,"b, c"\n"1","2"\n3,"4"\n', "file.csv", LOOK)
    assert list(table.arrays) == ["a", "b, c"]
    assert table.numbers("b, c").tolist() == [2, 4]
    with pytest.raises(UserError):
        read_table(b'a,b\n1,"2\n3"\n5,6\n', "file.csv", LOOK).numbers("a")


def test_a_quote_that_does_not_end_is_an_error_of_the_file() -> None:
    with pytest.raises(UserError, match="rows that are not lines"):
        read_table(b'a,b\n1,2\n3,"\n', "file.csv", LOOK).numbers("a")


def test_fewer_rows_than_first_rows_names() -> None:
    with pytest.raises(UserError, match="fewer rows"):
        read_table(b"1544027337.0\n", "file.csv", TableOptions(first_rows=("start", "rate_hz")))


@pytest.mark.parametrize(
    ("content", "names", "first"),
    [
        ("Id;7\nDay;29/01/2020\nt;x\nms;mV\n" + "1;2\n" * 9, ["t", "x"], [1, 2]),  # facts and units around the names
        ("sig,ecg,ecg\naxis,I,II\ntime,,\n1,2,3\n4,5,6\n", ["axis", "I", "II"], [1, 2, 3]),  # of several rows of names
        ("t\tx\n\t3\n1\t2\n2\t4\n3\t6\n", ["t", "x"], [1, 2]),  # numbers of rows
        (",0.0,1.0\n0,5.5,6.5\n1,7.5,8.5\n2,7.5,8.5\n", ["0.0", "1.0"], [5.5, 6.5]),
        ('"t" "x"\n"1" 0.5 6\n"2" 1 7\n', ["t", "x"], [0.5, 6]),  # R's row numbers in quotes, between blanks
        ("Starting\nready ok\n1,2\n3,4\n", ["0", "1"], [1, 2]),  # messages of a device
        ("Kind\t1\t\nSize 2\t3\t\nt\tx\ty\n" + "1\t2\n" * 9, ["0", "1"], [1, 2]),  # longer rows above
        ("t,x\ndouble,float\n1,2\n3,4\n", ["t", "x"], [1, 2]),
        ("t,x\n1,2\n3,4\n,\n,\n", ["t", "x"], [1, 2]),  # empty rows of a sheet
        ("t,x\n1,2\n3,#N/A\n5,--\n6,<NA>\n", ["t", "x"], [1, 2]),
    ],
)
def test_heads_and_ends_as_programs_write_them(content: str, names: list[str], first: list[float]) -> None:
    table = read_table(content.encode(), "file.csv", LOOK)
    assert list(table.arrays) == names
    assert [float(table.numbers(name)[0]) for name in names] == first
    assert all(np.isfinite(table.numbers(names[0])))


def test_units_are_read_from_their_row() -> None:
    table = read_table(b"t;x;y\nRAW;CAL;CAL\nms;mV;no_units\n1;2;3\n", "file.csv", LOOK)
    assert table.attributes["units"] == {"t": "ms", "x": "mV", "y": "no_units"}


@pytest.mark.parametrize("content", [b"t;p\n0,5;1.000\n1,5;1.001\n", b"t;p\n0,5;1.000,5\n", b"t;p\n0,5;1_000\n"])
def test_marks_between_thousands_are_not_taken_for_decimal_marks(content: bytes) -> None:
    with pytest.raises(UserError, match="no number"):
        read_table(content, "file.csv", TableOptions(decimal=",")).numbers("p")


def test_decimal_commas_are_offered_and_read() -> None:
    for content in (b"t;x\n0,5;1,5\n1,5;2,5\n", b't,x\n"0,5","1,5"\n"1,5","2,5"\n'):
        with pytest.raises(UserError, match='decimal: ","'):
            read_table(content, "file.csv", LOOK)
        assert read_table(content, "file.csv", TableOptions(decimal=",")).numbers("x").tolist() == [1.5, 2.5]
    with pytest.raises(UserError, match="2 names, 4 columns"):
        read_table(b"t,x\n0,5,1,5\n1,5,2,5\n", "file.csv", LOOK)


def test_a_head_again_between_the_rows_is_named_and_left_out_where_this_is_stated() -> None:
    content = b"t,x\n1,2\n3,4\nt,x\n5,6\n"
    with pytest.raises(UserError, match=r"file\.csv:4: .*torn: skip"):
        read_table(content, "file.csv", LOOK)
    table = read_table(content, "file.csv", TableOptions(torn="any"))
    assert table.numbers("t").tolist() == [1, 3, 5]
    assert "of the head" in table.attributes["findings"][0]


def test_most_lines_are_never_torn() -> None:
    with pytest.raises(UserError, match="another length"):
        read_table(b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n" + b"1,2\n" * 500, "file.csv", TableOptions(torn="any"))


def test_two_columns_of_one_name_can_be_read_by_number() -> None:
    content = b"# made\nt,x,t,x\n1,2,3,4\n5,6,7,8\n"
    with pytest.raises(UserError, match="`skip: 2`"):
        read_table(content, "file.csv", LOOK)
    assert read_table(content, "file.csv", TableOptions(skip=2)).numbers(3).tolist() == [4, 8]


@pytest.mark.parametrize(("content", "kind"), [(b"\x1f\x8b\x08\0", "gzip"), (b"PK\x03\x04", "workbook")])
def test_other_files_with_the_name_of_a_table_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(UserError, match=kind):
        read_table(content, "file.csv", LOOK)


def test_a_table_of_dates_alone_has_rows() -> None:
    options = TableOptions(may_be_empty=True)
    for cell in ("2020-09-13T14:26:40", "05-Mar-2021", "20210305T101500"):
        assert len(read_table(f"t\n{cell}\n{cell}\n".encode(), "file.csv", options).arrays["t"]) == 2
    with pytest.raises(UserError, match="header: true"):
        read_table(b"t\nyesterday\ntoday\n", "file.csv", options)


@pytest.mark.parametrize(
    ("comment", "rate_hz"),
    [
        ("sampling rate: 250 Hz, 16 bit", 250),
        ("sample rate 1e3", 1000),
        ("fs=0.5kHz", 500),
        ("sampling rate: 1 MHz", 1e6),
        ("Sampling Rate: 1,000 Hz", None),
        ("sample rate: 60 samples/min", None),
        ("sampling rate: 10 ms", None),
        ("sampling frequency: 1000,5 Hz", None),
        ("sample rate 2020-01-05", None),
    ],
)
def test_a_rate_in_a_comment_is_read_whole_or_asked_for(comment: str, rate_hz: float | None) -> None:
    assert read_table(f"# {comment}\nx\n1.5\n2.5\n".encode(), "file.csv", LOOK).rate_hz == rate_hz


def test_points_in_one_column_and_decimal_commas_in_another() -> None:
    table = read_table(b"t;x\n0.5;1,5\n1.5;2,5\n", "file.csv", TableOptions(decimal=","))
    assert [table.numbers(name).tolist() for name in ("t", "x")] == [[0.5, 1.5], [1.5, 2.5]]


def test_a_line_below_names_is_no_row() -> None:
    table = read_table(b"| t | x |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n", "file.csv", LOOK)
    assert table.numbers("x").tolist() == [2, 4]


def test_text_in_the_first_row_of_values_does_not_make_it_a_head() -> None:
    with pytest.raises(UserError, match=r"file\.csv:2: .*no number"):
        read_table(b"t,x\n0,init\n1,2\n2,4\n3,6\n", "file.csv", LOOK).numbers("x")


def test_marks_between_thousands_beside_points_are_not_offered_as_decimal_commas() -> None:
    with pytest.raises(UserError, match="thousands") as error:
        read_table(b't,p\n0.5,"1,000"\n1.5,"1,001"\n', "file.csv", LOOK).numbers("p")
    assert "decimal:" not in error.value.hint
