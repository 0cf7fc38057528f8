"""Labels on a time line of their own: aligned to the signal by time, missing outside, refused where the clocks cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data.convert.convert import convert
from maekit.data.hdf5.source import HDF5Windows
from maekit.errors import UserError

SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
label: LABEL
window: {axis: time, seconds: 2}
convert:
  record: "(?P<record>[a-z]+[0-9])_"
  streams:
    x: {files: "*_x.csv", columns: [a], SIGNAL}
    y: {files: "*_y.csv", STREAM}
"""
SIGNAL = "rate_hz: 10"


class Written:
    """What a conversion wrote, and the labels that are read from it."""

    def __init__(self, path: Path, spec: Any) -> None:
        with h5py.File(path) as file:
            self.y = file["p1/y"][()]
            self.findings = list(file["p1/y"].attrs.get("findings", ()))
        self.spec, self.root = spec, path.parent

    def labels(self) -> Any:
        source = HDF5Windows(self.spec, self.root, reducers={"count": lambda times, _seconds: float(len(times))})
        return source.labels


def write(
    folder: Path, labels: str, stream: str, label: str = "{path: y}", signal: str = SIGNAL, times: Any = None
) -> Written:
    """Convert a signal of 10 s at 10 Hz, and a file of labels."""
    (folder / "in").mkdir(exist_ok=True)
    times = [f"{i / 10:.1f}" for i in range(100)] if times is None else times
    (folder / "in/p1_x.csv").write_text("t,a\n" + "".join(f"{t},{i}.5\n" for i, t in enumerate(times)))
    (folder / "in/p1_y.csv").write_text(labels)
    text = SPEC.replace("LABEL", label).replace("SIGNAL", signal).replace("STREAM", stream)
    (folder / "spec.yaml").write_text(text)
    spec = load_spec(folder / "spec.yaml")
    return Written(convert(spec, folder / "in", folder / "out", overwrite=True), spec)


def test_a_rate_every_second_is_aligned_to_a_fast_signal(tmp_path: Path) -> None:
    found = write(tmp_path, "hr\n" + "".join(f"{60 + i}\n" for i in range(10)), "columns: [hr], rate_hz: 1")
    assert np.array_equal(found.y, 60 + np.arange(100) // 10)


def test_a_stated_start_moves_labels_and_leaves_the_rest_missing(tmp_path: Path) -> None:
    found = write(tmp_path, "hr\n70\n71\n72\n", "columns: [hr], rate_hz: 1, start: 4")
    assert np.isnan(found.y[:40]).all()
    assert np.array_equal(found.y[40:70], 70 + np.arange(30) // 10)
    assert np.isnan(found.y[70:]).all()
    before = write(tmp_path, "hr\n70\n71\n72\n", "columns: [hr], rate_hz: 1, start: -2")
    assert np.array_equal(before.y[:10], np.full(10, 72))


@pytest.mark.parametrize("zone", ["Z", "+02:00"])
def test_dates_of_both_place_labels(zone: str, tmp_path: Path) -> None:
    hour = 12 if zone == "Z" else 14
    rows = "".join(f"2024-03-01T{hour}:00:{2 + i:02d}{zone},{80 + i}\n" for i in range(3))
    times = [f"2024-03-01T12:00:0{i / 10:.1f}Z" for i in range(100)]
    found = write(tmp_path, "when,hr\n" + rows, "columns: [hr], time: when", signal="time: t", times=times)
    assert np.isnan(found.y[:20]).all()
    assert np.array_equal(found.y[20:50], 80 + np.arange(30) // 10)
    assert np.isnan(found.y[50:]).all()


def test_a_value_does_not_hold_over_a_pause(tmp_path: Path) -> None:
    rows = "t,hr\n0,60\n0.5,61\n1,62\n7,63\n7.5,64\n"
    found = write(tmp_path, rows, "columns: [hr], time: t")
    assert np.array_equal(found.y[10:15], np.full(5, 62))
    assert np.isnan(found.y[15:70]).all()
    assert np.array_equal(found.y[70:75], np.full(5, 63))
    longer = write(tmp_path, rows, "columns: [hr], time: t, hold_s: 3")
    assert np.array_equal(longer.y[10:40], np.full(30, 62))
    assert np.isnan(longer.y[40:70]).all()


def test_stamps_that_begin_elsewhere_share_the_time_line_of_the_signal(tmp_path: Path) -> None:
    times = [f"{500 + i / 10:.1f}" for i in range(100)]
    found = write(tmp_path, "t,hr\n503,60\n504,61\n", "columns: [hr], time: t", signal="time: t", times=times)
    assert np.flatnonzero(np.isfinite(found.y)).tolist() == list(range(30, 50))


def test_labels_without_common_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no time in common.*100 to 102 s.*0 to 10 s"):
        write(tmp_path, "t,hr\n100,60\n101,61\n", "columns: [hr], time: t")
    found = write(tmp_path, "t,hr\n100,60\n101,61\n", "columns: [hr], time: t, optional: true")
    assert np.isnan(found.y).all()


@pytest.mark.parametrize(
    ("signal", "labels"),
    [
        ("time: t", "columns: [hr], rate_hz: 1"),
        ("time: t", "columns: [hr], time: when"),
        ("rate_hz: 10", "columns: [hr], time: when"),
    ],
)
def test_clocks_that_cannot_be_compared_are_refused_and_a_start_settles_it(
    signal: str, labels: str, tmp_path: Path
) -> None:
    rows = "when,hr\n" + "".join(f"12:00:0{i},{60 + i}\n" for i in range(10))
    with pytest.raises(UserError, match=r"cannot be compared.*`start`"):
        write(tmp_path, rows, labels, signal=signal)
    found = write(tmp_path, rows, labels + ", start: 0", signal=signal)
    assert np.array_equal(found.y, 60 + np.arange(100) // 10)


def test_a_start_in_the_first_row_of_labels_places_them(tmp_path: Path) -> None:
    times = [f"{1_700_000_000 + i / 10:.1f}" for i in range(100)]
    stream = "first_rows: [start, rate_hz], columns: [0]"
    label = "{path: y}"
    found = write(tmp_path, "1700000003.00\n1.0\n60\n61\n", stream, label, "time: t", times)
    assert np.flatnonzero(np.isfinite(found.y)).tolist() == list(range(30, 50))


def test_dates_without_a_zone_and_seconds_since_1970_need_the_zone(tmp_path: Path) -> None:
    times = [f"{1_700_000_000 + i / 10:.1f}" for i in range(100)]
    rows = "t,hr\n2023-11-14 23:13:22,60\n2023-11-14 23:13:23,61\n"
    with pytest.raises(UserError, match=r"cannot be compared.*`time_zone`"):
        write(tmp_path, rows, "columns: [hr], time: t", signal="time: t", times=times)
    found = write(tmp_path, rows, "columns: [hr], time: t, time_zone: Europe/Paris", signal="time: t", times=times)
    assert np.flatnonzero(np.isfinite(found.y)).tolist() == list(range(20, 40))


def test_spans_hold_from_start_to_end(tmp_path: Path) -> None:
    rows = "from,to,what\n1,3,walk\n3,4.5,sit\n8,20,walk\n"
    label = "{path: y, classes: [walk, sit]}"
    found = write(tmp_path, rows, "labels: spans, time: from, end: to, columns: [what]", label)
    expected = np.array([b""] * 10 + [b"walk"] * 20 + [b"sit"] * 15 + [b""] * 35 + [b"walk"] * 20)
    assert np.array_equal(found.y, expected)
    labels = found.labels()
    assert np.array_equal(labels, [0, 0, 1, 0])  # the window from 6 to 8 s has none
    with pytest.raises(UserError, match=r"overlap.*rows 0 and 1"):
        write(tmp_path, rows.replace("1,3,", "1,3.5,"), "labels: spans, time: from, end: to, columns: [what]", label)
    with pytest.raises(UserError, match="ends before"):
        write(tmp_path, rows.replace("1,3,", "1,0.5,"), "labels: spans, time: from, end: to, columns: [what]", label)


EVENTS = "{path: y, events: true, reduce: count}"


def test_events_by_sample_number(tmp_path: Path) -> None:
    rows = "\n".join(map(str, range(250, 5000, 500)))
    with pytest.raises(UserError, match=r"outside of the recording.*0 to 10 s"):
        write(tmp_path, rows, "columns: [0]", EVENTS)
    found = write(tmp_path, rows, "time_unit: samples, rate_hz: 500", EVENTS)
    assert found.y == pytest.approx(np.arange(10) + 0.5)
    assert np.array_equal(found.labels(), [2, 2, 2, 2, 2])
    with pytest.raises(UserError, match="`rate_hz`"):
        write(tmp_path, rows, "time_unit: samples", EVENTS)


@pytest.mark.parametrize(("scale", "unit"), [(10, "samples` with `rate_hz: 10"), (1000, "ms"), (10**6, "us")])
def test_the_unit_that_puts_events_into_the_recording_is_named_and_works(scale: int, unit: str, tmp_path: Path) -> None:
    rows = "\n".join(str(scale * second) for second in range(10))
    with pytest.raises(UserError, match=f"`time_unit: {unit}` would fit"):
        write(tmp_path, rows, "columns: [0]", EVENTS)
    stated = f"time_unit: {unit}".replace("` with `", ", ")
    assert write(tmp_path, rows, f"columns: [0], {stated}", EVENTS).y == pytest.approx(np.arange(10))


def test_events_of_a_longer_recording(tmp_path: Path) -> None:
    rows = "\n".join(str(second) for second in range(100))
    with pytest.raises(UserError, match=r"88 of 100 events, from 0 to 99 s"):
        write(tmp_path, rows, "columns: [0]", EVENTS)
    found = write(tmp_path, rows, "columns: [0], outside: drop", EVENTS)
    assert np.array_equal(found.y, np.arange(12))
    assert found.findings == ["88 of 100 events lie outside of the recording and are left out"]
    with pytest.raises(UserError, match="outside of the recording"):
        write(tmp_path, "50\n51\n", "columns: [0], outside: drop", EVENTS)


def test_intervals_between_beats_are_summed(tmp_path: Path) -> None:
    rows = "rr\n" + "800\n" * 12
    found = write(tmp_path, rows, "intervals: rr, interval_unit: ms", EVENTS)
    assert found.y == pytest.approx(0.8 * np.arange(1, 13))
    with pytest.raises(UserError, match="outside of the recording"):
        write(tmp_path, rows, "intervals: rr", EVENTS)
    with pytest.raises(UserError, match=r"no interval.*row 1"):
        write(tmp_path, "rr\n800\n0\n", "intervals: rr, interval_unit: ms", EVENTS)


def test_stamps_tell_the_pauses_between_intervals(tmp_path: Path) -> None:
    beats = np.r_[0.8:3.3:0.8, 7.2:9.7:0.8]
    rows = "t,rr\n" + "".join(f"{beat:.1f},800\n" for beat in beats)
    found = write(tmp_path, rows, "time: t, intervals: rr, interval_unit: ms", EVENTS)
    assert found.y == pytest.approx(beats)


def test_row_numbers_count_rows_and_not_pauses(tmp_path: Path) -> None:
    times = [f"{i / 10:.1f}" for i in range(100) if not 30 <= i < 50]
    found = write(
        tmp_path, "29\n30\n", "columns: [0], time_unit: samples, rate_hz: 10", EVENTS, "time: t, rate_hz: 10", times
    )
    assert found.y == pytest.approx([2.9, 5.0])


def test_an_auxiliary_signal_is_placed_by_its_stamps(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, start in (("x", 100), ("y", 103)):
        rows = "".join(f"{start + i / 10:.1f},{start + i / 10}\n" for i in range(100))
        (tmp_path / f"in/p1_{name}.csv").write_text("t,a\n" + rows)
    text = SPEC.replace("label: LABEL", "auxiliary: {more: {path: y, axes: [time], rate_hz: {attribute: rate_hz}}}")
    (tmp_path / "spec.yaml").write_text(text.replace("SIGNAL", "time: t").replace("STREAM", "columns: [a], time: t"))
    spec = load_spec(tmp_path / "spec.yaml")
    with h5py.File(convert(spec, tmp_path / "in", tmp_path / "out")) as file:
        x, y = file["p1/x"][()], file["p1/y"][()]
        assert file["p1/y"].attrs["start_s"] == 0
    assert np.isnan(y[:30]).all()
    assert np.array_equal(x[30:], y[30:])
    (tmp_path / "spec.yaml").write_text(
        text.replace("SIGNAL", "time: t").replace("STREAM", "columns: [a], time: t, resample_hz: 5")
    )
    with pytest.raises(UserError, match=r"another rate.*`resample_hz: 10`"):
        convert(load_spec(tmp_path / "spec.yaml"), tmp_path / "in", tmp_path / "out", overwrite=True)


def long_table(folder: Path, stream: str) -> Path:
    """One table of three people, converted."""
    (folder / "in").mkdir(exist_ok=True)
    rows = [f"{who},{i / 10:.1f},{i}.5" for who in ("007", "011", "1e3") for i in range(50)]
    (folder / "in/all.csv").write_text("who,t,a\n" + "\n".join(rows) + "\n")
    (folder / "spec.yaml").write_text(f"""\
name: mine
files: "*.h5"
records: "/*"
signal: {{path: x, axes: [time], rate_hz: {{attribute: rate_hz}}}}
group: {{attribute: who}}
convert:
  attributes: {{who: who}}
  streams:
    x: {{files: "*.csv", columns: [a], {stream}}}
""")
    return convert(load_spec(folder / "spec.yaml"), folder / "in", folder / "out", overwrite=True)


def test_one_table_of_many_people(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"several values of `group.attribute`.*007, 011, 1e3.*`by: \[who\]`"):
        long_table(tmp_path, "rate_hz: 10")
    with pytest.raises(UserError, match=r"convert\.streams\.x\.by.*neither a time nor a rate"):
        long_table(tmp_path, "by: [who]")
    for stream in ("rate_hz: 10", "time: t"):
        with h5py.File(long_table(tmp_path, f"by: [who], {stream}")) as file:
            assert [record.attrs["who"] for record in file.values()] == ["007", "011", "1e3"]
            assert all(len(record["x"]) == 50 for record in file.values())


def test_a_row_of_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/p1_x.csv").write_text("who,a\nann,1.5\n,2.5\n")
    text = SPEC.replace("label: LABEL\n", "").replace("SIGNAL", "rate_hz: 10, by: [who]").split("    y:")[0]
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UserError, match=r"p1_x\.csv:3: .*nobody.*'who'"):
        convert(load_spec(tmp_path / "spec.yaml"), tmp_path / "in", tmp_path / "out")


def test_labels_without_a_time_are_as_many_as_the_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"p1/y: .*got 20; expected 100.*`rate_hz`"):
        write(tmp_path, "hr\n" + "60\n" * 20, "columns: [hr]")
    assert len(write(tmp_path, "hr\n" + "60\n" * 100, "columns: [hr]").y) == 100
    assert write(tmp_path, "hr\n60\n", "columns: [hr]").y.tolist() == [60]


def test_a_recording_without_any_event(tmp_path: Path) -> None:
    assert write(tmp_path, "beat_s\n", "columns: [beat_s]", EVENTS).y.size == 0


def test_a_table_of_dates_and_text_has_rows(tmp_path: Path) -> None:
    rows = "from,to,what\n10:00:01,10:00:03,walk\n10:00:03,10:00:05,sit\n"
    times = [f"10:00:0{i / 10:.1f}" for i in range(100)]
    stream = "labels: spans, time: from, end: to, columns: [what]"
    found = write(tmp_path, rows, stream, "{path: y, classes: [walk, sit]}", "time: t", times)
    assert found.y.tolist() == [b""] * 10 + [b"walk"] * 20 + [b"sit"] * 20 + [b""] * 50


def test_stamps_in_a_unit_that_leaves_no_window_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.01 Hz by the stamps.*`time_unit: ms`"):
        write(
            tmp_path, "hr\n60\n", "columns: [hr], rate_hz: 1, start: 0", signal="time: t", times=range(0, 10_000, 100)
        )


def test_labels_in_another_unit_than_seconds_are_refused_and_the_hint_places_them(tmp_path: Path) -> None:
    labels = "t,hr\n" + "".join(f"{1000 * i},{60 + i}\n" for i in range(10))
    with pytest.raises(UserError, match="time_unit: ms"):
        write(tmp_path, labels, "columns: [hr], time: t", signal="time: t")
    found = write(tmp_path, labels, "columns: [hr], time: t, time_unit: ms", signal="time: t")
    assert np.array_equal(found.y, 60 + np.arange(100) // 10)


def test_intervals_named_in_milliseconds_are_not_taken_for_seconds(tmp_path: Path) -> None:
    rr = "RR (ms)\n" + "800\n" * 12
    with pytest.raises(UserError, match="interval_unit: ms"):
        write(tmp_path, rr, 'intervals: "RR (ms)", start: 0', "{path: y, events: true, reduce: count}", "time: t")
    found = write(
        tmp_path,
        rr,
        'intervals: "RR (ms)", interval_unit: ms, start: 0',
        "{path: y, events: true, reduce: count}",
        "time: t",
    )
    assert np.allclose(found.y, 0.8 * np.arange(1, 13))


@pytest.mark.parametrize(
    ("rows", "kept", "finding"),
    [
        ([i / 2 for i in range(18) for _ in range(2)], 18, "written twice"),
        ([i / 2000 for i in range(18)], 18, "is their unit right"),
    ],
)
def test_what_is_odd_about_events_is_told(rows: list[float], kept: int, finding: str, tmp_path: Path) -> None:
    text = "b\n" + "".join(f"{row}\n" for row in rows)
    found = write(tmp_path, text, "columns: [b]", "{path: y, events: true, reduce: count}", "time: t")
    assert len(found.y) == kept
    assert finding in found.findings[0]


def test_dates_of_events_are_never_no_events(tmp_path: Path) -> None:
    events = "b\n" + "".join(f"2024-03-01T12:00:0{i}\n" for i in range(9))
    with pytest.raises(UserError, match="cannot be compared"):
        write(tmp_path, events, "columns: [b]", "{path: y, events: true, reduce: count}", "time: t")
