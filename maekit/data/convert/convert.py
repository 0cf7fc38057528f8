"""Published files to one HDF5 file, by the `convert` section of a data spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.config.data_spec import TIME
from maekit.data.convert.agreement import check_label_rows, check_one_value, check_rate, check_window
from maekit.data.convert.archive import unpack
from maekit.data.convert.file_array import blocks
from maekit.data.convert.frames import read_frame_recordings, write_frames
from maekit.data.convert.join import join_table
from maekit.data.convert.labels import resolve_labels
from maekit.data.convert.recordings import read_recordings
from maekit.data.convert.sources import index_files
from maekit.data.convert.time_line import TimedRecording
from maekit.data.convert.timing import Timed
from maekit.data.hdf5.writing import Hdf5File, replacing_hdf5
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.conversion import Conversion, LabelTable
    from maekit.config.data_spec import DataSpec
    from maekit.data.convert.sources import Index
    from maekit.data.convert.stream_values import Transformations

Derivation = Callable[[Any, float], Any]
"""(values, rate in Hz) to event times in seconds."""


def convert(
    spec: DataSpec,
    source: Path,
    target: Path,
    *,
    derivations: Mapping[str, Mapping[str, Derivation]] | None = None,
    transformations: Transformations | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write the HDF5 file that `spec` reads.

    Args:
        spec: a data spec with a `convert` section.
        source: folder of the published files.
        target: folder for the result, `<spec name>.h5` (with `unzip`, the folder itself).
        derivations: functions by adapter and name, for `convert.derived`.
        transformations: functions by adapter and name, for the `through` of a stream.
        overwrite: replace an existing result.
        tell: receives the findings of transformations, which are also stored in the attribute `findings`.

    Returns:
        The file (with `unzip`, the folder) that was written.

    Raises:
        UserError: files, columns or keys are missing or damaged. No partial result remains.
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
        return unpack(_only_file(source, spec.convert.unzip), target)
    with ExitStack() as archives:
        rules = spec.convert.model_copy(update={"streams": resolve_labels(spec)})
        index = index_files(rules, source, archives)
        if rules.table is not None:
            _join_table(rules.table, source, index, tell)
        with replacing_hdf5(result) as file:
            if rules.framewise:
                check_rate(spec, rules)
                _write_frame_recordings(file, spec, rules, index, transformations or {}, tell)
            else:
                writer = _RecordingWriter(file, spec, rules, derivations or {}, tell)
                signal, auxiliary = _streams_in_time(spec, rules)
                for record in sorted(index):
                    recordings = read_recordings(rules, record, index[record], transformations or {}, signal, auxiliary)
                    writer.write(recordings)
    return result


def _join_table(rule: LabelTable, source: Path, index: Index, tell: Callable[[str], None]) -> None:
    """Add the attributes of a table to the files of recordings, in place."""
    files = {record: [file for part in streams.values() for file in part.all()] for record, streams in index.items()}
    paths = {record: [file.path for file in parts] for record, parts in files.items()}
    for record, attributes in join_table(rule, source, paths, tell).items():
        for file in files[record]:
            file.attributes.update(attributes)


def _streams_in_time(spec: DataSpec, rules: Conversion) -> tuple[str, list[str]]:
    """The stream that is the spec's signal (an empty name if none is), and those of auxiliary signals that are cut like it."""
    signal = spec.signal.path if spec.signal is not None and spec.signal.path in rules.streams else ""
    cut = spec.window is None or spec.window.axis == TIME
    names = [item.path for item in spec.auxiliary.values() if cut and TIME in item.axes and item.path in rules.streams]
    return signal, [name for name in names if rules.streams[name].labels is None]


def _write_frame_recordings(
    file: h5py.File,
    spec: DataSpec,
    rules: Conversion,
    index: Index,
    transformations: Transformations,
    tell: Callable[[str], None],
) -> None:
    label = spec.label
    objects = {label.path: label.objects} if label and label.path and label.objects else {}
    for record in sorted(index):
        recordings = read_frame_recordings(rules, record, index[record], transformations, objects)
        for name in sorted(recordings):
            group = _create_group(file, name, spec)
            write_frames(group, recordings[name], rules, name, tell)
            _check_complex(group, spec, name)


class _RecordingWriter:
    """Derives the derived datasets of recordings in time, and writes recordings to groups of a file."""

    def __init__(
        self,
        file: Hdf5File,
        spec: DataSpec,
        rules: Conversion,
        derivations: Mapping[str, Mapping[str, Derivation]],
        tell: Callable[[str], None],
    ) -> None:
        self.file, self.spec, self.rules, self.derivations, self.tell = file, spec, rules, derivations, tell
        self._full_scales: dict[str, tuple[float, str]] = {}

    def write(self, recordings: Mapping[str, TimedRecording]) -> None:
        """Write recordings by name.

        Raises:
            UserError: two have one name, a derivation fails, or their sounds have different full scales.
        """
        for name, recording in recordings.items():
            for stream, part in recording.streams.items():
                for finding in part.attributes.get("findings", ()):
                    self.tell(f"{name}/{stream}: {finding}")
                self._check_full_scale(stream, part, name)
            check_window(self.spec, recording, name)
            check_label_rows(self.spec, recording, name)
            check_one_value(self.spec, self.rules, recording, name)
            _derive(self.rules, recording, self.derivations, name)
            group = _create_group(self.file, name, self.spec)
            _write_recording(group, recording, name, self.file.check)
            _check_complex(group, self.spec, name)

    def _check_full_scale(self, stream: str, part: Timed, name: str) -> None:
        if "full_scale" not in part.attributes:
            return
        full_scale: float = part.attributes["full_scale"]
        first, first_name = self._full_scales.setdefault(stream, (full_scale, name))
        if full_scale != first:
            raise UserError(
                "sounds of different full scale: some files hold integers, others floats",
                location=f"{name}/{stream}",
                value=full_scale,
                expected=f"{first:g}, as in {first_name}",
                hint="Store them all in one way, or convert them with two data specs.",
            )


def _derive(
    rules: Conversion, recording: TimedRecording, derivations: Mapping[str, Mapping[str, Derivation]], name: str
) -> None:
    """Add the derived datasets to a recording."""
    for derived, rule in rules.derived.items():
        location = f"convert.derived.{derived}"
        functions = derivations.get(rule.adapter, {})
        if rule.function not in functions:
            raise UserError(
                "no such derivation",
                location=location,
                value=f"{rule.adapter}.{rule.function}",
                expected="one of " + ", ".join(functions),
                hint=nearest(rule.function, functions),
            )
        part = recording.streams.get(rule.source)
        if part is None or part.rate_hz is None:
            raise UserError("a derivation needs a stream with a rate", location=location, value=rule.source)
        try:
            events = (
                functions[rule.function](np.asarray(part.values), part.rate_hz) if len(part.values) else np.zeros(0)
            )
        except ValueError as error:
            raise UserError(
                f"{rule.function} cannot use this stream ({error})", location=f"{name}/{rule.source}"
            ) from error
        # Events count from the start of the recording, not from that of the stream they were found in.
        recording.streams[derived] = Timed(np.asarray(events, dtype=np.float64) + recording.start_of(part), None)


def _create_group(file: h5py.File, name: str, spec: DataSpec) -> h5py.Group:
    """The group of a recording, which is the file itself if the spec names no `records`."""
    if spec.records is not None:
        if name in file:
            raise UserError(
                "two recordings of one name",
                location=spec.name,
                value=name,
                hint="Let the group `record` of `convert.record` include what tells them apart.",
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


def _write_recording(group: h5py.Group, recording: TimedRecording, name: str, check: Callable[[], None]) -> None:
    """Write a recording a block of rows at a time, with a check for failed writes before each."""
    for stream, part in recording.streams.items():
        data = group.create_dataset(stream, part.values.shape, part.values.dtype)
        for rows, values in blocks(part.values):
            check()
            data[rows] = values
        if part.rate_hz is not None:
            data.attrs["rate_hz"] = part.rate_hz
            data.attrs["start_s"] = recording.start_of(part)
        data.attrs.update({key: _whole_text(value) for key, value in part.attributes.items()})
    for attribute, value in recording.attributes.items():
        if attribute in recording.streams:
            raise UserError("an attribute with the name of a stream", location=name, value=attribute)
        if isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(attribute, data=np.char.encode(value, "utf-8") if value.dtype.kind == "U" else value)
        else:
            group.attrs[attribute] = _whole_text(value.item() if isinstance(value, np.generic) else value)


def _whole_text(value: Any) -> Any:
    """A text with U+FFFD for bytes that are no UTF-8, which Python holds as surrogates and HDF5 refuses; other values as they are."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


def _check_complex(group: h5py.Group, spec: DataSpec, name: str) -> None:
    """Refuse real numbers for a signal that the data spec calls complex: I and Q may stand in turn in the file.

    Raises:
        UserError: see above.
    """
    for signal in (spec.signal, *spec.auxiliary.values()):
        if signal is None or signal.complex in (None, "pairs") or not isinstance(group.get(signal.path), h5py.Dataset):
            continue
        if group[signal.path].dtype.kind != "c":
            raise UserError(
                f"real numbers, and the data spec says `complex: {signal.complex}`",
                location=f"{name}/{signal.path}",
                value=str(group[signal.path].dtype),
                expected="complex numbers",
                hint="If I and Q stand in turn in the files, name their type in the stream's `format`, such as ci16_le, ci8 or "
                "cf32_le. If the signal is real, remove `complex`.",
            )


def _only_file(source: Path, pattern: str) -> Path:
    paths = sorted(source.glob(pattern))
    if len(paths) != 1:
        raise UserError(
            "not one archive",
            location=str(source),
            value=[path.name for path in paths],
            expected=f"one file like {pattern}",
        )
    return paths[0]
