"""Published files to one HDF5 file, as the `convert` section of a data spec says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data.convert import readers
from maekit.data.convert.frames import frame_recordings, write_frames
from maekit.data.convert.sources import index_of
from maekit.data.convert.stream_values import function_of, made_of, offsets_of, values_of
from maekit.data.convert.timing import Timed, check_rows, timed
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.conversion import Conversion, Stream
    from maekit.config.data_spec import DataSpec
    from maekit.data.convert.sources import Files
    from maekit.data.convert.stream_values import Transformation, Transformations

Derivation = Callable[[Any, float], Any]

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


@dataclass
class _Recording:
    streams: dict[str, Timed] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> float:
        """When the recording starts: at the first value of its first stream (0 without stamps)."""
        return next(iter(self.streams.values())).start_s or 0.0


def convert(
    spec: DataSpec,
    source: Path,
    target: Path,
    *,
    derivations: Mapping[str, Mapping[str, Derivation]] | None = None,
    transformations: Transformations | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write what `spec` reads.

    Args:
        spec: with a `convert` section.
        source: folder of the published files.
        target: folder for the result; `<spec name>.h5` is written there (with `unzip`, the folder itself).
        derivations: functions by adapter and name, for `convert.derived`.
        transformations: functions by adapter and name, for a stream's `through`.
        overwrite: replace a result that is there already.
        tell: receives what a `through` found worth knowing, which its dataset keeps as the attribute `findings`.

    Returns:
        The file (with `unzip`, the folder) that was written.

    Raises:
        UserError: files, columns or keys that are missing or damaged. Nothing half-written stays.
    """
    if spec.convert is None:
        raise UserError(
            "this data spec has no `convert` section",
            value=spec.name,
            hint="It reads its files as they are; point data.root at them.",
        )
    if not source.is_dir():
        raise UserError("no such folder", location=str(source), expected="the folder of the published files")
    result = target if spec.convert.unzip else target / f"{spec.name}.h5"
    if result.exists() and not overwrite and (result.is_file() or any(result.iterdir())):
        raise UserError(
            "there is a result already", location=str(result), hint="Remove it, or convert with --overwrite."
        )
    if spec.convert.unzip:
        return _unpack(_one_file(source, spec.convert.unzip), target)
    with ExitStack() as archives:
        index = index_of(spec.convert, source, archives)
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f".{result.name}.{os.getpid()}.unfinished"
        try:
            with h5py.File(unfinished, "w") as file:
                for record in sorted(index) if spec.convert.framewise else ():
                    found = frame_recordings(spec.convert, record, index[record], transformations or {})
                    for name in sorted(found):
                        write_frames(_place(file, name, spec), found[name], spec.convert, name, tell)
                for record in sorted(index) if not spec.convert.framewise else ():
                    for name, recording in _read(spec.convert, record, index[record], transformations or {}).items():
                        for stream, part in recording.streams.items():
                            for finding in part.attributes.get("findings", ()):
                                tell(f"{name}/{stream}: {finding}")
                        _derive(spec.convert, recording, derivations or {}, name)
                        _write(_place(file, name, spec), recording, name)
            unfinished.replace(result)
        finally:
            unfinished.unlink(missing_ok=True)
    return result


def _read(
    rules: Conversion, record: str, files: Mapping[str, Files], transformations: Transformations
) -> dict[str, _Recording]:
    """The recordings of one name: one, or as many as a ragged array holds."""
    recordings: dict[str, _Recording] = {}
    wanted = set(rules.attributes.values())
    seen: set[str] = set()
    for stream, rule in rules.streams.items():
        if stream not in files:
            continue
        source = files[stream].whole[0]
        content = source.read()
        extra = {name: content.numbers_or_text(key) for name, key in rules.attributes.items() if key in content.arrays}
        seen |= wanted & set(content.arrays)
        for suffix, part, row in _parts(rule, content, function_of(rule, stream, transformations)):
            recording = recordings.setdefault(record + suffix, _Recording())
            recording.attributes |= source.attributes
            recording.streams[stream] = part
            for name, values in extra.items():
                recording.attributes[name] = _attribute(
                    values, part, row, f"{source.location}:{rules.attributes[name]}"
                )
    if missing := wanted - seen:
        key = min(missing)
        raise UserError(
            "no such column or key",
            location=next(iter(files.values())).whole[0].location,
            value=key,
            expected="a name in one of the recording's files, for `convert.attributes`",
            hint=nearest(key, content.arrays),
        )
    for name, recording in recordings.items():
        _complete(rules, recording, name)
    return recordings


def _parts(
    rule: Stream, content: readers.Content, through: Transformation | None
) -> Iterator[tuple[str, Timed, int | None]]:
    """(suffix of the recording's name, dataset, row among several recordings of one file)."""
    values = values_of(rule, content)
    if not isinstance(values, np.ndarray):
        raise UserError(
            "no numbers in time",
            location=content.location,
            expected="a format of arrays",
            hint="Files that hold a frame each need the group `frame` in `convert.record`.",
        )
    stamps = None
    if rule.time is not None:
        stamps = content.numbers(rule.time).astype(np.float64).ravel() * _SECONDS[rule.time_unit]
    if rule.offsets is None:
        if content.rate_hz is not None and rule.rate_hz not in (None, content.rate_hz):
            raise UserError(
                "a rate other than the stated one",
                location=content.location,
                value=content.rate_hz,
                expected=f"{rule.rate_hz:g} Hz",
                hint="Leave `rate_hz` out: the file states it.",
            )
        yield "", _part(rule, values, stamps, rule.rate_hz or content.rate_hz, content.location, through), None
        return
    if stamps is not None:
        check_rows(stamps, len(values), content.location)
    offsets = offsets_of(rule, content, len(values))
    rates = None
    if rule.rate_key is not None:
        rates = content.numbers(rule.rate_key).ravel()
        if len(rates) != len(offsets) - 1 or not (np.isfinite(rates) & (rates > 0)).all():
            raise UserError(
                "not one rate a recording",
                location=f"{content.location}:{rule.rate_key}",
                value=f"{len(rates)} values",
                expected=f"{len(offsets) - 1} rates above 0 Hz",
            )
    for row, (start, stop) in enumerate(pairwise(offsets)):
        rate = rule.rate_hz if rates is None else float(rates[row])
        own = None if stamps is None else stamps[start:stop]
        yield f"_{row:05d}", _part(rule, values[start:stop], own, rate, f"{content.location}:{row}", through), row


def _part(
    rule: Stream, values: Any, stamps: Any, rate_hz: float | None, location: str, through: Transformation | None
) -> Timed:
    """What was read, made into what is stored, on its grid in time."""
    values, attributes, findings = made_of(values, through, location)
    if not isinstance(values, np.ndarray):
        raise UserError("no numbers in time", location=location, value=type(values).__name__, expected="an array")
    noted = {**attributes, **({"findings": findings} if findings else {})}
    if stamps is not None:
        check_rows(stamps, len(values), location)
    part = timed(values, stamps, rate_hz, rule.resample_hz, location)
    part.attributes = noted
    return part


def _attribute(values: Any, part: Timed, row: int | None, location: str) -> Any:
    """One value, or one a row of the stream: those of the rows that a stream on another grid took."""
    if values.dtype.kind not in readers.NUMERIC + "US":
        raise UserError("neither numbers nor text", location=location, value=str(values.dtype))
    if row is not None:
        if row >= len(values):
            raise UserError("fewer entries than recordings", location=location, value=len(values))
        return values[row]
    if values.size == 1:
        return values.reshape(())[()]
    if part.rows is not None and len(values) > part.rows.max():
        return values[part.rows]
    return values


def _complete(rules: Conversion, recording: _Recording, name: str) -> None:
    """Empty datasets for optional streams; one clock for all, or none."""
    clocks = {stream: part.start_s is not None for stream, part in recording.streams.items()}
    if len(set(clocks.values())) > 1:
        raise UserError(
            "streams with and without time stamps in one recording",
            location=name,
            value=clocks,
            hint="Their common start is unknown: give each its `time`, or none of them.",
        )
    found = recording.streams
    recording.streams = {
        stream: found.get(stream, Timed(np.zeros(0, dtype=np.float32), rule.rate_hz or rule.resample_hz))
        for stream, rule in rules.streams.items()
    }
    if not len(next(iter(recording.streams.values())).values):
        raise UserError(
            "a recording without its first stream",
            location=name,
            value=next(iter(rules.streams)),
            expected="values, which start the recording",
        )


def _derive(
    rules: Conversion, recording: _Recording, derivations: Mapping[str, Mapping[str, Derivation]], name: str
) -> None:
    for derived, rule in rules.derived.items():
        location = f"convert.derived.{derived}"
        known = derivations.get(rule.adapter, {})
        if rule.function not in known:
            raise UserError(
                "no such derivation",
                location=location,
                value=f"{rule.adapter}.{rule.function}",
                expected="one of " + ", ".join(known),
                hint=nearest(rule.function, known),
            )
        part = recording.streams.get(rule.source)
        if part is None or part.rate_hz is None:
            raise UserError("a derivation needs a stream with a rate", location=location, value=rule.source)
        try:
            events = known[rule.function](part.values, part.rate_hz) if len(part.values) else np.zeros(0)
        except ValueError as error:
            raise UserError(
                f"{rule.function} cannot use this stream ({error})", location=f"{name}/{rule.source}"
            ) from error
        # Events count from the start of the recording, which is not that of the stream they were found in.
        shift = part.start_s - recording.origin if part.start_s is not None else 0.0
        recording.streams[derived] = Timed(np.asarray(events, dtype=np.float64) + shift, None)


def _place(file: h5py.File, name: str, spec: DataSpec) -> h5py.Group:
    if spec.records is not None:
        if name in file:
            raise UserError(
                "two recordings of one name",
                location=spec.name,
                value=name,
                hint="Let the group `record` of `convert.record` take in what tells them apart.",
            )
        return file.create_group(name)
    if len(file):
        raise UserError(
            "several recordings, but no groups to hold them",
            location=spec.name,
            value=name,
            expected="one recording",
            hint='Set `records: "/*"` in the data spec.',
        )
    return file


def _write(group: h5py.Group, recording: _Recording, record: str) -> None:
    for name, part in recording.streams.items():
        large = part.values.size > 4096
        data = group.create_dataset(name, data=part.values, compression="gzip" if large else None, shuffle=large)
        if part.rate_hz is not None:
            data.attrs["rate_hz"] = part.rate_hz
            data.attrs["start_s"] = 0.0 if part.start_s is None else part.start_s - recording.origin
        data.attrs.update(part.attributes)
    for name, value in recording.attributes.items():
        if name in recording.streams:
            raise UserError("an attribute with the name of a stream", location=record, value=name)
        if isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(name, data=np.char.encode(value, "utf-8") if value.dtype.kind == "U" else value)
        else:
            group.attrs[name] = value.item() if isinstance(value, np.generic) else value


def _one_file(source: Path, pattern: str) -> Path:
    found = sorted(source.glob(pattern))
    if len(found) != 1:
        raise UserError(
            "not one archive", location=str(source), value=[p.name for p in found], expected=f"one file like {pattern}"
        )
    return found[0]


def _unpack(source: Path, target: Path) -> Path:
    """A zip archive as files; what it does not hold stays as it is in `target`."""
    with readers.open_zip(source) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        target.mkdir(parents=True, exist_ok=True)
        size, free = sum(info.file_size for info in archive.infolist()), shutil.disk_usage(target).free
        if size > free:
            raise UserError(
                "not enough space", location=str(target), value=f"{free >> 20} MiB", expected=f"{size >> 20} MiB"
            )
        unfinished = target / f".{os.getpid()}.unfinished"
        try:
            for name in names:
                location = unfinished / name
                location.parent.mkdir(parents=True, exist_ok=True)
                location.write_bytes(readers.read_member(archive, name))
            for name in sorted({name.split("/")[0] for name in names}):
                if (target / name).is_dir():
                    shutil.rmtree(target / name)
                (unfinished / name).replace(target / name)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"a name is both file and folder ({error})", location=str(source)) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target
