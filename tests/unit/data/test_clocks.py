"""Time stamps: dates, units, counters that wrap, batches; one true time for every row, or a refusal whose advice works."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from maekit.config.conversion import Stream
from maekit.config.data_spec import load_spec
from maekit.data.convert.clock import Stamps, to_stamps
from maekit.data.convert.content import FileContent
from maekit.data.convert.convert import convert
from maekit.data.convert.stamps import read_times
from maekit.data.convert.table import read_table
from maekit.data.convert.table_layout import TableOptions
from maekit.data.convert.timing import check_stamps
from maekit.errors import UserError

SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
convert:
  streams:
    x: {files: "x.*", columns: [a], STREAM}
"""


def stamps_of(cells: list[str], **rule: Any) -> Stamps:
    """The stamps of a column of a table."""
    table = read_table(("t|a\n" + "".join(f"{cell}|1.5\n" for cell in cells)).encode(), "x.csv", TableOptions("|"))
    stream = Stream(files="*", time="t", **rule)
    return to_stamps(read_times(stream, table, "t", stream.rate_hz), stream, "x.csv")


def write(folder: Path, stream: str, content: bytes, name: str = "x.csv") -> dict[str, Any]:
    """Convert one file, and read what was written."""
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(content)
    (folder / "spec.yaml").write_text(SPEC.replace("STREAM", stream).replace("columns: [a], key", "key"))
    path = convert(load_spec(folder / "spec.yaml"), folder / "in", folder / "out", overwrite=True)
    with h5py.File(path) as file:
        return {"x": file["x/x"][()], **file["x/x"].attrs}


def table(times: Any) -> bytes:
    return b"t,a\n" + b"".join(b"%s,%d.5\n" % (str(time).encode(), i) for i, time in enumerate(times))


@pytest.mark.parametrize(
    ("first", "second", "zero"),
    [
        ("2016-11-24 13:58:58.081", "2016-11-24 13:58:58.331000", "local"),
        ("2016-11-24T13:58:58,75", "2016-11-24T13:58:59", "local"),
        ("2016-11-24T13:58:58.5Z", "2016-11-24T14:58:58.75+01:00", "utc"),
        ("2016-11-24 13:58:58.5 UTC", "2016-11-24 13:58:58.75 UTC", "utc"),
        ("2016/11/24 13:58:58.5", "2016/11/24 13:58:58.75", "local"),
        ("2016-1-4 3:58:59.75", "2016-1-4 3:59:00", "local"),
        ("20161124T135858.5", "20161124T135858.75", "local"),
        ("2016-11-24 13:58:58.5+01", "2016-11-24 12:58:58.75+00", "utc"),
        ("24-Nov-2016 13:58:58.500", "24-Nov-2016 13:58:58.750", "local"),
        ("23:59:59.9", "00:00:00.15", "midnight"),
        ("9:59:59.9 PM", "10:00:00.15 PM", "midnight"),
        ("0:59.900", "1:00.150", "midnight"),
    ],
)
def test_dates_and_times_of_day(first: str, second: str, zero: str) -> None:
    stamps = stamps_of([first, second])
    assert stamps.seconds == pytest.approx([0, 0.25], abs=1e-9)
    assert stamps.zero == zero


def test_a_date_has_its_moment() -> None:
    assert stamps_of(["1970-01-02T00:00:00.5Z", "1970-01-02T00:00:01Z"]).start == 86400.5


@pytest.mark.parametrize("cell", ["01/02/2020 10:00:00", "1.2.2020 10:00:00", "03-04-20 10:00:00"])
def test_a_doubtful_date_is_refused_and_either_format_of_the_hint_reads_it(cell: str) -> None:
    later = cell.replace(":00:00", ":00:01")
    with pytest.raises(UserError, match=r"x\.csv:2: .*day and month") as refused:
        stamps_of([cell, later])
    formats = refused.value.hint.split('"')[1::2]
    starts = {stamps_of([cell, later], time_format=time_format).start for time_format in formats}
    assert len(starts) == 2


def test_a_date_that_only_one_format_can_read_is_offered_this_one() -> None:
    with pytest.raises(UserError) as refused:
        stamps_of(["25/02/2020 10:00", "25/02/2020 10:01"])
    assert refused.value.hint.split('"')[1::2] == ["%d/%m/%Y %H:%M"]


def test_a_cell_of_another_form_is_named_by_its_line() -> None:
    with pytest.raises(UserError, match=r"x\.csv:3: .*'2020-13-01 00:00:00'"):
        stamps_of(["2020-12-01 00:00:00", "2020-13-01 00:00:00"])
    with pytest.raises(UserError, match=r"x\.csv:3: .*zone"):
        stamps_of(["2020-12-01 00:00:00Z", "2020-12-01 00:00:01"])
    with pytest.raises(UserError, match=r"x\.csv:3: .*missing"):
        stamps_of(["2020-12-01 00:00:00", "", "2020-12-01 00:00:01"])
    with pytest.raises(UserError, match="time_format"):
        stamps_of(["20201201-000000.5", "20201201-000000.7"])
    with pytest.raises(UserError, match="`time_unit`"):
        stamps_of(["2020-12-01 00:00:00", "2020-12-01 00:00:01"], time_unit="ms")


def test_digits_without_separators_are_a_date_where_this_is_stated() -> None:
    with pytest.raises(UserError, match=r"another unit.*time_format"):
        stamps_of(["20161124135858", "20161124135859"])
    assert stamps_of(["20161124135859", "20161124135900"], time_format="%Y%m%d%H%M%S").seconds[1] == 1


@pytest.mark.parametrize(
    ("unit", "step"),
    [
        ("s", 0.25),
        ("ms", 250),
        ("us", 250_000),
        ("ns", 250_000_000),
        ("min", 0.25 / 60),
        ("h", 0.25 / 3600),
        ("d", 0.25 / 86400),
    ],
)
def test_units(unit: str, step: float) -> None:
    stamps = stamps_of([repr(i * step) for i in range(5)], time_unit=unit)
    assert stamps.seconds == pytest.approx(np.arange(5) / 4, abs=1e-12)


def test_samples_need_a_rate() -> None:
    assert stamps_of(["100", "102"], time_unit="samples", rate_hz=8).seconds[1] == 0.25
    with pytest.raises(ValueError, match="rate_hz"):
        Stream(files="*", time="t", time_unit="samples")


def test_nanoseconds_since_1970_are_kept() -> None:
    first = 1_700_000_000_000_000_123
    stamps = stamps_of([str(first + 10 * i) for i in range(9)], time_unit="ns")
    assert np.array_equal(stamps.seconds, np.arange(9) * 10 / 1e9)
    assert stamps.start * 10**9 == first


@pytest.mark.parametrize(("unit", "length"), [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])
def test_numpy_dates(unit: str, length: float) -> None:
    times = np.datetime64("2023-11-14T22:13:20") + np.arange(5).astype(f"m8[{unit}]")
    content = FileContent("x.npz", {"t": times, "x": np.arange(5)})
    stream = Stream(files="*", time="t")
    stamps = to_stamps(read_times(stream, content, "t", None), stream, "x.npz")
    assert stamps.seconds == pytest.approx(np.arange(5) * length)
    assert stamps.start == 1_700_000_000


def test_numpy_dates_convert(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.arange(50.0), t=np.datetime64("2023-11-14", "ns") + np.arange(50) * np.timedelta64(20, "ms"))
    assert write(tmp_path, "key: x, time: t", buffer.getvalue(), "x.npz")["rate_hz"] == 50


def test_stamps_of_another_unit_than_stated_are_refused_with_the_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"year 55840.*`time_unit: ns`.*2023-11-14"):
        stamps_of(["1700000000000000000", "1700000000020000000"], time_unit="us")
    content = table(range(0, 20_000, 20))
    for stream in ("rate_hz: 50", "resample_hz: 50"):
        with pytest.raises(UserError, match=r"0\.05 Hz, with stamps in s.*50 Hz.*`time_unit: ms` would fit"):
            write(tmp_path, f"time: t, {stream}", content)
        assert write(tmp_path, f"time: t, {stream}, time_unit: ms", content)["rate_hz"] == 50


@pytest.mark.parametrize(("bits", "step"), [(8, 3), (12, 10), (16, 20), (24, 640), (32, 10_000)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_counter_that_wraps_is_named_and_continued(bits: int, step: int, signed: bool) -> None:
    counter = (2**bits - 100 * step + step * np.arange(1000)) % 2**bits - signed * 2 ** (bits - 1)
    cells = [str(value) for value in counter]
    with pytest.raises(UserError, match=f"`wraps: {2**bits}`"):
        stamps_of(cells, time_unit="us")
    stamps = stamps_of(cells, time_unit="us", wraps=2**bits)
    assert np.array_equal(stamps.seconds, step * np.arange(1000) / 1e6)


def test_other_steps_back_are_no_wraps() -> None:
    numbers = [*range(90), *range(90)]
    assert (np.diff(stamps_of([str(n) for n in numbers]).seconds) < 0).any(), "left to the grid, which refuses it"
    with pytest.raises(UserError, match="less than half"):
        stamps_of(["100", "101", "99", "102"], wraps=256)
    with pytest.raises(UserError, match="span more"):
        stamps_of(["100", "400"], wraps=256)


def batches(jitter_ms: float = 5) -> tuple[list[int], np.ndarray]:
    """Stamps in ms of packets of 73 rows at 130 Hz, as they arrived; and the true times of rows in seconds."""
    rng = np.random.default_rng(0)
    packet = np.arange(73 * 100) // 73
    late = rng.uniform(-jitter_ms, jitter_ms, packet[-1] + 1)
    return [round(1.65e12 + (n + 1) * 73 / 130 * 1000 + late[n]) for n in packet], np.arange(73 * 100) / 130


def test_batches_under_one_stamp_are_named_and_spread(tmp_path: Path) -> None:
    stamps, _ = batches()
    for stream in ("", ", rate_hz: 130", ", resample_hz: 130"):
        with pytest.raises(UserError, match=r"73 rows a stamp, 1(29|30).*batches: last"):
            write(tmp_path, f"time: t, time_unit: ms{stream}", table(stamps))
    found = write(tmp_path, "time: t, time_unit: ms, batches: last, rate_hz: 130", table(stamps))
    assert np.array_equal(found["x"], np.arange(73 * 100) + 0.5)
    last = stamps_of([str(n) for n in stamps], time_unit="ms", batches="last")
    first = stamps_of([str(n) for n in stamps], time_unit="ms", batches="first")
    assert float(first.start) == pytest.approx(stamps[0] / 1000)
    assert float(first.start - last.start) == pytest.approx(72 / 130, abs=0.01)
    assert last.seconds == pytest.approx(np.arange(73 * 100) / 130, abs=0.02)


def test_a_lost_batch_is_a_pause_that_nothing_is_stretched_over(tmp_path: Path) -> None:
    stamps, _ = batches(0)
    lost = slice(73 * 20, 73 * 23)
    del stamps[lost]
    for side in ("first", "last"):
        found = write(tmp_path, f"time: t, time_unit: ms, batches: {side}, rate_hz: 130", table(stamps))
        missing = np.flatnonzero(np.isnan(found["x"]))
        assert np.array_equal(missing, np.arange(73 * 100)[lost])


def test_equal_stamps_are_not_interpolated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two rows with one time stamp.*rows 3 and 4"):
        write(tmp_path, "time: t, resample_hz: 50", table([0, 1, 2, 3, 3, 5, 6]))
    coarse = np.floor(np.arange(500) / 117 * 64) / 64  # a clock of 15.6 ms, beside a stated rate
    assert np.array_equal(write(tmp_path, "time: t, rate_hz: 117", table(coarse))["x"], np.arange(500) + 0.5)


def test_what_is_mostly_missing_is_not_written(tmp_path: Path) -> None:
    times = np.r_[np.arange(100), np.arange(100) + 5000] / 50
    with pytest.raises(UserError, match=r"mostly missing.*200 rows.*max_missing"):
        write(tmp_path, "time: t, rate_hz: 50", table(times))
    assert np.isnan(write(tmp_path, "time: t, rate_hz: 50, max_missing: 0.99", table(times))["x"]).sum() == 4900
    blank = b"t,a\n" + b"".join(b"%d,%s\n" % (i, b"1.5" if i % 3 == 0 else b"") for i in range(99))
    with pytest.raises(UserError, match=r"mostly missing.*66\.67%.*max_missing"):
        write(tmp_path, "time: t", blank)
    assert len(write(tmp_path, "time: t, max_missing: 0.7", blank)["x"]) == 99


def test_recordings_of_one_table_have_clocks_of_their_own(tmp_path: Path) -> None:
    """Each person's counter wraps, and begins, for itself."""
    counter = (65_000 + 20 * np.arange(100)) % 65_536
    rows = "".join(f"{who},{t},{i}.5\n" for who in ("007", "1e3") for i, t in enumerate(counter))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.csv").write_text("who,t,a\n" + rows)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("STREAM", "time: t, time_unit: ms, wraps: 65536, by: [who]"))
    with h5py.File(convert(load_spec(tmp_path / "spec.yaml"), tmp_path / "in", tmp_path / "out")) as file:
        assert sorted(file) == ["x_007", "x_1e3"]
        assert file["x_1e3"].attrs["who"] == "1e3"
        for record in file.values():
            assert record["x"].attrs["rate_hz"] == 50
            assert np.array_equal(record["x"], np.arange(100) + 0.5)


def test_streams_whose_clocks_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.a.csv").write_bytes(table([f"2020-01-01T00:00:{i:02d}Z" for i in range(30)]))
    (tmp_path / "in/x.b.csv").write_bytes(table([f"00:00:{i:02d}" for i in range(30)]))
    text = SPEC.replace("x.*", "x.a.csv").replace("STREAM", "time: t")
    text += '    y: {files: "x.b.csv", columns: [a], time: t}\n'
    (tmp_path / "spec.yaml").write_text(text.replace("convert:", 'convert:\n  record: "(?P<record>x)"'))
    with pytest.raises(UserError, match="clocks count from different moments"):
        convert(load_spec(tmp_path / "spec.yaml"), tmp_path / "in", tmp_path / "out")


def test_a_format_also_reads_rows_whose_fraction_is_left_out() -> None:
    cells = ["1.2.2020 10:00:00", "1.2.2020 10:00:00,25"]
    with pytest.raises(UserError) as refused:
        stamps_of(cells)
    time_format = refused.value.hint.split('"')[1]
    assert time_format == "%d.%m.%Y %H:%M:%S,%f"
    assert stamps_of(cells, time_format=time_format).seconds[1] == 0.25


def test_date_and_time_of_day_in_two_columns() -> None:
    content = b"day;at;a\n2020-01-31;23:59:59.5;1\n2020-02-01;00:00:00.5;2\n"
    stream = Stream(files="*", time=["day", "at"])
    stamps = to_stamps(
        read_times(stream, read_table(content, "x.csv", TableOptions()), ["day", "at"], None), stream, "x"
    )
    assert stamps.seconds.tolist() == [0, 1]
    german = content.replace(b"2020-01-31", b"31.01.2020").replace(b"2020-02-01", b"01.02.2020")
    stream = Stream(files="*", time=["day", "at"], time_format="%d.%m.%Y %H:%M:%S.%f")
    stamps = to_stamps(
        read_times(stream, read_table(german, "x.csv", TableOptions()), ["day", "at"], None), stream, "x"
    )
    assert stamps.seconds.tolist() == [0, 1]


def test_a_stated_zone_makes_local_dates_moments() -> None:
    cells = ["2024-07-01 12:00:00", "2024-07-01 12:00:01"]
    summer = stamps_of(cells, time_zone="Europe/Berlin")
    assert (summer.zero, summer.start) == ("utc", stamps_of(["2024-07-01 10:00:00Z", "2024-07-01 10:00:01Z"]).start)
    assert stamps_of(cells, time_zone="+02:00").start == summer.start
    with pytest.raises(UserError, match="no such time zone"):
        stamps_of(cells, time_zone="Europe/Berlim")
    with pytest.raises(UserError, match="twice or never"):
        stamps_of(["2024-10-27 02:30:00", "2024-10-27 02:30:01"], time_zone="Europe/Berlin")
    with pytest.raises(UserError, match="Leave it out"):
        stamps_of(["2024-07-01 12:00:00Z", "2024-07-01 12:00:01Z"], time_zone="Europe/Berlin")


def test_seconds_since_1970_and_dates_with_a_zone_are_one_clock() -> None:
    numbers = stamps_of(["1700000000.25", "1700000000.5"])
    dates = stamps_of(["2023-11-14T22:13:20.25Z", "2023-11-14T22:13:20.5Z"])
    assert (numbers.zero, numbers.start) == (dates.zero, dates.start)
    assert stamps_of(["1.5", "2.5"]).zero == "number"
    matlab = stamps_of(["738000.5", "738000.75"], time_unit="d")
    assert (matlab.zero, matlab.seconds[1]) == ("number", 21600)


def test_rows_above_the_values_may_state_start_and_rate(tmp_path: Path) -> None:
    content = b"1544027327.00,1544027327.00\n32.000000,32.000000\n" + b"".join(b"%d,-5\n" % i for i in range(64))
    with pytest.raises(UserError, match=r"x\.csv:1: .*moment and a rate.*`first_rows: \[start, rate_hz\]`"):
        write(tmp_path, "", content.replace(b"columns", b""))
    table = read_table(content, "x.csv", TableOptions(first_rows=("start", "rate_hz")))
    assert (table.rate_hz, table.start_s) == (32.0, Fraction(1544027327))
    assert table.numbers("0").tolist() == list(range(64))
    plain = read_table(content, "x.csv", TableOptions(header=False))
    assert len(plain.numbers("0")) == 66
    with pytest.raises(UserError, match=r"x\.csv:2: .*no moment"):
        read_table(content, "x.csv", TableOptions(first_rows=("rate_hz", "start")))


def test_an_hour_back_is_named() -> None:
    with pytest.raises(UserError, match="summer time"):
        check_stamps(
            stamps_of(["2024-10-27 02:59:59.5", "2024-10-27 02:00:00", "2024-10-27 02:00:00.5"]).seconds, "x.csv"
        )


def test_a_counter_of_decimal_length_is_named_by_the_usual_step() -> None:
    """Milliseconds within the second: 1000, and not the power of two nearby."""
    with pytest.raises(UserError, match="`wraps: 1000`"):
        stamps_of([str((500 + 20 * i) % 1000) for i in range(200)], time_unit="ms")


def test_decimals_since_1970_are_exact() -> None:
    """At 100 kHz float64 would round the steps of such stamps by 2 %."""
    stamps = stamps_of([f"1700000000.{10 * i:06d}" for i in range(100)])
    assert np.array_equal(stamps.seconds, np.arange(100) / 1e5)
    assert stamps.start == 1_700_000_000


def test_a_unit_that_would_need_an_endless_filter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1e\+09 Hz, with stamps in ns"):
        write(tmp_path, "time: t, time_unit: ns, resample_hz: 3", table(range(100)))
