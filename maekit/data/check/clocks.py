"""Time stamps and row numbers that stand beside a signal, compared with its stated rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.config.data_spec import TIME
from maekit.data.check.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import Recording

CLOCK_NAMES = ("time", "times", "timestamp", "timestamps", "t", "time_s", "time_ms", "time_us", "time_ns", "ts")
NUMBER_NAMES = ("frame", "frames", "frame_number", "frame_index", "sequence", "sequence_number", "packet", "counter")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_MAX_RATE_ERROR = 0.01
_GAP = 1.5
"""Intervals between two stamps from which on something is missing."""
_MAX_BYTES = 256 << 20


def clock_problems(record: h5py.Group, recording: Recording, row_axis: str, name: str) -> Iterator[Problem]:
    """Problems of the clocks and counters of one recording.

    Args:
        record: group of the recording.
        recording: its shape and rate.
        row_axis: axis along which it is cut.
        name: how messages name the recording.
    """
    for key in record:
        plain = key.lower()
        is_number = plain == row_axis.lower() != TIME or plain in NUMBER_NAMES
        is_clock = plain in CLOCK_NAMES and row_axis == TIME and recording.rate_hz is not None
        if not (is_number or is_clock) or not isinstance(record.get(key, getlink=True), h5py.HardLink):
            continue
        data = record[key]
        if not isinstance(data, h5py.Dataset) or data.shape != (recording.rows,) or data.dtype.kind not in "iuf":
            continue
        if data.name == recording.dataset or data.dtype.itemsize * recording.rows > _MAX_BYTES or recording.rows < 3:
            continue
        location = f"{name}/{key}" if recording.record != "/" else f"{name}:/{key}"
        values = np.asarray(data[()], dtype=np.float64 if data.dtype.kind == "f" else np.int64)
        yield from (
            _stamps(values, recording.rate_hz or 1.0, location)
            if is_clock
            else _numbers(values, location, recording.length)
        )


def _stamps(stamps: NDArray[Any], rate_hz: float, location: str) -> Iterator[Problem]:
    steps = np.diff(stamps.astype(np.float64))
    steps = steps[np.isfinite(steps)]
    if not len(steps):
        return
    if back := int((steps < 0).sum()):
        yield Problem(
            "error",
            "time stamps that go back",
            location,
            f"{back} times",
            "Sort the rows, or split the recording there.",
        )
        return
    # Stamps may come in batches or be quantised: the mean over stretches without a gap tells the rate, not single steps.
    usual = float(np.median(steps)) or float(np.mean(steps))
    if not usual:
        return
    even = steps[steps <= 5 * max(usual, float(np.mean(steps)))]
    interval = float(np.mean(even))
    rates = {unit: 1 / (interval * seconds) for unit, seconds in _UNITS.items()}
    unit, rate = min(rates.items(), key=lambda item: abs(np.log(item[1] / rate_hz)))
    if abs(rate / rate_hz - 1) > _MAX_RATE_ERROR:
        yield Problem(
            "error",
            "time stamps at another rate than the stated one",
            location,
            f"{rate:.6g} Hz by the stamps in {unit}, {rate_hz:g} Hz stated",
            "Correct `signal.rate_hz`, or convert the recordings with `time` in `convert.streams`.",
        )
        return
    gaps = steps[steps > _GAP * max(usual, interval)]
    if len(gaps) and usual > 0.5 * interval:  # not batches under one stamp
        longest = float(gaps.max()) * _UNITS[unit]
        yield Problem(
            "warning",
            "gaps in time stamps, across which windows are cut as if nothing were missing",
            location,
            f"{len(gaps)} gaps, the longest {longest:.3g} s",
            "Convert the recordings with `time` and `rate_hz` in `convert.streams`, which marks what is missing.",
        )


def _numbers(numbers: NDArray[Any], location: str, window: int) -> Iterator[Problem]:
    steps = np.diff(numbers)
    if not len(steps):
        return
    if back := int((steps <= 0).sum()):
        yield Problem(
            "error",
            "row numbers that do not rise",
            location,
            f"{back} times",
            "Sort the rows, or split the recording there.",
        )
        return
    usual = float(np.median(steps))
    gaps = steps[steps > usual]
    if len(gaps):
        lost = int((gaps / usual - 1).sum())
        yield Problem(
            "warning" if window > 1 else "note",
            "gaps in row numbers" + (", across which windows are cut as if nothing were missing" if window > 1 else ""),
            location,
            f"{len(gaps)} gaps, {lost} rows lost of {len(numbers) + lost}",
        )
