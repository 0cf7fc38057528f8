"""One pass over the values of all recordings, and the problems that show in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maekit.config.data_spec import TIME
from maekit.config.split_spec import Folds
from maekit.data.check.clocks import clock_problems
from maekit.data.check.duplicates import Sketch, duplicate_problems, same_signals
from maekit.data.check.levels import ChannelLevels, Transient, level_problems, start_problems
from maekit.data.check.problems import Problem
from maekit.data.check.storage import cost_problems, rate_problems, type_problems
from maekit.data.hdf5.read_cost import pack_command
from maekit.data.hdf5.safety import damage_as_error, open_hdf5
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    import h5py
    from numpy.typing import NDArray

    from maekit.data.hdf5.recording import Recording
    from maekit.data.hdf5.source import HDF5Windows

_BLOCK_BYTES = 4 << 20


def value_problems(source: HDF5Windows, sides: Mapping[str, str], spec: str) -> Iterator[Problem]:
    """Problems of the recordings' values, and of recordings beside each other.

    Args:
        source: of windows.
        sides: of the split, by group.
        spec: the data spec as a person types it, for commands.
    """
    names, types, peaks, sketches, scaled_sketches = [], [], [], [], []
    starts: dict[bool, list[Transient]] = {True: [], False: []}
    rest: dict[str, tuple[float, float]] = {}
    groups = _groups(source)
    for recording, group in zip(source.recordings, groups, strict=True):
        name = recording_name(source, recording)
        takes_part = not sides or not group or group in sides
        sketch, scaled, peak, stored = Sketch(), Sketch(scaled=True), 0.0, ""
        try:
            with open_hdf5(recording.file) as file, damage_as_error(str(recording.file)):
                stored = str(file[recording.dataset].dtype)
                levels = _measure(source, file, recording, (sketch, scaled))
                peak = max((max(abs(level.low.value), abs(level.high.value)) for level in levels.values()), default=0.0)
                rate_hz = recording.rate_hz if source.reader.row_axis == TIME else None
                found = [
                    *level_problems(levels, name, one_axis=len(source.reader.axes) == 1),
                    *clock_problems(file[recording.record], recording, source.reader.row_axis, name),
                ]
                for channel, level in levels.items():
                    if (start := level.transient(name, channel, rate_hz)) is not None:
                        starts[takes_part].append(start)
                    low, high = rest.get(channel, (np.inf, -np.inf))
                    rest[channel] = min(low, level.rest_low), max(high, level.rest_high)
        except UserError as error:
            found = [Problem("error", error.problem, error.location or name, hint=error.hint)]
        yield from found if takes_part else map(_of_no_side, found)
        names.append(name)
        types.append(stored)
        peaks.append(peak)
        sketches.append(sketch.hashes)
        scaled_sketches.append(scaled.hashes)
    spans = {channel: high - low for channel, (low, high) in rest.items()}
    yield from start_problems(starts[True], spans)
    yield from map(_of_no_side, start_problems(starts[False], spans))
    yield from type_problems(types, peaks, names)
    yield from rate_problems([recording.rate_hz for recording in source.recordings], names)
    yield from cost_problems(dict(zip(names, source.costs, strict=True)), pack_command(spec, source.root))
    folds = isinstance(source.spec.split, Folds)
    same = same_signals(sketches)
    yield from duplicate_problems(same, names, groups, sides, folds=folds)
    alike = [pair for pair in same_signals(scaled_sketches) if pair not in set(same)]
    yield from duplicate_problems(alike, names, groups, sides, folds=folds, scaled=True)


def recording_name(source: HDF5Windows, recording: Recording) -> str:
    """How messages name a recording."""
    file = recording.file.relative_to(source.root).as_posix()
    return f"{file}:{recording.record}" if recording.record != "/" else file


def _of_no_side(problem: Problem) -> Problem:
    """The problem of a recording that no side of the split takes, which can make no training wrong."""
    return replace(problem, severity="warning") if problem.severity == "error" else problem


def _groups(source: HDF5Windows) -> list[str]:
    """The group of each recording's first window; empty for a recording without windows."""
    groups = [""] * len(source.recordings)
    numbers = source.positions[:, 0].astype(np.int64)
    for window in reversed(range(len(numbers))):
        groups[numbers[window]] = str(source.groups[window])
    return groups


def _measure(
    source: HDF5Windows, file: h5py.File, recording: Recording, sketches: Sequence[Sketch]
) -> dict[str, ChannelLevels]:
    """Levels of each channel, in two passes where values lie at a rail or fill the range of an integer; the first pass fills the sketches."""
    levels: dict[str, ChannelLevels] = {}
    for first, signal, valid in _blocks(source, file, recording):
        rows = np.moveaxis(signal, 0, 1).reshape(signal.shape[1], -1)
        for sketch in sketches:
            sketch.add(rows, np.asarray(valid.all(1)))
        if np.iscomplexobj(signal):
            continue
        if not levels:
            channels = source.reader.signal.channel_names(len(signal))
            levels = {name: ChannelLevels(recording.rows) for name in channels}
        for level, values in zip(levels.values(), signal, strict=True):
            level.add(values, valid, first)
    suspects = [
        (number, level)
        for number, level in enumerate(levels.values())
        if level.may_be_clipped or level.word_bits is not None
    ]
    if suspects:
        for _, signal, valid in _blocks(source, file, recording):
            for number, level in suspects:
                if level.may_be_clipped:
                    level.add_near(signal[number], valid)
                if level.word_bits is not None:
                    level.add_middle(signal[number], valid)
    return levels


def _blocks(
    source: HDF5Windows, file: h5py.File, recording: Recording
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.bool_]]]:
    """First row, (channels, rows, others) values and (rows, others) validity, block by block."""
    reader = source.reader
    axis = reader.axes.index(reader.row_axis)
    step = reader.block(file[recording.dataset], recording, _BLOCK_BYTES)
    for first in range(0, recording.rows, step):
        signal, valid = reader.read(file, recording, first, min(first + step, recording.rows))
        rows = valid.shape[axis]
        kind = np.complex64 if np.iscomplexobj(signal) else np.float32
        moved = np.moveaxis(signal, axis + 1, 1).astype(kind, copy=False)
        yield first, moved.reshape(len(signal), rows, -1), np.moveaxis(valid, axis, 0).reshape(rows, -1)
