"""Windows of HDF5 recordings: indexed once from metadata, opened lazily in each process, read window by window."""

from __future__ import annotations

import operator
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data.fingerprint import fingerprint
from maekit.data.hdf5_labels import LabelReader, read_groups, read_rate
from maekit.data.hdf5_safety import BLOCK_LIMIT, check_storage, find_dataset, find_records, load_filters, open_hdf5
from maekit.data.hdf5_values import channels_first, check_values, may_be_missing, to_native
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.data.spec import CHANNEL, TIME, Attribute, DataSpec, Window, check_window
from maekit.errors import UnreadableError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from maekit.data.hdf5_labels import Reducer

_OPEN_FILES = 64
_SCAN_BYTES = 2**24

MISSING = "missing share over the budget"
NO_LABEL = "no label"
TWO_GROUPS = "window spans two groups"
TOO_SHORT = "recording shorter than the window"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: where it stands, its length along the windowed axis, its rate, the length of its windows."""

    file: Path
    record: str
    dataset: str
    mask: str | None
    shape: tuple[int, ...]
    rows: int
    rate_hz: float | None
    length: int


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
        max_sample_bytes: a window larger than this is refused.

    Attributes:
        info, groups, labels, classes: see `Source`.
        recordings: what was found.
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
        max_sample_bytes: int = BLOCK_LIMIT,
    ) -> None:
        if spec.signal is None or spec.files is None:
            raise UserError("not a data spec of HDF5 files", place=spec.name, expected="`kind: hdf5`")
        self.spec, self.root, self.signal = spec, Path(root), spec.signal
        self.window = window or spec.window
        if self.window is not None:
            try:
                check_window(self.window, self.signal)
            except ValueError as error:
                raise UserError(str(error), place="data.window") from None
        self.axes = tuple(axis for axis in self.signal.axes if axis != CHANNEL)
        self.row_axis = self.window.axis if self.window else self.axes[0]
        self.max_sample_bytes = max_sample_bytes
        self._reader = LabelReader(spec.label, reducers or {}) if spec.label and with_labels else None
        self._handles: dict[Path, h5py.File] = {}
        self._pid = os.getpid()
        self.dropped: dict[str, int] = Counter()
        self.recordings: list[Recording] = []
        self._rows: list[tuple[int, int]] = []
        groups: list[str] = []
        labels: list[float] = []
        for path in find_files(self.root, spec.files):
            with open_hdf5(path) as file:
                for record in find_records(file, spec.records):
                    self._index(file, path, record, groups, labels)
        self.groups = np.array(groups, dtype=np.str_)
        self.classes = self._reader.classes if self._reader else None
        self.labels = self._checked_labels(labels)
        self.info = self._info()
        self.dropped = dict(self.dropped)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number, start = self._rows[index]
        recording = self.recordings[number]
        stop = min(start + recording.length, recording.rows)
        signal, valid = self._read(self._open(recording.file), recording, start, stop)
        axis = self.axes.index(self.row_axis)
        if short := recording.length - (stop - start):
            widths = [(0, short if i == axis else 0) for i in range(valid.ndim)]
            if signal.dtype.kind == "f" or signal.dtype.kind == "c":
                signal = np.pad(signal, [(0, 0), *widths], constant_values=np.nan)
            valid = np.pad(valid, widths, constant_values=False)
        if self._drops_axis():
            signal, valid = np.take(signal, 0, axis + 1), np.asarray(np.take(valid, 0, axis))
        timed = self.row_axis == TIME and recording.rate_hz is not None
        label = None if self.labels is None else self.labels[index].item()
        where = f"{start / recording.rate_hz:g}s" if timed and recording.rate_hz else str(start)
        return Sample(
            signal=np.ascontiguousarray(signal),
            valid=None if valid.all() else np.ascontiguousarray(valid),
            label=label,
            group=str(self.groups[index]),
            place=f"{recording.file.relative_to(self.root).as_posix()}:{recording.record}@{where}",
            rate_hz=recording.rate_hz,
        )

    @property
    def positions(self) -> NDArray[np.int64]:
        """(samples, 2): which recording each sample is of, and its first row there."""
        return np.array(self._rows, dtype=np.int64).reshape(-1, 2)

    def fingerprint(self) -> str:
        """SHA-256 of what decides the samples: the spec's meaning, the window, the files (see `fingerprint.py`)."""
        spec = self.spec.model_dump_json(include={"files", "records", "signal", "valid", "missing_budget", "group",
                                                  "label"})  # fmt: skip
        window = self.window.model_dump_json() if self.window else "whole"
        return fingerprint(self.root, sorted({r.file for r in self.recordings}), f"{spec}{window}")

    def close(self) -> None:
        """Close every file this process holds."""
        while self._handles:
            self._handles.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}

    def _open(self, path: Path) -> h5py.File:
        if self._pid != os.getpid():
            # An inherited handle shares its file position and caches with the parent's: this copy is closed first,
            # or the HDF5 library would hand out the same descriptor again.
            self.close()
            self._pid = os.getpid()
        if path not in self._handles:
            while len(self._handles) >= _OPEN_FILES:
                self._handles.pop(next(iter(self._handles))).close()
            load_filters()
            self._handles[path] = open_hdf5(path)
        return self._handles[path]

    def _index(self, file: h5py.File, path: Path, record: str, groups: list[str], labels: list[float]) -> None:
        recording = self._describe(file, path, record)
        windows = self._windows(recording)
        if not windows:
            self.dropped[TOO_SHORT] += 1
            return
        dataset, group = file[recording.dataset], file[record]
        names = read_groups(self.spec.group, dataset, group, recording.rows)
        values = np.full(len(windows), np.nan)
        if self._reader is not None:
            values = self._reader.read(dataset, group, recording.rows, windows, recording.rate_hz)
        missing = self._missing(file, recording)
        for (start, stop), value in zip(windows, values, strict=True):
            end = min(stop, recording.rows)
            if len(names) > 1 and not (names[start:end] == names[start]).all():
                self.dropped[TWO_GROUPS] += 1
                continue
            share = 1 - (end - start) / (stop - start)
            if missing is not None:
                share += (missing[end] - missing[start]) / (stop - start)
            if share > self.spec.missing_budget or share >= 1:
                self.dropped[MISSING] += 1
                continue
            if self._reader is not None and np.isnan(value):
                self.dropped[NO_LABEL] += 1
                continue
            self._rows.append((len(self.recordings), start))
            groups.append(str(names[start] if len(names) > 1 else names[0]))
            labels.append(float(value))
        self.recordings.append(recording)

    def _describe(self, file: h5py.File, path: Path, record: str) -> Recording:
        """Metadata of one recording, after every check that needs no values."""
        signal = self.signal
        dataset = find_dataset(file, signal.path, record)
        place = f"{path}:{dataset.name}"
        check_storage(dataset, place)
        check_values(dataset, signal, place)
        shape = tuple(dataset.shape[: len(signal.axes)])
        for name, length in zip(signal.axes, shape, strict=True):
            if not length:
                raise UserError(f"zero rows: nothing along {name!r}", place=place, value=shape,
                                mend="Leave the recording out, or look at how it was written.")  # fmt: skip
        rows = shape[signal.axes.index(self.row_axis)]
        rate = signal.rate_hz
        rate_hz = read_rate(rate.attribute, dataset, file[record]) if isinstance(rate, Attribute) else rate
        mask = None
        if self.spec.valid is not None:
            mask = self._check_mask(file, record, shape, rows)
        channels = shape[signal.axes.index(CHANNEL)] if CHANNEL in signal.axes else 1
        if signal.channels and len(signal.channels) != channels:
            raise UserError(f"{channels} channels, and the data spec names {len(signal.channels)}", place=place,
                            value=signal.channels, mend="Correct `signal.channels`.")  # fmt: skip
        found = Recording(path, record, dataset.name, mask, shape, rows, rate_hz, self._length(rows, rate_hz, place))
        size = dataset.size // rows * dataset.dtype.itemsize * found.length
        if size > self.max_sample_bytes:
            raise UserError(f"a sample of {size / 2**30:.2f} GiB", place=place, value=shape,
                            expected=f"at most {self.max_sample_bytes / 2**30:.2f} GiB",
                            mend="Give a (shorter) `window`.")  # fmt: skip
        if self.recordings:
            self._check_alike(found, self.recordings[0])
        return found

    def _length(self, rows: int, rate_hz: float | None, place: str) -> int:
        window = self.window
        if window is None:
            return rows
        if window.length is not None:
            return window.length
        assert window.seconds is not None
        assert rate_hz is not None
        length = round(window.seconds * rate_hz)
        if length < 2:
            raise UserError(
                "a window of less than two points", place=place, value=f"{window.seconds:g} s at {rate_hz:g} Hz",
                mend="Give a longer window, or check that `rate_hz` is in hertz.",
            )  # fmt: skip
        return length

    def _windows(self, recording: Recording) -> list[tuple[int, int]]:
        """First row, and row after the last, of each window (beyond the recording's end where it is padded)."""
        window, length = self.window, recording.length
        if window is None:
            return [(0, length)]
        if recording.rows < length:
            return [(0, length)] if window.pad else []
        last = recording.rows - length
        if window.hop_seconds is not None and recording.rate_hz is not None:
            # Each start is rounded by itself, so that a hop of a fraction of a point does not drift.
            hop = max(window.hop_seconds * recording.rate_hz, 1.0)
            starts = (int(i * hop + 0.5) for i in range(int((last + 0.5) / hop) + 1))
            return [(start, start + length) for start in starts if start <= last]
        return [(start, start + length) for start in range(0, last + 1, window.hop or length)]

    def _check_mask(self, file: h5py.File, record: str, shape: tuple[int, ...], rows: int) -> str:
        assert self.spec.valid is not None
        mask = find_dataset(file, self.spec.valid.path, record)
        place = f"{file.filename}:{mask.name}"
        check_storage(mask, place)
        plain = tuple(n for axis, n in zip(self.signal.axes, shape, strict=True) if axis != CHANNEL)
        if mask.dtype.kind not in "biu" or mask.shape not in (shape, plain, (rows,)):
            raise UserError(
                "not a mask of the signal", place=place, value=f"{mask.dtype} {mask.shape}",
                expected=f"booleans of shape {plain} or ({rows},)", mend="Correct `valid.path`.",
            )  # fmt: skip
        return str(mask.name)

    def _check_alike(self, found: Recording, first: Recording) -> None:
        for i, axis in enumerate(self.signal.axes):
            if found.shape[i] != first.shape[i] and (axis != self.row_axis or self.window is None):
                raise UserError(
                    f"recordings of different length along {axis!r}",
                    place=f"{found.file}:{found.dataset}",
                    value=found.shape,
                    expected=f"{first.shape}, as in {first.file.name}:{first.dataset}",
                    mend="Give a `window` (with `pad: true` for short ones)." if axis == self.row_axis else
                         "Convert them to one size, or use one data spec for each.",
                )  # fmt: skip

    def _missing(self, file: h5py.File, recording: Recording) -> NDArray[np.float64] | None:
        """(rows + 1,) missing share of each row, summed from the start; None where nothing can be missing."""
        dataset = file[recording.dataset]
        if recording.mask is None and not may_be_missing(dataset):
            return None
        axis = self.axes.index(self.row_axis)
        step = self._block(dataset, recording)
        shares = np.empty(recording.rows)
        for start in range(0, recording.rows, step):
            stop = min(start + step, recording.rows)
            _, valid = self._read(file, recording, start, stop)
            shares[start:stop] = 1 - np.moveaxis(valid, axis, 0).reshape(stop - start, -1).mean(1)
        return np.concatenate([[0.0], np.cumsum(shares)])

    def _block(self, dataset: h5py.Dataset, recording: Recording) -> int:
        """Rows of about 16 MiB, in whole chunks so that none is decoded twice."""
        stored = self.signal.axes.index(self.row_axis)
        rows = max(_SCAN_BYTES // max(dataset.size // recording.rows * dataset.dtype.itemsize, 1), 1)
        chunk = dataset.chunks[stored] if dataset.chunks else 1
        return int(max(rows // chunk, 1) * chunk)

    def _read(
        self, file: h5py.File, recording: Recording, start: int, stop: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows of a recording: (channels, *axes) values, and (*axes) which of them were measured."""
        axes, place = self.signal.axes, f"{recording.file}:{recording.dataset}"
        stored = axes.index(self.row_axis)
        try:
            raw = file[recording.dataset][(slice(None),) * stored + (slice(start, stop),)]
            mask = None
            if recording.mask is not None:
                source = file[recording.mask]
                rows = slice(start, stop)
                whole = source.shape == recording.shape
                plain = self.axes.index(self.row_axis)
                before = 0 if source.ndim == 1 else stored if whole else plain
                mask = np.asarray(source[(slice(None),) * before + (rows,)]) != 0
        except OSError as error:
            raise UnreadableError(
                f"damaged values ({error})", place=f"{place} rows {start} to {stop}",
                mend="Copy or convert the recording again.",
            ) from None  # fmt: skip
        signal = channels_first(to_native(raw, self.signal.complex, place), axes)
        valid = np.isfinite(signal).all(0)
        if mask is not None:
            if mask.ndim == len(axes) and CHANNEL in axes:
                mask = channels_first(mask, axes).all(0)
            elif mask.ndim < valid.ndim:
                shape = [1] * valid.ndim
                shape[self.axes.index(self.row_axis)] = -1
                mask = mask.reshape(shape)
            valid = valid & mask
        return signal, valid

    def _checked_labels(self, labels: list[float]) -> NDArray[np.generic] | None:
        """Labels as the `Source` protocol has them, once it is sure that there is something to learn from."""
        place = f"{self.root / (self.spec.files or '')}:{self.signal.path}"
        if not labels:
            counted = ", ".join(f"{count} x {reason}" for reason, count in self.dropped.items())
            asked = {k: v for k, v in self.window.model_dump().items() if v is not None} if self.window else None
            mends = {
                MISSING: "Raise `missing_budget`, or look at the recording with `maekit data inspect`.",
                TOO_SHORT: "Give a shorter window, or `pad: true`.",
                NO_LABEL: "Check `label` in the data spec, its `offset_s` and `reduce`.",
                TWO_GROUPS: "Give a shorter window, or correct `group`.",
            }
            main = max(self.dropped, key=lambda reason: self.dropped[reason])
            value = self.spec.missing_budget if main == MISSING else asked
            raise UserError(f"no window is left ({counted})", place=place, value=value,
                            expected="at least one", mend=mends[main])  # fmt: skip
        if self._reader is None:
            return None
        values = np.array(labels)
        if self.classes is None:
            return values
        codes = values.astype(np.int64)
        if len(found := np.unique(codes)) < 2:
            assert self.spec.label is not None
            name = self.spec.label.path or self.spec.label.attribute
            raise UserError(
                "only one class among the labels", place=f"{self.root / (self.spec.files or '')}:{name}",
                value=self.classes[found[0]], expected="samples of at least two of " + ", ".join(self.classes),
                mend="Check `label` in the data spec, and that all recordings are there.",
            )  # fmt: skip
        return codes

    def _drops_axis(self) -> bool:
        return self.window is not None and self.window.length == 1

    def _info(self) -> SignalInfo:
        signal, used = self.signal, [self.recordings[number] for number, _ in self._rows]
        first = used[0]
        rates = {recording.rate_hz for recording in used}
        rate_hz = rates.pop() if len(rates) == 1 else None
        lengths = dict(zip(signal.axes, first.shape, strict=True))
        lengths[self.row_axis] = Counter(recording.length for recording in used).most_common(1)[0][0]
        axes = []
        for name in self.axes:
            if name == self.row_axis and self._drops_axis():
                continue
            if name in signal.steps:
                step = signal.steps[name]
                axes.append(Axis(name, lengths[name], step.unit, step.step, step.start))
            elif name == TIME:
                seconds = self.window.seconds if self.window and self.row_axis == TIME else None
                spacing = 1 / rate_hz if rate_hz else seconds / lengths[name] if seconds else None
                axes.append(Axis(name, lengths[name], "s", spacing))
            else:
                axes.append(Axis(name, lengths[name]))
        count = lengths.get(CHANNEL, 1)
        names = tuple(signal.channels) or (tuple(str(i) for i in range(count)) if count > 1 else ("",))
        return SignalInfo(names, tuple(axes), signal.unit, signal.complex in ("keep", "pairs"), rate_hz)


def find_files(root: Path, pattern: str) -> list[Path]:
    """Files below `root` that match, sorted.

    Raises:
        UserError: no such folder, an empty one, or nothing that matches (with the nearest name).
    """
    if not root.is_dir():
        near = nearest(root.name, (p.name for p in root.parent.iterdir())) if root.parent.is_dir() else ""
        raise UserError(
            "a file where a folder is expected" if root.exists() else "no such folder",
            place=str(root), expected="the folder that holds the recordings",
            mend=near or "Give it as `data.root` (--set data.root=FOLDER).",
        )  # fmt: skip
    found = sorted(root.glob(pattern))
    if not found:
        names = sorted(path.name for path in root.iterdir())
        raise UserError(
            "no file matches" if names else "an empty folder",
            place=str(root), value=pattern,
            expected="files; there are " + ", ".join(names[:10]) if names else "files with the recordings",
            mend=nearest(pattern, names) or "Correct `files` in the data spec or `data.root` in the recipe.",
        )  # fmt: skip
    return found
