"""Whether files are what a data spec says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maekit.data.hdf5 import HDF5Windows
from maekit.data.packed_folder import PackedFolder, open_folder
from maekit.data.sample import Source
from maekit.data.spec import DataSpec
from maekit.data.splits import resolve

LOOKED_AT = 1000


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
    if source.labels is not None and source.classes:
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


def _missing(source: Source) -> str:
    """The share of values that were not measured, over at most `LOOKED_AT` evenly spread samples."""
    picked = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).round().astype(int))
    shares = [0.0 if (valid := source[int(i)].valid) is None else float(1 - np.mean(valid)) for i in picked]
    some = sum(share > 0 for share in shares)
    return f"missing: {np.mean(shares):.2%} of the values, in {some} of {len(picked)} samples looked at"
