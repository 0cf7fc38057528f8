"""Numbers that are days, digits of a time of day, or in a unit that the head of their table names."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data.convert.convert import convert
from maekit.data.convert.stamp_forms import check_seconds
from maekit.errors import UserError

SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
window: {axis: time, seconds: 4}
convert:
  streams:
    x: {files: "*.csv", columns: [x], STREAM}
"""


def converted(folder: Path, times: list[str], stream: str = "time: t", head: str = "t,x") -> tuple[float, list[float]]:
    """Rate and values of a table with these stamps."""
    (folder / "in").mkdir(exist_ok=True)
    rows = "".join(f"{time},{i}.5\n" if time else ",\n" for i, time in enumerate(times))
    (folder / "in/p1.csv").write_text(f"{head}\n{rows}")
    (folder / "spec.yaml").write_text(SPEC.replace("STREAM", stream))
    path = convert(load_spec(folder / "spec.yaml"), folder / "in", folder / "out", overwrite=True)
    with h5py.File(path) as file:
        return float(file["p1/x"].attrs["rate_hz"]), file["p1/x"][()].tolist()


@pytest.mark.parametrize(
    ("times", "key", "rate_hz"),
    [
        ([f"{44260.5 + i / 8_640_000:.12f}" for i in range(300)], "time_unit: d", 100),  # a spreadsheet
        ([f"{738220.5 + i / 8_640_000:.12f}" for i in range(300)], "time_unit: d", 100),  # MATLAB
        ([f"10{50 + i // 60}{i % 60:02d}" for i in range(300)], 'time_format: "%H%M%S"', 1),
        ([f"{101758 + 42 * (i > 99) + i % 100 / 50:.2f}" for i in range(150)], 'time_format: "%H%M%S.%f"', 50),
    ],
)
def test_numbers_that_are_no_seconds_are_refused_and_the_hint_reads_them(
    times: list[str], key: str, rate_hz: float, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        converted(tmp_path, times)
    assert key in error.value.hint
    assert converted(tmp_path, times, f"time: t, {key}")[0] == pytest.approx(rate_hz, rel=1e-4)


@pytest.mark.parametrize(
    "times", [[*range(50), *range(110, 150)], [*range(60)], [*range(0, 5000, 100)], [0, 10_000, 20_000]]
)
def test_seconds_with_a_pause_are_no_digits_of_a_time_of_day(times: list[int]) -> None:
    check_seconds(np.array(times), "file")
    check_seconds(np.array(times, dtype=np.float64), "file")


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        ("time_ms,x", "ms"),
        ("Time (ms),x", "ms"),
        ("timestampMs,x", "ms"),
        ("t[us],x", "us"),
        ("min,x", "min"),
        ("ms_since_start,x", "ms"),
        ("Frame,x", "samples"),
        ("t,x\nms,mV", "ms"),
    ],
)
def test_a_unit_in_the_head_of_a_table_is_not_taken_for_seconds(head: str, unit: str, tmp_path: Path) -> None:
    column, times = head.split(",")[0], [str(10 * i) for i in range(40)]
    with pytest.raises(UserError, match=f"time_unit: {unit}"):
        converted(tmp_path, times, f'time: "{column}"', head)
    if unit == "ms":
        assert converted(tmp_path, times, f'time: "{column}", time_unit: ms', head)[0] == pytest.approx(100)


@pytest.mark.parametrize("head", ["time,x", "Time (s),x", "items,x", "status,x", "t,x\ns,mV"])
def test_other_names_of_clocks_are_seconds(head: str, tmp_path: Path) -> None:
    times = [f"{i / 10:.1f}" for i in range(30)]
    assert converted(tmp_path, times, f'time: "{head.split(",")[0]}"', head)[0] == pytest.approx(10)


@pytest.mark.parametrize(
    "times",
    [
        [f"0 days 00:00:{i / 10:09.6f}" for i in range(30)],  # pandas
        [f"{i / 10} sec" for i in range(30)],  # MATLAB
        [f"{i * 100} ms" for i in range(30)],
        [f"{i / 10:.1f}" for i in range(30)] + [""] * 60,  # a column of another rate is longer
    ],
)
def test_durations_and_columns_of_several_rates(times: list[str], tmp_path: Path) -> None:
    rate, values = converted(tmp_path, times)
    assert rate == pytest.approx(10)
    assert values == [i + 0.5 for i in range(30)]


def test_minutes_past_an_hour(tmp_path: Path) -> None:
    times = [f"{59 + (58 + i) // 60:02d}:{(58 + i) % 60:02d}" for i in range(30)]
    assert converted(tmp_path, times, 'time: t, time_format: "%M:%S"')[0] == pytest.approx(1)


def test_every_nth_sample_of_a_counter(tmp_path: Path) -> None:
    times = [str(round(i * 327.68)) for i in range(200)]
    stream = "time: t, time_unit: samples, rate_hz: 32768"
    with pytest.raises(UserError, match="resample_hz: 100") as error:
        converted(tmp_path, times, stream)
    assert "beside `rate_hz`" in error.value.hint
    rate, values = converted(tmp_path, times, f"{stream}, resample_hz: 100")
    assert rate == 100
    assert np.allclose(values[:190], np.arange(190) + 0.5, atol=0.02)


def test_seconds_and_their_fraction_in_two_columns(tmp_path: Path) -> None:
    times = [f"{1_600_000_000 + i // 10},{i % 10 * 100_000_000}" for i in range(60)]
    with pytest.raises(UserError, match="two columns of numbers") as error:
        converted(tmp_path, times, "time: [sec, nsec]", "sec,nsec,x")
    assert "`time_unit`" in error.value.hint
    rate, values = converted(tmp_path, times, "time: [sec, nsec], time_unit: ns", "sec,nsec,x")
    assert (rate, len(values)) == (10, 60)
    with pytest.raises(UserError, match="beyond one"):
        converted(tmp_path, times, "time: [sec, nsec], time_unit: ms", "sec,nsec,x")


def test_a_stated_rate_that_stamps_confirm_stands_above_a_comment(tmp_path: Path) -> None:
    times = [f"{i / 10:.1f}" for i in range(60)]
    head = "# Sample Rate = 250 Hz\nt,x"
    with pytest.raises(UserError, match="do not keep the stated rate"):
        converted(tmp_path, times, "time: t", head)
    assert converted(tmp_path, times, "time: t, rate_hz: 10", head)[0] == 10
