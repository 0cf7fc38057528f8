"""One recording of an HDF5 file as a data spec describes it: checked from metadata, cut into windows, read by rows."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from maekit.config.data_spec import CHANNEL, TIME, Attribute, DataSpec, Window, check_window
from maekit.data.hdf5.attributes import check_axes, check_rate, check_unit
from maekit.data.hdf5.labels import read_rate
from maekit.data.hdf5.packing import NOT_PACKED, Packing, read_packing
from maekit.data.hdf5.read_cost import check_read_cost, check_window_count
from maekit.data.hdf5.safety import BLOCK_LIMIT, check_storage, find_dataset
from maekit.data.hdf5.values import channels_first, check_values, mark_missing, to_native
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import h5py
    from numpy.typing import NDArray


class Datasets(Protocol):
    """An open file: datasets by path."""

    def __getitem__(self, path: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: where it stands, its length along the windowed axis, its rate, the length of its windows, its packing."""

    file: Path
    record: str
    dataset: str
    mask: str | None
    shape: tuple[int, ...]
    rows: int
    rate_hz: float | None
    length: int
    packing: Packing = NOT_PACKED


class RecordingReader:
    """What the spec says of every recording: its axes, its windows, which of its values were measured.

    Args:
        spec: what the files mean.
        window: instead of the spec's.
        max_sample_bytes: a window larger than this is refused.

    Attributes:
        axes: of a recording, without the channels.
        row_axis: the one that is cut into windows (the first where nothing is cut).

    Raises:
        UserError: a spec of something else, or a window that the signal cannot be cut into.
    """

    def __init__(self, spec: DataSpec, window: Window | None = None, max_sample_bytes: int = BLOCK_LIMIT) -> None:
        if spec.signal is None or spec.files is None:
            raise UserError("not a data spec of HDF5 files", location=spec.name, expected="`kind: hdf5`")
        self.spec, self.signal = spec, spec.signal
        self.window = window or spec.window
        if self.window is not None:
            try:
                check_window(self.window, self.signal)
            except ValueError as error:
                raise UserError(str(error), location="data.window") from None
        self.axes = tuple(axis for axis in self.signal.axes if axis != CHANNEL)
        self.row_axis = self.window.axis if self.window else self.axes[0]
        if self.row_axis in self.signal.sizes:
            raise UserError(
                "a size of the axis that `window` cuts",
                location=f"data spec {spec.name}: signal.sizes",
                value=f"{self.row_axis}: {self.signal.sizes[self.row_axis]}",
                hint=f"Give `window: {{axis: {self.row_axis}, length: {self.signal.sizes[self.row_axis]}, pad: true}}` instead.",
            )
        self.max_sample_bytes = max_sample_bytes

    def describe(self, file: h5py.File, path: Path, record: str) -> Recording:
        """Metadata of one recording, after every check that needs no values."""
        signal = self.signal
        dataset = find_dataset(file, signal.path, record)
        location = f"{path}:{dataset.name}"
        check_storage(dataset, location)
        check_axes(signal, dataset, location)
        check_values(dataset, signal, location)
        check_rate(signal, dataset, file[record], location)
        check_unit(signal, dataset, location)
        packing = read_packing(dataset, location, scale=signal.scale, offset=signal.offset)
        shape = tuple(dataset.shape[: len(signal.axes)])
        for name, length in zip(signal.axes, shape, strict=True):
            if not length:
                raise UserError(
                    f"zero rows: nothing along {name!r}",
                    location=location,
                    value=shape,
                    hint="Leave the recording out, or look at how it was written.",
                )
        rows = shape[signal.axes.index(self.row_axis)]
        rate = signal.rate_hz
        rate_hz = read_rate(rate.attribute, dataset, file[record]) if isinstance(rate, Attribute) else rate
        mask = None
        if self.spec.valid is not None:
            mask = self._check_mask(file, record, shape, rows)
        channels = shape[signal.axes.index(CHANNEL)] if CHANNEL in signal.axes else 1
        if signal.channels and len(signal.channels) != channels:
            raise UserError(
                f"{channels} channels, and the data spec names {len(signal.channels)}",
                location=location,
                value=signal.channels,
                hint="Correct `signal.channels`.",
            )
        found = Recording(
            path, record, dataset.name, mask, shape, rows, rate_hz, self._length(rows, rate_hz, location), packing
        )
        fitted = prod(self.lengths(shape)) // rows * max(dataset.size // prod(shape), 1)
        size = max(dataset.size // rows, fitted) * dataset.dtype.itemsize * found.length
        if size > self.max_sample_bytes:
            raise UserError(
                f"a sample of {size / 2**30:.2f} GiB",
                location=location,
                value=f"{found.length:,} points" + (f", at {rate_hz:g} Hz" if rate_hz else "") + f", of {shape}",
                expected=f"at most {self.max_sample_bytes / 2**30:.2f} GiB",
                hint="Give a (shorter) `window`" + (", and check that `rate_hz` is in hertz." if rate_hz else "."),
            )
        return found

    def _length(self, rows: int, rate_hz: float | None, location: str) -> int:
        window = self.window
        if window is None:
            return rows
        if window.length is not None:
            return window.length
        assert window.seconds is not None
        assert rate_hz is not None
        points = window.seconds * rate_hz
        length = round(points) if isfinite(points) else 0
        if length < 2:
            raise UserError(
                "a window of less than two points" if isfinite(points) else "a window without end",
                location=location,
                value=f"{window.seconds:g} s at {rate_hz:g} Hz",
                hint="Give a longer window, or check that `rate_hz` is in hertz.",
            )
        return length

    def windows(self, recording: Recording) -> Iterator[tuple[int, int]]:
        """First row, and row after the last, of each window (beyond the recording's end where it is padded)."""
        window, length = self.window, recording.length
        if window is None or recording.rows < length:
            if window is None or window.pad:
                yield 0, length
            return
        last, hop = recording.rows - length, min(self.hop(recording), float(recording.rows))
        # Each start is rounded by itself, so that a hop of a fraction of a point does not drift.
        for i in range(int((last + 0.5) / hop) + 1):
            if (start := int(i * hop + 0.5)) <= last:
                yield start, start + length

    def endless(self, shape: Sequence[int], rate_hz: float, location: str) -> Recording:
        """A recording whose rows are still to come, as packed as the data spec says.

        Args:
            shape: of the stored axes; that of the windowed one does not count.
            rate_hz: of the time axis.
            location: for messages.

        Raises:
            UserError: a window of less than two points.
        """
        lengths = list(shape)
        lengths[self.stored_row_axis] = sys.maxsize
        scale, offset = self.signal.scale, self.signal.offset
        packing = NOT_PACKED if scale is None else Packing(scale, offset)
        length = self._length(sys.maxsize, rate_hz, location)
        return Recording(Path(location), "", "", None, tuple(lengths), sys.maxsize, rate_hz, length, packing)

    def start(self, recording: Recording, number: int) -> int:
        """First row of a window, by its number, of a recording that goes on; see `windows`."""
        return int(number * self.hop(recording) + 0.5)

    def check_cost(self, dataset: h5py.Dataset, recording: Recording) -> tuple[int, int]:
        """Refuse a recording whose windows cannot be indexed, or read one by one in reasonable time.

        Returns:
            Bytes that are decoded for a window, and bytes of it.

        Raises:
            UserError: with the number of windows, or the bytes that each of them decodes.
        """
        location = f"{recording.file}:{recording.dataset}"
        cost = check_read_cost(dataset, self.stored_row_axis, recording.length, location)
        check_window_count(int(max(recording.rows - recording.length, 0) / self.hop(recording)) + 1, location)
        return cost

    def hop(self, recording: Recording) -> float:
        """Rows from one window to the next, one or more."""
        window = self.window
        if window is None:
            return float(recording.length)
        if window.hop_seconds is not None and recording.rate_hz is not None:
            return max(window.hop_seconds * recording.rate_hz, 1.0)
        return float(window.hop or recording.length)

    def sample(
        self,
        signal: NDArray[Any],
        valid: NDArray[np.bool_] | None,
        recording: Recording,
        start: int,
        location: str = "",
        *,
        label: Any = None,
        group: str = "",
        auxiliary: Mapping[str, Sample] | None = None,
    ) -> Sample:
        """The window that begins at row `start`, from its rows; what it lacks at the end is added and marked missing.

        Args:
            signal: as `read` gives it, `recording.length` rows or fewer.
            valid: as `read` gives it, of the same rows; None where all of it was measured.
            recording: that the window is of.
            start: first row of the window.
            location: how messages name the file; by default its path.
            label: of the window.
            group: of the window.
            auxiliary: its other signals.
        """
        axis = self.axes.index(self.row_axis)
        if short := recording.length - signal.shape[axis + 1]:
            widths = [(0, short if i == axis else 0) for i in range(len(self.axes))]
            valid = np.pad(np.ones(signal.shape[1:], bool) if valid is None else valid, widths, constant_values=False)
            if signal.dtype.kind == "f" or signal.dtype.kind == "c":
                signal = np.pad(signal, [(0, 0), *widths], constant_values=np.nan)
        if self._drops_axis():
            signal = np.take(signal, 0, axis + 1)
            valid = None if valid is None else np.asarray(np.take(valid, 0, axis))
        timed = self.row_axis == TIME and recording.rate_hz is not None
        where = f"{start / recording.rate_hz:g}s" if timed and recording.rate_hz else str(start)
        return Sample(
            signal=np.ascontiguousarray(signal),
            valid=None if valid is None or valid.all() else np.ascontiguousarray(valid),
            label=label,
            group=group,
            location=f"{location or recording.file}:{recording.record}@{where}",
            rate_hz=recording.rate_hz,
            auxiliary=auxiliary or {},
        )

    def _check_mask(self, file: h5py.File, record: str, shape: tuple[int, ...], rows: int) -> str:
        assert self.spec.valid is not None
        mask = find_dataset(file, self.spec.valid.path, record)
        location = f"{file.filename}:{mask.name}"
        check_storage(mask, location)
        plain = tuple(n for axis, n in zip(self.signal.axes, shape, strict=True) if axis != CHANNEL)
        if mask.dtype.kind not in "biu" or mask.shape not in (shape, plain, (rows,)):
            raise UserError(
                "not a mask of the signal",
                location=location,
                value=f"{mask.dtype} {mask.shape}",
                expected=f"booleans of shape {plain} or ({rows},)",
                hint="Correct `valid.path`.",
            )
        return str(mask.name)

    def check_alike(self, found: Recording, first: Recording) -> None:
        """Refuse a recording whose samples would have another shape than the first one's.

        Raises:
            UserError: another length along an axis that is not cut.
        """
        for i, axis in enumerate(self.signal.axes):
            if self.lengths(found.shape)[i] != self.lengths(first.shape)[i] and (
                axis != self.row_axis or self.window is None
            ):
                raise UserError(
                    f"recordings of different length along {axis!r}",
                    location=f"{found.file}:{found.dataset}",
                    value=found.shape,
                    expected=f"{first.shape}, as in {first.file.name}:{first.dataset}",
                    hint="Give a `window` (with `pad: true` for short ones)."
                    if axis == self.row_axis
                    else f"State a size to crop and pad them to, such as `sizes: {{{axis}: {first.shape[i]}}}` under `signal`."
                    if axis != CHANNEL
                    else "Use one data spec for each number of channels.",
                )

    def block(self, dataset: h5py.Dataset, recording: Recording, size: int) -> int:
        """Rows of about `size` bytes, in whole chunks so that none is decoded twice."""
        stored = self.signal.axes.index(self.row_axis)
        rows = max(size // max(dataset.size // recording.rows * dataset.dtype.itemsize, 1), 1)
        chunk = dataset.chunks[stored] if dataset.chunks else 1
        return int(max(rows // chunk, 1) * chunk)

    def read(
        self, file: Datasets, recording: Recording, start: int, stop: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows of a recording: (channels, *axes) values, and (*axes) which of them were measured."""
        raw, mask = self.load(file, recording, start, stop)
        signal, valid = self.interpret(raw[None], None if mask is None else mask[None], recording)
        return signal[0], valid[0]

    def load(
        self, file: Datasets, recording: Recording, start: int, stop: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Rows of a recording as they are stored, (*stored axes), and of its mask if it has one.

        Raises:
            UnreadableError: damaged.
        """
        stored = self.stored_row_axis
        try:
            raw = file[recording.dataset][(slice(None),) * stored + (slice(start, stop),)]
            mask = None
            if recording.mask is not None:
                source = file[recording.mask]
                before = self.mask_row_axis(source.ndim)
                mask = np.asarray(source[(slice(None),) * before + (slice(start, stop),)]) != 0
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:  # h5py raises any of them
            raise UnreadableError(
                f"damaged values ({error})",
                location=f"{recording.file}:{recording.dataset} rows {start} to {stop}",
                hint="Copy or convert the recording again.",
            ) from None
        return raw, mask

    def interpret(
        self, raw: NDArray[Any], mask: NDArray[np.bool_] | None, recording: Recording
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored windows as they are meant.

        Args:
            raw: (window, *stored axes).
            mask: the same, or without the channels, or (window, row); None where the recordings have none.
            recording: gives the packing; that of all windows.

        Returns:
            (window, channels, *axes) values, and (window, *axes) which of them were measured.
        """
        axes, location, packing = self.signal.axes, f"{recording.file}:{recording.dataset}", recording.packing
        raw = packing.as_stored(raw)
        missing = packing.missing_values(raw) if packing.marks_missing else None
        values = mark_missing(to_native(raw, self.signal.complex, location), self.signal.missing)
        if missing is not None and missing.ndim > values.ndim:  # I and Q on a last axis
            missing = np.asarray(missing.any(-1))
        values = packing.unpack(values, missing)
        signal = channels_first(values, axes)
        valid = np.isfinite(signal).all(1)
        if mask is not None:
            if mask.ndim == 1 + len(axes) and CHANNEL in axes:
                mask = np.asarray(channels_first(mask, axes).all(1))
            elif mask.ndim < valid.ndim:
                shape = [len(mask)] + [1] * (valid.ndim - 1)
                shape[1 + self.axes.index(self.row_axis)] = -1
                mask = mask.reshape(shape)
            valid = valid & mask
        for name, size in self.signal.sizes.items():
            signal, valid = _fit(signal, valid, self.axes.index(name), size)
        return signal, valid

    def lengths(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Lengths of the stored axes after cropping and padding."""
        return tuple(self.signal.sizes.get(axis, n) for axis, n in zip(self.signal.axes, shape, strict=True))

    def measured_part(self, recording: Recording) -> tuple[slice, ...]:
        """The part of (*axes) that is no padding."""
        stored = dict(zip(self.signal.axes, recording.shape, strict=True))
        return tuple(slice(stored[axis]) if axis in self.signal.sizes else slice(None) for axis in self.axes)

    def rows_of(
        self, raw: NDArray[Any], mask: NDArray[np.bool_] | None, start: int, stop: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Some rows of what `load` gave."""
        rows = (slice(start, stop),)
        if mask is not None:
            mask = mask[(slice(None),) * self.mask_row_axis(mask.ndim) + rows]
        return raw[(slice(None),) * self.stored_row_axis + rows], mask

    def mask_row_axis(self, axes: int) -> int:
        """Position of the windowed axis in a mask of so many axes: of its rows alone, of the signal's, or of those but the channels'."""
        if axes == 1:
            return 0
        return self.stored_row_axis if axes == len(self.signal.axes) else self.axes.index(self.row_axis)

    @property
    def stored_row_axis(self) -> int:
        """Position of the windowed axis in the dataset."""
        return self.signal.axes.index(self.row_axis)

    def _drops_axis(self) -> bool:
        return self.window is not None and self.window.length == 1

    def info(self, used: Sequence[Recording]) -> SignalInfo:
        """What samples of these recordings have in common.

        Args:
            used: a recording for every window, so that a length most windows have is the usual one.
        """
        signal, first = self.signal, used[0]
        rates = {recording.rate_hz for recording in used}
        rate_hz = rates.pop() if len(rates) == 1 else None
        lengths = dict(zip(signal.axes, self.lengths(first.shape), strict=True))
        lengths[self.row_axis] = Counter(recording.length for recording in used).most_common(1)[0][0]
        axes = []
        for name in self.axes:
            if name == self.row_axis and self._drops_axis():
                continue
            if name in signal.steps:
                step = signal.steps[name]
                axes.append(Axis(name, lengths[name], step.unit, step.step, step.start, step.spacing))
            elif name == TIME:
                seconds = self.window.seconds if self.window and self.row_axis == TIME else None
                spacing = 1 / rate_hz if rate_hz else seconds / lengths[name] if seconds else None
                axes.append(Axis(name, lengths[name], "s", spacing))
            else:
                axes.append(Axis(name, lengths[name]))
        count = lengths.get(CHANNEL, 1)
        names = tuple(signal.channels) or (tuple(str(i) for i in range(count)) if count > 1 else ("",))
        return SignalInfo(names, tuple(axes), signal.unit, signal.complex in ("keep", "pairs"), rate_hz)


def _fit(
    signal: NDArray[Any], valid: NDArray[np.bool_], axis: int, size: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Windows cropped or padded to a size along one axis.

    Args:
        signal: (window, channels, *axes).
        valid: (window, *axes).
        axis: position among the axes.
        size: wanted length.
    """
    before = (slice(None),) * (1 + axis)
    signal, valid = signal[(slice(None), *before, slice(size))], valid[(*before, slice(size))]
    if short := size - valid.shape[1 + axis]:
        widths = [(0, short if i == 1 + axis else 0) for i in range(valid.ndim)]
        signal = np.pad(signal, [widths[0], (0, 0), *widths[1:]], constant_values=np.nan)
        valid = np.pad(valid, widths, constant_values=False)
    return signal, valid
