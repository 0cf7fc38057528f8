"""Published files to one HDF5 file, as the `convert` section of a data spec says."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data import readers
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.conversion import Stream
    from maekit.data.spec import DataSpec

Derivation = Callable[[Any, float], Any]


@dataclass
class _Part:
    """One dataset of one recording: values, rate, and the time of its first value (0 where there are no stamps)."""

    values: NDArray[Any]
    rate_hz: float | None
    start_s: float = 0.0


@dataclass
class _Recording:
    streams: dict[str, _Part] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def convert(
    spec: DataSpec,
    source: Path,
    target: Path,
    *,
    derivations: Mapping[str, Mapping[str, Derivation]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write what `spec` reads.

    Args:
        spec: with a `convert` section.
        source: folder of the published files.
        target: folder for the result; `<spec name>.h5` is written there (with `unzip`, the folder itself).
        derivations: functions by adapter and name, for `convert.derived`.
        overwrite: replace a result that is there already.

    Returns:
        The file (with `unzip`, the folder) that was written.

    Raises:
        UserError: files, columns or keys that are missing or damaged. Nothing half-written stays.
    """
    if spec.convert is None:
        raise UserError("this data spec has no `convert` section", value=spec.name,
                        mend="It reads its files as they are; point data.root at them.")  # fmt: skip
    if not source.is_dir():
        raise UserError("no such folder", place=str(source), expected="the folder of the published files")
    result = target if spec.convert.unzip else target / f"{spec.name}.h5"
    if result.exists() and not overwrite and (result.is_file() or any(result.iterdir())):
        raise UserError("there is a result already", place=str(result), mend="Remove it, or convert with --overwrite.")
    target.mkdir(parents=True, exist_ok=True)
    if spec.convert.unzip:
        return _unpack(_one_file(source, spec.convert.unzip), target)
    recordings = _collect(spec, source)
    for recording in recordings.values():
        _derive(spec, recording, derivations or {})
    handle, unfinished = tempfile.mkstemp(suffix=".h5", dir=target)
    os.close(handle)
    try:
        with h5py.File(unfinished, "w") as file:
            for name, recording in sorted(recordings.items()):
                _write(file if spec.records is None else file.create_group(name), recording)
        Path(unfinished).replace(result)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return result


def _collect(spec: DataSpec, source: Path) -> dict[str, _Recording]:
    assert spec.convert is not None
    recordings: dict[str, _Recording] = {}
    for name, stream in spec.convert.streams.items():
        for path, arrays, rate in _sources(stream, source):
            found = re.search(spec.convert.record, path)
            if found is None:
                continue
            attributes = {
                key: value for key, value in found.groupdict().items() if key != "record" and value is not None
            }
            record = found.groupdict().get("record") or found.group(0)
            for suffix, part, row in _parts(stream, arrays, rate, path):
                recording = recordings.setdefault(record + suffix, _Recording())
                recording.attributes |= attributes
                recording.streams[name] = part
                for attribute, key in spec.convert.attributes.items():
                    values = readers.pick(arrays, key, path)
                    recording.attributes[attribute] = values if row is None else values[row]
    if not recordings:
        raise UserError("no source file matches", place=str(source), value=[s.files for s in spec.convert.streams.values()],
                        expected=f"paths that match {spec.convert.record!r}", mend="Is this the right folder?")  # fmt: skip
    for record, recording in list(recordings.items()):
        for name, stream in spec.convert.streams.items():
            if name not in recording.streams:
                if not stream.optional:
                    raise UserError("a recording without one of its streams", place=str(source), value=record, expected=name,
                                    mend="Set `optional: true` on that stream if this is so.")  # fmt: skip
                recording.streams[name] = _Part(np.zeros(0, dtype=np.float32), stream.rate_hz)
    return recordings


def _sources(stream: Stream, source: Path) -> Iterator[tuple[str, readers.Arrays, float | None]]:
    """(path below the source folder, arrays, rate in the file) of every file or zip member of a stream."""
    for path in sorted(source.glob(stream.files)):
        relative = str(path.relative_to(source))
        if stream.member is None:
            arrays, rate = readers.read(path, stream.format)
            yield relative, arrays, rate
            continue
        for name, content in readers.members(path, stream.member):
            place = f"{path}!{name}"
            arrays, rate = readers.parse(content, place, stream.format or readers.kind_of(name, place))
            yield name, arrays, rate


def _parts(
    stream: Stream, arrays: readers.Arrays, rate: float | None, place: str
) -> Iterator[tuple[str, _Part, int | None]]:
    """(suffix of the record's name, dataset, row among several recordings of one file)."""
    names = stream.columns or [stream.key or next(iter(arrays))]
    columns = [readers.numbers(readers.pick(arrays, name, place), place) for name in names]
    values = columns[0] if len(columns) == 1 else np.stack(columns, axis=-1)
    if np.iscomplexobj(values) is False and values.dtype == np.float64:
        values = values.astype(np.float32)
    if stream.offsets is None:
        part = _timed(stream, values, arrays, rate, place)
        yield "", part, None
        return
    offsets = readers.pick(arrays, stream.offsets, place)
    rates = readers.pick(arrays, stream.rate_key, place) if stream.rate_key else None
    for row, (start, stop) in enumerate(pairwise(offsets)):
        own = float(rates[row]) if rates is not None else stream.rate_hz
        yield f"_{row:05d}", _Part(values[start:stop], own), row


def _timed(stream: Stream, values: NDArray[Any], arrays: readers.Arrays, rate: float | None, place: str) -> _Part:
    rate = stream.rate_hz or rate
    if stream.time is None:
        return _Part(values, rate)
    unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6}[stream.time_unit]
    stamps = readers.numbers(readers.pick(arrays, stream.time, place), place).astype(np.float64) * unit
    if stream.resample_hz is not None:
        return _Part(_resample(stamps, values, stream.resample_hz), stream.resample_hz, float(stamps[0]))
    steps = np.diff(stamps)
    if stream.rate_hz is not None:
        # A steady clock behind quantised stamps: of all lines with this slope, the one through the median stamp.
        start = float(np.median(stamps - np.arange(len(stamps)) / stream.rate_hz))
        return _Part(values, stream.rate_hz, start)
    interval = float(np.median(steps))
    if interval <= 0 or np.abs(steps - interval).max() > 0.01 * interval:
        raise UserError(
            "time stamps that are not evenly spaced", place=place,
            value=f"intervals of {steps.min():.6g} to {steps.max():.6g} s", expected="a steady rate to within 1 %",
            mend="Give `rate_hz` if the device's clock is steady, or `resample_hz` to put the data on an even grid.",
        )  # fmt: skip
    return _Part(values, 1 / interval, float(stamps[0]))


def _resample(stamps: NDArray[Any], values: NDArray[Any], rate_hz: float) -> NDArray[Any]:
    """Linear interpolation on a fine even grid, low-pass filtered and decimated to `rate_hz`."""
    from scipy.signal import resample_poly

    factor = max(1, int(np.ceil(1 / (np.median(np.diff(stamps)) * rate_hz))))
    fine = np.arange(stamps[0], stamps[-1], 1 / (rate_hz * factor))
    columns = values.reshape(len(values), -1)
    even = np.stack([np.interp(fine, stamps, column) for column in columns.T], axis=-1)
    slow = resample_poly(even, 1, factor, axis=0, padtype="line") if factor > 1 else even
    return slow.reshape(len(slow), *values.shape[1:]).astype(np.float32)


def _derive(spec: DataSpec, recording: _Recording, derivations: Mapping[str, Mapping[str, Derivation]]) -> None:
    assert spec.convert is not None
    origin = next(iter(recording.streams.values())).start_s
    for name, rule in spec.convert.derived.items():
        known = derivations.get(rule.adapter, {})
        if rule.function not in known:
            raise UserError("no such derivation", place=f"convert.derived.{name}", value=f"{rule.adapter}.{rule.function}",
                            expected="one of " + ", ".join(known), mend=nearest(rule.function, known))  # fmt: skip
        part = recording.streams.get(rule.source)
        if part is None or part.rate_hz is None:
            raise UserError(
                "a derivation needs a stream with a rate", place=f"convert.derived.{name}", value=rule.source
            )
        events = known[rule.function](part.values, part.rate_hz) if len(part.values) else np.zeros(0)
        # Events count from the start of the recording, which is the first value of its first stream.
        recording.streams[name] = _Part(np.asarray(events, dtype=np.float64) + part.start_s - origin, None)


def _write(group: h5py.Group, recording: _Recording) -> None:
    origin = next(iter(recording.streams.values())).start_s
    for name, part in recording.streams.items():
        data = group.create_dataset(name, data=part.values, compression="gzip" if part.values.size > 4096 else None,
                                    shuffle=part.values.size > 4096)  # fmt: skip
        if part.rate_hz is not None:
            data.attrs["rate_hz"] = part.rate_hz
            data.attrs["start_s"] = part.start_s - origin
    for name, value in recording.attributes.items():
        if isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(name, data=value.astype("S") if value.dtype.kind == "U" else value)
        else:
            group.attrs[name] = value.item() if isinstance(value, np.generic) else value


def _one_file(source: Path, pattern: str) -> Path:
    found = sorted(source.glob(pattern))
    if len(found) != 1:
        raise UserError(
            "not one archive", place=str(source), value=[p.name for p in found], expected=f"one file like {pattern}"
        )
    return found[0]


def _unpack(archive: Path, target: Path) -> Path:
    for name, content in readers.members(archive):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return target
