"""Windows of HDF5 recordings: indexed once from metadata, opened lazily in each process, read window by window."""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from maekit.config.data_spec import TIME, DataSpec, Window
from maekit.data.fingerprint import fingerprint
from maekit.data.hdf5.auxiliary import AuxiliarySignals
from maekit.data.hdf5.batch import OpenFile, read_windows
from maekit.data.hdf5.labels import LabelReader, read_groups
from maekit.data.hdf5.objects import ObjectReader, stacked
from maekit.data.hdf5.recording import Recording, RecordingReader
from maekit.data.hdf5.safety import BLOCK_LIMIT, damage_as_error, find_records, load_filters, open_hdf5
from maekit.data.hdf5.values import may_be_missing
from maekit.data.sample import Sample
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from maekit.data.hdf5.labels import Reducer

_OPEN_FILES = 64
_SCAN_BYTES = 2**24

DECIDES = {"files", "records", "signal", "valid", "missing_budget", "group", "label"}
"""What of a data spec decides the samples."""

MISSING = "missing share over the budget"
NO_LABEL = "no label"
TWO_GROUPS = "window spans two groups"
TOO_SHORT = "recording shorter than the window"


class _Found(NamedTuple):
    """What indexing has found so far, by recording: rows and groups of samples; and the label of each sample where there are labels."""

    rows: list[NDArray[np.int64]]
    groups: list[NDArray[np.str_]]
    labels: list[Any]


class HDF5Windows:
    """A `Source` of windows of HDF5 recordings.

    Building it reads metadata, labels and groups. Values are read only where they may be missing (floating point,
    or a `valid` dataset): one pass in blocks of 16 MiB, of which a count for each row is kept. That costs about as
    much as reading the files once.

    Where recordings differ in rate, `info.rate_hz` is None and samples differ in length; the time axis of `info`
    then has the length most windows have, and `length * step` is the window in seconds, for an adapter to resample.

    Args:
        spec: what the files mean.
        root: folder that `spec.files` is relative to.
        window: instead of the spec's.
        reducers: the adapter's ways to make a label from what is in a window.
        with_labels: False leaves labels unread, so that unlabelled windows are kept (pretraining).
        auxiliary: names of the spec's other signals that samples come with.
        max_sample_bytes: a window larger than this is refused.
        refused: list that takes the errors of recordings, which are left out then; by default the first one is raised.

    Attributes:
        info, groups, labels, classes, objects, auxiliary: see `Source`.
        recordings: what was found.
        costs: bytes that are decoded for a window of each recording, and bytes of the window.
        dropped: how many windows (or short recordings) were left out, by reason.

    Raises:
        UserError: anything about the files that is not as the spec says, or that could lead out of them.
    """

    def __init__(
        self,
        spec: DataSpec,
        root: str | Path,
        *,
        window: Window | None = None,
        reducers: Mapping[str, Reducer] | None = None,
        with_labels: bool = True,
        auxiliary: Sequence[str] = (),
        max_sample_bytes: int = BLOCK_LIMIT,
        refused: list[UserError] | None = None,
    ) -> None:
        self.spec, self.root = spec, Path(root)
        self.reader = RecordingReader(spec, window, max_sample_bytes)
        self.window = self.reader.window
        self._labels: LabelReader | ObjectReader | None = None
        if spec.label and with_labels:
            self._labels = ObjectReader(spec.label) if spec.label.objects else LabelReader(spec.label, reducers or {})
        self.objects = self._labels.columns if isinstance(self._labels, ObjectReader) else None
        self._auxiliary = AuxiliarySignals(spec, self.window, auxiliary, max_sample_bytes)
        self._handles: dict[Path, OpenFile] = {}
        self._names: dict[Path, str] = {}
        self._pid = os.getpid()
        self.dropped: dict[str, int] = Counter()
        self.recordings: list[Recording] = []
        self.costs: list[tuple[int, int]] = []
        self._short_shape: tuple[int, ...] = ()
        found = _Found([np.empty((0, 2), np.int64)], [np.empty(0, np.str_)], [])
        for path in find_files(self.root, spec.files or ""):
            with _refusing(refused), open_hdf5(path) as file, damage_as_error(str(path)):
                for record in find_records(file, spec.records):
                    with _refusing(refused):
                        self._index(file, path, record, found)
        self._rows = np.concatenate(found.rows)
        """(samples, 2) number of the recording and first row of each sample; 16 bytes each, since there may be millions."""
        if refused and not len(self._rows):
            raise refused.pop(0)
        self.groups = np.concatenate(found.groups)
        self.classes = self._labels.classes if self._labels else None
        try:
            self.labels = self._checked_labels(found.labels)
        except UserError:
            if refused:  # what is wrong with one recording may be why the others are of one class
                raise refused.pop(0) from None
            raise
        numbers = self._rows[:, 0].tolist()
        info = self.reader.info([self.recordings[number] for number in numbers])
        self.info = replace(info, objects=self.objects or ())
        self.auxiliary = self._auxiliary.infos(sorted(set(numbers)))
        self.dropped = dict(self.dropped)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.read_batch([index])[0]

    def read_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Read samples together: windows of a recording that touch or overlap at once, values of windows of one form at once.

        Args:
            indices: of the samples.

        Raises:
            UserError: one of them cannot be read; `self[index]` tells which.
        """
        windows = [self._window(index) for index in indices]
        values = read_windows(self.reader, self._open, windows)
        return [self._sample(i, *window, *parts) for i, window, parts in zip(indices, windows, values, strict=True)]

    def _window(self, index: int) -> tuple[Recording, int, int]:
        """Recording, first row and row after the last of a sample."""
        number, start = self._rows[index].tolist()
        recording = self.recordings[number]
        return recording, start, min(start + recording.length, recording.rows)

    def _sample(
        self,
        index: int,
        recording: Recording,
        start: int,
        stop: int,
        signal: NDArray[Any],
        valid: NDArray[np.bool_] | None,
    ) -> Sample:
        if recording.file not in self._names:
            self._names[recording.file] = recording.file.relative_to(self.root).as_posix()
        location = self._names[recording.file]
        label = None if self.labels is None else self.labels[index]
        auxiliary = None
        if self.auxiliary:
            number = int(self._rows[index, 0])
            auxiliary = self._auxiliary.samples(self._open(recording.file), number, start, stop, location)
        return self.reader.sample(
            signal,
            valid,
            recording,
            start,
            location,
            label=label if label is None or label.ndim else label.item(),
            group=str(self.groups[index]),
            auxiliary=auxiliary,
        )

    @property
    def positions(self) -> NDArray[np.float64]:
        """(samples, 2): which recording each sample is of, and where it starts there: in seconds, or rows of another axis."""
        timed = self.reader.row_axis == TIME
        rates = np.array([(timed and recording.rate_hz) or 1.0 for recording in self.recordings])
        numbers, starts = self._rows.T
        return np.stack([numbers, starts / rates[numbers]], axis=1)

    @property
    def window_s(self) -> float | None:
        """Seconds that a sample lasts; None where samples are not windows in time, or not all equally long."""
        if self.window is None or self.reader.row_axis != TIME:
            return None
        seconds = np.array([recording.length / (recording.rate_hz or np.nan) for recording in self.recordings])
        return float(seconds[0]) if np.ptp(seconds) <= 0.01 * seconds[0] else None

    def fingerprint(self) -> str:
        """SHA-256 of what decides the samples: the spec's meaning, the window, the files (see `fingerprint.py`)."""
        files = sorted({recording.file for recording in self.recordings})
        return fingerprint(self.root, files, self.meaning())

    def meaning(self) -> str:
        """The spec's keys that decide the samples, and the window, as text."""
        keys = self.spec.model_dump(mode="json", include=DECIDES | ({"auxiliary"} if self.auxiliary else set()))
        # Newer keys are left out at their defaults, so that runs from before them can be resumed.
        if self.objects is None and keys["label"]:
            del keys["label"]["objects"]
        for part in (keys["signal"], keys["label"], *keys.get("auxiliary", {}).values()):
            for name, default in (("missing", []), ("scale", None), ("offset", 0.0), ("sizes", {})):
                if part and name in part and part[name] == default:
                    del part[name]
        for step in keys["signal"]["steps"].values():
            if step["spacing"] == "even":
                del step["spacing"]
        spec = json.dumps(keys, separators=(",", ":"), ensure_ascii=False)
        return spec + (self.window.model_dump_json() if self.window else "whole")

    def label_changes(self, recording: Recording) -> NDArray[np.float64]:
        """Labels of one recording before they are reduced to windows, without repetitions; empty where they are no numbers a row."""
        if not isinstance(self._labels, LabelReader) or self.classes or self._labels.label.events:
            return np.empty(0)
        file = self._open(recording.file).file
        values, _ = self._labels.read_all(file[recording.dataset], file[recording.record])
        values = values.reshape(-1)
        return values[np.diff(values, prepend=np.nan) != 0] if len(values) == recording.rows > 1 else np.empty(0)

    def close(self) -> None:
        """Close every file this process holds."""
        while self._handles:
            self._handles.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}

    def _open(self, path: Path) -> OpenFile:
        if self._pid != os.getpid():
            # An inherited handle shares its file position and caches with the parent's: this copy is closed first,
            # or the HDF5 library would hand out the same descriptor again.
            self.close()
            self._pid = os.getpid()
        if path not in self._handles:
            while len(self._handles) >= _OPEN_FILES:
                self._handles.pop(next(iter(self._handles))).close()
            load_filters()
            self._handles[path] = OpenFile(open_hdf5(path))
        return self._handles[path]

    def _index(self, file: h5py.File, path: Path, record: str, found: _Found) -> None:
        recording = self.reader.describe(file, path, record)
        if self.recordings:
            self.reader.check_alike(recording, self.recordings[0])
        cost = self.reader.check_cost(file[recording.dataset], recording)
        bounds = np.fromiter(chain.from_iterable(self.reader.windows(recording)), dtype=np.int64).reshape(-1, 2)
        if not len(bounds):
            self.dropped[TOO_SHORT] += 1
            self._short_shape = recording.shape
            return
        dataset, group = file[recording.dataset], file[record]
        names = read_groups(self.spec.group, dataset, group, recording.rows)
        values: Any = np.full(len(bounds), np.nan)
        windows = [(start, stop) for start, stop in bounds.tolist()] if self._labels is not None else []
        if isinstance(self._labels, ObjectReader):
            tables = self._labels.read(dataset, group, recording.rows, windows)
            values = values if tables is None else tables
        elif self._labels is not None:
            values = self._labels.read(dataset, group, recording.rows, windows, recording.rate_hz)
        missing = self._missing(file, recording)
        self._auxiliary.describe(file, path, record, recording.rows)
        start, end = bounds[:, 0], np.minimum(bounds[:, 1], recording.rows)
        mixed = np.zeros(len(bounds), dtype=bool)
        if len(names) > 1:
            changes = np.concatenate([[0], np.cumsum(names[1:] != names[:-1])])
            mixed = changes[end - 1] != changes[start]
        share = 1 - (end - start) / recording.length
        if missing is not None:
            share = share + (missing[end] - missing[start]) / recording.length
        lost = ~mixed & ((share > self.spec.missing_budget) | (share >= 1))
        unlabelled = np.zeros(len(bounds), dtype=bool)
        if self._labels is not None and isinstance(values, np.ndarray) and values.ndim == 1:
            unlabelled = ~mixed & ~lost & np.isnan(values)
        for reason, which in ((TWO_GROUPS, mixed), (MISSING, lost), (NO_LABEL, unlabelled)):
            if number := int(which.sum()):
                self.dropped[reason] += number
        kept = np.flatnonzero(~(mixed | lost | unlabelled))
        found.rows.append(np.stack([np.full(len(kept), len(self.recordings)), start[kept]], axis=1))
        found.groups.append(names[start[kept]] if len(names) > 1 else np.repeat(names, len(kept)))
        if self._labels is not None:
            found.labels.extend(values[i] for i in kept)
        self.recordings.append(recording)
        self.costs.append(cost)

    def _may_be_missing(self, recording: Recording, dataset: h5py.Dataset) -> bool:
        return bool(self.reader.signal.missing) or recording.packing.marks_missing or may_be_missing(dataset)

    def _missing(self, file: h5py.File, recording: Recording) -> NDArray[np.float64] | None:
        """(rows + 1,) missing share of each row, summed from the start; None where nothing can be missing."""
        dataset = file[recording.dataset]
        if recording.mask is None and not self._may_be_missing(recording, dataset):
            return None
        axis = self.reader.axes.index(self.reader.row_axis)
        step = self.reader.block(dataset, recording, _SCAN_BYTES)
        shares = np.empty(recording.rows)
        for start in range(0, recording.rows, step):
            stop = min(start + step, recording.rows)
            _, valid = self.reader.read(file, recording, start, stop)
            valid = valid[self.reader.measured_part(recording)]
            shares[start:stop] = 1 - np.moveaxis(valid, axis, 0).reshape(stop - start, -1).mean(1)
        return np.concatenate([[0.0], np.cumsum(shares)])

    def _other_order(self) -> str:
        """A hint where another axis is far longer than the one that is cut, as in (channel, time) that is called (time, channel)."""
        axes, axis = self.reader.signal.axes, self.reader.stored_row_axis
        if not self._short_shape or max(self._short_shape) <= 10 * self._short_shape[axis]:
            return ""
        stored = ", ".join(f"{name} {length}" for name, length in zip(axes, self._short_shape, strict=True))
        return f" Or do `signal.axes` stand in another order in the file? By the data spec: {stored}."

    def _checked_labels(self, labels: list[Any]) -> NDArray[np.generic] | None:
        """Labels as the `Source` protocol has them, once it is sure that there is something to learn from."""
        location = f"{self.root / (self.spec.files or '')}:{self.reader.signal.path}"
        if not len(self._rows):
            counted = ", ".join(f"{count} x {reason}" for reason, count in self.dropped.items())
            asked = {k: v for k, v in self.window.model_dump().items() if v is not None} if self.window else None
            mends = {
                MISSING: "Raise `missing_budget`, or look at the recording with `maekit data inspect`.",
                TOO_SHORT: "Give a shorter window, or `pad: true`." + self._other_order(),
                NO_LABEL: "Check `label` in the data spec, its `offset_s` and `reduce`.",
                TWO_GROUPS: "Give a shorter window, or correct `group`.",
            }
            main = max(self.dropped, key=lambda reason: self.dropped[reason])
            value = self.spec.missing_budget if main == MISSING else asked
            raise UserError(
                f"no window is left ({counted})",
                location=location,
                value=value,
                expected="at least one",
                hint=mends[main],
            )
        if self._labels is None:
            return None
        if self.objects is not None:
            return stacked(labels)
        values = np.array(labels, dtype=np.float64)
        if self.classes is None:
            return values
        codes = values.astype(np.int64)
        if len(found := np.unique(codes)) < 2:
            assert self.spec.label is not None
            name = self.spec.label.path or self.spec.label.attribute
            raise UserError(
                "only one class among the labels",
                location=f"{self.root / (self.spec.files or '')}:{name}",
                value=self.classes[found[0]],
                expected="samples of at least two of " + ", ".join(self.classes),
                hint="Check `label` in the data spec, and that all recordings are there.",
            )
        return codes


@contextmanager
def _refusing(refused: list[UserError] | None) -> Iterator[None]:
    """Collect the error of a recording instead of raising it, where there is a list for it."""
    try:
        yield
    except UserError as error:
        if refused is None:
            raise
        refused.append(error)


def find_files(root: Path, pattern: str) -> list[Path]:
    """Files below `root` that match, sorted.

    Raises:
        UserError: no such folder, an empty one, or nothing that matches (with the nearest name).
    """
    if not root.is_dir():
        near = nearest(root.name, (p.name for p in root.parent.iterdir())) if root.parent.is_dir() else ""
        raise UserError(
            "a file where a folder is expected" if root.exists() else "no such folder",
            location=str(root),
            expected="the folder that holds the recordings",
            hint=near or "Give it as `data.root` (--set data.root=FOLDER).",
        )
    found = sorted(root.glob(pattern))
    if not found:
        names = sorted(path.name for path in root.iterdir())
        raise UserError(
            "no file matches" if names else "an empty folder",
            location=str(root),
            value=pattern,
            expected="files; there are " + ", ".join(names[:10]) if names else "files with the recordings",
            hint=nearest(pattern, names) or "Correct `files` in the data spec or `data.root` in the recipe.",
        )
    return found
