"""`maekit data check`: what the files hold, and everything that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.config.data_spec import OBJECT_CLASS, DataSpec
from maekit.config.split_spec import Folds
from maekit.data.check.duplicates import duplicate_problems, same_files
from maekit.data.check.labels import label_problems
from maekit.data.check.problems import Problem, abbreviate, by_severity
from maekit.data.check.sentinels import CODES, Sentinel, describe_sentinel, find_sentinels, plain
from maekit.data.check.values import value_problems
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.packing import describe_packing
from maekit.data.hdf5.safety import BLOCK_LIMIT, open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.images.folder import ImageFolderSource
from maekit.data.images.listing import describe_passed_over
from maekit.data.images.packed import PackedFolder, open_folder
from maekit.data.images.problems import DEEP_MODES, header_problems
from maekit.data.sample import SignalInfo, Source
from maekit.data.splits import resolve_split
from maekit.errors import UserError

EXAMINED_SAMPLES = 1000
MAX_SENTINEL_VALUES = 1 << 22
MIN_SENTINEL_SAMPLES = 8
MAX_GROUPS = 12
GRAY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B"}
"""Pillow's modes without colour."""


def check(
    spec: DataSpec,
    root: Path,
    reducers: Mapping[str, Callable[[Any, float], float]],
    problems: list[Problem] | None = None,
    *,
    typed: str = "",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Iterator[str]:
    """Yield lines that report what the files hold, then a line for each kind of problem, worst first.

    Every file is opened, and every value of a recording read.

    Args:
        spec: the data spec.
        root: the folder with the files.
        reducers: the label reducers of all adapters, since a data spec does not name its adapter.
        problems: list that all problems are added to.
        typed: the data spec as a person named it, for commands; by default its name.
        ranges: smallest and largest label that can be measured at all, by unit, of all adapters.

    Raises:
        UserError: nothing can be read as the spec says.
    """
    problems = [] if problems is None else problems
    refused: list[UserError] = []
    source: Source
    if spec.kind == "image_folder":
        source = open_folder(spec, root)
    else:
        source = HDF5Windows(spec, root, reducers=reducers, refused=refused)
    problems += [Problem("error", error.problem, error.location, hint=error.hint) for error in refused]
    if isinstance(source, HDF5Windows):
        yield from _recordings(source, problems)
    else:
        assert isinstance(source, ImageFolderSource | PackedFolder)
        yield from _image_folder(source, problems)
    counts = Counter(source.groups.tolist())
    shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())[:MAX_GROUPS])
    yield f"{len(counts)} groups: {shown}" + (" ..." if len(counts) > MAX_GROUPS else "")
    if isinstance(source, HDF5Windows):
        yield from _auxiliary(spec, source)
    yield from _labels(spec, source, ranges or {}, problems)
    split: dict[str, NDArray[np.int64]] = {}
    try:
        split = resolve_split(source.groups, spec.split, spec.name)
        shares = ", ".join(f"{side} {len(indices)}" for side, indices in split.items())
        yield f"split: {shares} (no group on two sides)"
    except UserError as error:
        if not refused:  # else the group may be among the recordings that cannot be read
            raise
        problems.append(Problem("error", error.problem, error.location, hint=error.hint))
    sides = {str(group): side for side, indices in split.items() for group in np.unique(source.groups[indices])}
    if isinstance(source, HDF5Windows):
        problems += value_problems(source, sides, typed or spec.name)
    elif isinstance(source, ImageFolderSource):
        problems += _file_problems(source, sides, folds=isinstance(spec.split, Folds))
    yield from by_severity(problems)


def _file_problems(source: ImageFolderSource, sides: Mapping[str, str], *, folds: bool) -> Iterator[Problem]:
    pairs = same_files(len(source), lambda i: source.path(i).stat().st_size, lambda i: source.path(i).read_bytes())
    names = [os.fsdecode(name) for name in source.names]
    yield from duplicate_problems(pairs, names, source.groups.tolist(), sides, folds=folds)


def _recordings(source: HDF5Windows, problems: list[Problem]) -> Iterator[str]:
    """Windows, their shape, and the share of missing values."""
    yield f"{len(source.recordings)} recordings, {len(source)} usable windows"
    for reason, count in source.dropped.items():
        yield f"  left out: {count} ({reason})"
    yield f"a sample: {_shape(source.info)}" + (f", {source.info.rate_hz:g} Hz" if source.info.rate_hz else "")
    for packing in {describe_packing(recording.packing) for recording in source.recordings} - {""}:
        yield f"read by attributes of the files or `scale`: {packing}"
    examined = _examined(source)
    shares = [0.0 if (valid := source[i].valid) is None else float(1 - np.mean(valid)) for i in examined]
    incomplete = sum(share > 0 for share in shares)
    yield f"missing: {np.mean(shares):.2%} of the values, in {incomplete} of {len(examined)} samples examined"
    if not source.info.complex:
        yield from _signal_sentinels(source, problems)


def _signal_sentinels(source: HDF5Windows, problems: list[Problem]) -> Iterator[str]:
    """A line for each number in a channel that probably means that nothing was measured."""
    per_sample = max(1, int(np.prod(source.info.shape)))
    count = min(len(source), max(MIN_SENTINEL_SAMPLES, MAX_SENTINEL_VALUES // per_sample), EXAMINED_SAMPLES)
    picked = np.unique(np.linspace(0, len(source) - 1, count).round().astype(int)).tolist()
    signals = [source[i].signal for i in picked]
    for channel, name in enumerate(source.info.channels):
        values = np.concatenate([np.ravel(signal[channel]) for signal in signals])
        for sentinel in find_sentinels(values):
            problems.append(_sentinel_problem(sentinel, f"channel {name}" if name else "signal", "signal"))
            yield describe_sentinel(sentinel, name or "signal", "signal")


def _sentinel_problem(sentinel: Sentinel, name: str, section: str) -> Problem:
    return Problem(
        "error",
        "numbers that probably mean that nothing was measured",
        name,
        f"{plain(sentinel.value)}, {sentinel.repeats} times",
        f"Write `missing: [{plain(sentinel.value)}]` under `{section}` if so.",
    )


def _image_folder(source: ImageFolderSource | PackedFolder, problems: list[Problem]) -> Iterator[str]:
    """Number of files, those that are passed over, sizes and colour modes, and the shape of a sample."""
    if isinstance(source, PackedFolder):
        yield from source.verify()
    yield f"{len(source)} files"
    if isinstance(source, ImageFolderSource) and source.passed_over:
        yield f"  {describe_passed_over(source.passed_over)}"
    examined = _examined(source)
    shapes, peaks, headers = [], [255], {}
    for i in examined:
        sample, header = source[i], source.header(i)
        shapes.append(sample.signal.shape[1:])
        if header is not None:
            headers[sample.location] = header
            if header.mode in DEEP_MODES:
                peaks.append(int(sample.signal.max()))
    heights, widths = np.array(shapes).T
    sizes = Counter(zip(heights.tolist(), widths.tolist(), strict=True))
    if len(sizes) == 1:
        yield f"size: {heights[0]} x {widths[0]} pixels (height x width) in all {len(examined)} examined"
    else:
        yield (
            f"sizes: {len(sizes)} in {len(examined)} files examined; height {heights.min()} to {heights.max()}, "
            f"width {widths.min()} to {widths.max()} pixels, median {np.median(heights):g} x {np.median(widths):g}"
        )
    modes = Counter(header.mode for header in headers.values())
    problems += header_problems(headers, max(peaks[1:], default=255))
    yield "stored as: " + ", ".join(f"{mode} {count}" for mode, count in modes.most_common())
    names = ", ".join(source.info.channels)
    yield f"a sample: ({len(source.info.channels)}, height, width), channels {names}, 8 bits"
    if source.channels == 3 and modes and set(modes) <= GRAY_MODES:
        yield "  all of them are gray; `channels: 1` in the data spec keeps one channel instead of three equal ones"
    if source.channels == 1 and set(modes) - GRAY_MODES:
        yield "  some of them have colour, which becomes luma (`channels: 1`)"
    if source.classes is not None and len(source.classes) == 1:
        yield (
            f"  one class, {source.classes[0]}, from which no classifier learns; if that is the folder of all files, name it as "
            "`folder`, and a table with their labels as `table`"
        )


def _examined(source: Source) -> list[int]:
    """Indices of at most `EXAMINED_SAMPLES` evenly spread samples."""
    return [int(i) for i in np.unique(np.linspace(0, len(source) - 1, EXAMINED_SAMPLES).round())]


def _shape(info: SignalInfo) -> str:
    return f"{info.shape} of {', '.join(('channel', *(axis.name for axis in info.axes)))}"


def _auxiliary(spec: DataSpec, source: HDF5Windows) -> Iterator[str]:
    """A line for each auxiliary signal: its shape, and which recordings lack it.

    Raises:
        UserError: a signal disagrees with the spec.
    """
    for name in spec.auxiliary:
        signals = AuxiliarySignals(spec, source.window, [name], BLOCK_LIMIT)
        for recording in source.recordings:
            with open_hdf5(recording.file) as file:
                signals.describe(file, recording.file, recording.record, recording.rows)
        present, count = signals.having(name), len(source.recordings)
        if not present:
            yield f"auxiliary signals: {name} is in no recording (no dataset {spec.auxiliary[name].path!r})"
            continue
        info = signals.infos(sorted(present))[name]
        lacking = [recording.record for number, recording in enumerate(source.recordings) if number not in present]
        if lacking:
            where = f"in {len(present)} of {count} recordings; not in {abbreviate(lacking)}"
        else:
            where = f"in all {count} recordings"
        yield f"auxiliary signals: {name} {_shape(info)}, {where}"


def _labels(
    spec: DataSpec, source: Source, ranges: Mapping[str, tuple[float, float]], problems: list[Problem]
) -> Iterator[str]:
    if source.labels is None:
        return
    if source.objects is not None:
        yield from _objects(source, source.objects)
    elif source.classes:
        counts = ((name, int((source.labels == i).sum())) for i, name in enumerate(source.classes))
        yield "labels: " + ", ".join(f"{name} {count}" for name, count in counts)
    else:
        values = np.asarray(source.labels, dtype=np.float64)
        unit = f" {spec.label.unit}" if spec.label and spec.label.unit else ""
        yield f"labels: {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}{unit}"
        found = find_sentinels(values)
        if isinstance(source, HDF5Windows):  # where windows are means over such numbers, too
            changes = [source.label_changes(recording) for recording in source.recordings]
            known = {sentinel.value for sentinel in found}
            codes = [one for one in find_sentinels(np.concatenate([[], *changes])) if one.value in CODES]
            found += [code for code in codes if code.value not in known]
        for sentinel in found:
            problems.append(_sentinel_problem(sentinel, "labels", "label"))
            yield describe_sentinel(sentinel, "labels", "label")
        problems += label_problems(values, (spec.label.unit if spec.label else "") or "", ranges)


def _objects(source: Source, names: Sequence[str]) -> Iterator[str]:
    """Number of objects in a sample, by class, and the range of each column against the sample's axes."""
    table = np.asarray(source.labels)
    present = np.isfinite(table).all(-1)
    count = present.sum(1)
    yield (
        f"objects: {present.sum()}, {count.min()} to {count.max()} in a sample, {count.mean():.2f} on average; "
        f"{int((count == 0).sum())} samples without"
    )
    columns = {name: table[present][:, i] for i, name in enumerate(names)}
    if source.classes and present.any():
        classes = columns[OBJECT_CLASS]
        counts = ((name, int((classes == i).sum())) for i, name in enumerate(source.classes))
        yield "  " + ", ".join(f"{name} {n} ({n / len(table):.2f} a sample)" for name, n in counts)
    axes = {axis.name: axis for axis in source.info.axes}
    for name, values in columns.items():
        if name == OBJECT_CLASS or not len(values):
            continue
        line = f"  {name} {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
        if (axis := axes.get(name)) is not None and axis.step is not None:
            points = axis.points()
            outside = int(((values < points[0]) | (values > points[-1])).sum())
            line += f" {axis.unit}; the axis goes from {points[0]:.4g} to {points[-1]:.4g}"
            line += f"; OUTSIDE of it: {outside}" if outside else ""
        yield line
