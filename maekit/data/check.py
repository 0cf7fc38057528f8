"""Whether files are what a data spec says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maekit.config.data_spec import OBJECT_CLASS, DataSpec
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.safety import BLOCK_LIMIT, open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.images.packed import PackedFolder, open_folder
from maekit.data.sample import Source
from maekit.data.splits import resolve

LOOKED_AT = 1000
MOST_NAMED = 8


def check(spec: DataSpec, root: Path, reducers: Mapping[str, Callable[[Any, float], float]]) -> Iterator[str]:
    """Lines that say what was found; every file is opened and every floating-point value looked at once.

    Args:
        spec: the data spec.
        root: the folder with the files.
        reducers: those of all adapters, since a spec does not name its own.

    Raises:
        UserError: the first thing that is not as the spec says.
    """
    source: Source
    if spec.kind == "image_folder":
        source = open_folder(spec, root)
        if isinstance(source, PackedFolder):
            yield from source.verify()
    else:
        source = HDF5Windows(spec, root, reducers=reducers)
        yield f"{len(source.recordings)} recordings, {len(source)} usable windows"
        for reason, count in source.dropped.items():
            yield f"  left out: {count} ({reason})"
    yield f"a sample: {source.info.shape} of {', '.join(('channel', *(axis.name for axis in source.info.axes)))}" + (
        f", {source.info.rate_hz:g} Hz" if source.info.rate_hz else ""
    )
    yield _missing(source)
    counts = Counter(source.groups.tolist())
    yield (
        f"{len(counts)} groups: "
        + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())[:12])
        + (" ..." if len(counts) > 12 else "")
    )
    if isinstance(source, HDF5Windows):
        yield from _auxiliary(spec, source)
    if source.labels is not None and source.objects is not None:
        yield from _objects(source)
    elif source.labels is not None and source.classes:
        yield "labels: " + ", ".join(
            f"{name} {int((source.labels == i).sum())}" for i, name in enumerate(source.classes)
        )
    elif source.labels is not None:
        values = np.asarray(source.labels, dtype=np.float64)
        yield f"labels: {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g} {spec.label.unit if spec.label else ''}"
    split = resolve(source.groups, spec.split, spec.name)
    yield (
        "split: " + ", ".join(f"{side} {len(indices)}" for side, indices in split.items()) + " (no group on two sides)"
    )


def _auxiliary(spec: DataSpec, source: HDF5Windows) -> Iterator[str]:
    """A line for each signal beside: its shape, and which recordings lack it.

    Raises:
        UserError: one that is not as the spec says.
    """
    for name in spec.auxiliary:
        signals = AuxiliarySignals(spec, source.window, [name], BLOCK_LIMIT)
        for recording in source.recordings:
            with open_hdf5(recording.file) as file:
                signals.describe(file, recording.file, recording.record, recording.rows)
        there, count = signals.having(name), len(source.recordings)
        if not there:
            yield f"auxiliary signals: {name} is in no recording (no dataset {spec.auxiliary[name].path!r})"
            continue
        info = signals.infos(sorted(there))[name]
        lacking = [recording.record for number, recording in enumerate(source.recordings) if number not in there]
        where = (
            f"in all {count} recordings"
            if not lacking
            else f"in {len(there)} of {count} recordings; not in {_some(lacking)}"
        )
        yield f"auxiliary signals: {name} {info.shape} of {', '.join(('channel', *(axis.name for axis in info.axes)))}, {where}"


def _objects(source: Source) -> Iterator[str]:
    """How many there are in a sample, of which class, where, and whether they lie on the sample's axes."""
    assert source.objects is not None
    table = np.asarray(source.labels)
    there = np.isfinite(table).all(-1)
    count = there.sum(1)
    yield (
        f"objects: {there.sum()}, {count.min()} to {count.max()} in a sample, {count.mean():.2f} on average; "
        f"{int((count == 0).sum())} samples without"
    )
    columns = {name: table[there][:, i] for i, name in enumerate(source.objects)}
    if source.classes and there.any():
        kinds = columns[OBJECT_CLASS]
        of = ((name, int((kinds == i).sum())) for i, name in enumerate(source.classes))
        yield "  " + ", ".join(f"{name} {n} ({n / len(table):.2f} a sample)" for name, n in of)
    axes = {axis.name: axis for axis in source.info.axes}
    for name, values in columns.items():
        if name == OBJECT_CLASS or not len(values):
            continue
        text = f"  {name} {values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"
        if (axis := axes.get(name)) is not None and axis.step is not None:
            points = axis.points()
            off = int(((values < points[0]) | (values > points[-1])).sum())
            text += f" {axis.unit}; the axis goes from {points[0]:.4g} to {points[-1]:.4g}" + (
                f"; BEYOND it: {off}" if off else ""
            )
        yield text


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _missing(source: Source) -> str:
    """The share of values that were not measured, over at most `LOOKED_AT` evenly spread samples."""
    picked = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).round().astype(int))
    shares = [0.0 if (valid := source[int(i)].valid) is None else float(1 - np.mean(valid)) for i in picked]
    some = sum(share > 0 for share in shares)
    return f"missing: {np.mean(shares):.2%} of the values, in {some} of {len(picked)} samples looked at"
