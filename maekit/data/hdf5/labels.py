"""Groups and labels of windows, known without reading a signal."""

from __future__ import annotations

import re
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.config.data_spec import BUILT_IN_REDUCERS
from maekit.data.hdf5.packing import read_packing
from maekit.data.hdf5.safety import BLOCK_LIMIT, check_storage, find_dataset
from maekit.data.hdf5.values import mark_missing, names_of_enum
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from maekit.config.data_spec import Group, Label

    Reducer = Callable[[NDArray[Any], float], float]


def read_attribute(name: str, dataset: h5py.Dataset, record: h5py.Group, hint: str) -> Any:
    """An attribute of the dataset, else of its record, else of the file.

    Raises:
        UserError: none has it.
    """
    holders = (dataset, record, record.file)
    for holder in holders:
        if name in holder.attrs:
            return holder.attrs[name]
    known = sorted({key for holder in holders for key in holder.attrs if isinstance(key, str)})  # others are no UTF-8
    if isinstance(record.get(name), h5py.Dataset):
        hint = f"There is a dataset of this name: write `path: {name}` in place of `attribute: {name}`."
    raise UserError(
        f"no attribute {name!r}",
        location=f"{record.file.filename}:{dataset.name}",
        expected="an attribute of the dataset, its record or the file; there are " + (", ".join(known) or "none"),
        hint=hint if name in record else nearest(name, known) or hint,
    )


def read_rate(attribute: str, dataset: h5py.Dataset, record: h5py.Group) -> float:
    """Sampling rate in hertz from an attribute."""
    value = read_attribute(attribute, dataset, record, "State `rate_hz` in the data spec; it is never assumed.")
    try:
        rate = float(np.asarray(value).item())
    except (ValueError, TypeError):
        rate = nan
    if not (np.isfinite(rate) and rate > 0):
        raise UserError(
            f"the attribute {attribute!r} is no sampling rate",
            location=f"{record.file.filename}:{dataset.name}",
            value=value,
            expected="one positive number, in hertz",
        )
    return rate


def read_groups(group: Group | None, dataset: h5py.Dataset, record: h5py.Group, rows: int) -> NDArray[np.str_]:
    """The group of the whole recording, (1,), or of each of its rows, (rows,).

    Raises:
        UserError: no such attribute or dataset, a pattern that does not match, an empty name.
    """
    file, path = Path(record.file.filename), f"{record.file.filename}:{record.name}"
    if group is None:
        return np.array([f"{file.stem}{record.name}".rstrip("/")])
    if group.attribute is not None:
        value = read_attribute(group.attribute, dataset, record, "Correct `group` in the data spec.")
        names = _texts(np.asarray(value).reshape(-1))
        expected = 1
    elif group.path is not None:
        values, path = _read_small(group.path, record)
        names, expected = _texts(values.reshape(-1)), rows if values.ndim else 1
    else:
        pattern, text = group.record or group.file or "", file.stem
        if group.record is not None:
            text = record.name.rsplit("/", 1)[-1]
        match = re.search(pattern, text)
        if match is None:
            raise UserError(
                "the group's pattern does not match",
                location=path,
                value=text,
                expected=f"a match of {pattern!r}",
                hint="Correct `group` in the data spec.",
            )
        names, expected = [match.group("group") if "group" in match.re.groupindex else match.group()], 1
    if len(names) != expected:
        raise UserError(
            "the groups are not as many as the recording's rows",
            location=path,
            value=len(names),
            expected=f"one name, or {rows}",
        )
    if not all(names):
        raise UserError("an empty group name", location=path, hint="Give every recording the name of its group.")
    return np.array(names)


class LabelReader:
    """Makes one label for each window of a recording.

    Args:
        label: from the data spec.
        reducers: those of the adapter, by name, beside the built-in ones.

    Raises:
        UserError: a reducer that nobody declares.
    """

    def __init__(self, label: Label, reducers: Mapping[str, Reducer]) -> None:
        self.label = label
        self.classes = tuple(label.classes) if label.classes is not None else None
        self.name = label.reduce or ("majority" if label.classes else "mean")
        known: dict[str, Reducer] = {**_BUILT_IN, **reducers}
        if self.name not in known:
            raise UserError(
                "no such reduction of labels",
                location="data spec: label.reduce",
                value=self.name,
                expected="one of " + ", ".join(known),
                hint=nearest(self.name, known) or "It is declared by another adapter than the recipe's, perhaps.",
            )
        self._reduce = known[self.name]

    def read(
        self,
        dataset: h5py.Dataset,
        record: h5py.Group,
        rows: int,
        windows: Sequence[tuple[int, int]],
        rate_hz: float | None,
    ) -> NDArray[np.float64]:
        """(windows,) labels; class indices where there are classes; NaN where a window has none.

        Args:
            dataset: the signal of the recording.
            record: group of the recording.
            rows: of the signal.
            windows: first row and row after the last, of each.
            rate_hz: of the signal; None where it has no time.

        Raises:
            UserError: labels missing, too few, of unknown classes, or no numbers.
        """
        label, (values, location) = self.label, self.read_all(dataset, record)
        if label.events:
            return self._from_events(values, windows, rate_hz, location)
        if values.ndim == 0:
            return np.full(len(windows), values if np.isfinite(values) else nan)
        if values.shape != (rows,):
            few = values.ndim == 1 and len(values) < rows
            raise UserError(
                "fewer labels than samples" if few else "labels of another shape than the recording",
                location=location,
                value=values.shape,
                expected=f"one value, or ({rows},): one for each row of {dataset.name}",
                hint="Correct `label.path`, or `events: true` where these are times of events.",
            )
        values = np.where(np.isfinite(values), values, nan)
        shift = round(label.offset_s * rate_hz) if rate_hz else 0
        if not shift and all(stop - start == 1 for start, stop in windows) and self.name in _BUILT_IN:
            return values[[start for start, _ in windows]]
        labels = np.empty(len(windows))
        for i, (start, stop) in enumerate(windows):
            seconds = (stop - start) / rate_hz if rate_hz else nan
            labels[i] = self._one(values[max(start - shift, 0) : max(min(stop, rows) - shift, 0)], seconds)
        return labels

    def read_all(self, dataset: h5py.Dataset, record: h5py.Group) -> tuple[NDArray[np.float64], str]:
        """The values of a recording as they are stored, one or one a row, or the times of events; and their place.

        Raises:
            UserError: labels missing, of unknown classes, or no numbers.
        """
        label = self.label
        if label.attribute is not None:
            location = f"{record.file.filename}:{record.name}@{label.attribute}"
            raw = np.asarray(read_attribute(label.attribute, dataset, record, "Correct `label` in the data spec."))
            raw = raw.reshape(()) if raw.size == 1 else raw
            if raw.ndim:
                raise UserError("an attribute that is no single label", location=location, value=raw.tolist())
        else:
            raw, location = _read_small(label.path or "", record)
            if not raw.size and not label.events:  # a recording without any event is one thing, without labels another
                raise UserError("an empty dataset of labels", location=location, value=raw.shape)
        return self._numbers(raw, location), location

    def _from_events(
        self, times: NDArray[np.float64], windows: Sequence[tuple[int, int]], rate_hz: float | None, location: str
    ) -> NDArray[np.float64]:
        if rate_hz is None:
            raise UserError(
                "event times, but the signal has no time axis",
                location=location,
                hint="Name the axis `time` in `signal.axes` and give `rate_hz`.",
            )
        times = np.sort(times[np.isfinite(times)].reshape(-1)) + self.label.offset_s
        labels = np.empty(len(windows))
        for i, (start, stop) in enumerate(windows):
            first, last = np.searchsorted(times, (start / rate_hz, stop / rate_hz))
            labels[i] = self._one(times[first:last] - start / rate_hz, (stop - start) / rate_hz)
        return labels

    def _one(self, values: NDArray[np.float64], seconds: float) -> float:
        return float(self._reduce(values, seconds)) if len(values) else nan

    def _numbers(self, raw: NDArray[Any], location: str) -> NDArray[np.float64]:
        """Values, or indices of classes, as float64 (NaN for none, which is an empty text)."""
        text = raw.dtype.kind in "OSU"
        if raw.dtype.kind not in "biufOSU":
            raise UserError(
                "labels that are neither numbers nor names",
                location=location,
                value=str(raw.dtype),
                expected="numbers, or text with `classes`",
            )
        if text and self.classes is None:
            raise UserError(
                "labels are text, but the data spec names no classes",
                location=location,
                hint="List them in `label.classes`.",
            )
        if not text:
            raw = mark_missing(raw, self.label.missing)
        if self.classes is None:
            return np.asarray(raw, np.float64)
        if text:
            index = {name: i for i, name in enumerate(self.classes)}
            names = _texts(raw.reshape(-1))
            unknown = next((name for name in names if name and name not in index), None)
            if unknown is not None:
                raise UserError(
                    "an unknown class",
                    location=location,
                    value=unknown,
                    expected="one of " + ", ".join(self.classes),
                    hint=nearest(unknown, self.classes) or "Add it to `label.classes` in the data spec.",
                )
            return np.array([index.get(name, nan) for name in names], np.float64).reshape(raw.shape)
        values = np.asarray(raw, np.float64)
        wrong = np.isfinite(values) & ((values != np.round(values)) | (values < 0) | (values >= len(self.classes)))
        if wrong.any():
            raise UserError(
                "an unknown class",
                location=location,
                value=float(np.ravel(values)[np.ravel(wrong)][0]),
                expected=f"an index from 0 to {len(self.classes) - 1}, or a name",
            )
        return values


def _read_small(path: str, record: h5py.Group) -> tuple[NDArray[Any], str]:
    """A whole dataset that belongs to a recording (labels, groups), and its place."""
    dataset = find_dataset(record.file, path, record.name)
    location = f"{record.file.filename}:{dataset.name}"
    check_storage(dataset, location)
    if dataset.size * dataset.dtype.itemsize > BLOCK_LIMIT:
        raise UserError("too large for labels or groups", location=location, value=dataset.shape)
    try:
        values = np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise UserError(
            f"damaged values ({error})", location=location, hint="Copy or convert the recording again."
        ) from None
    if h5py.check_enum_dtype(dataset.dtype):
        return names_of_enum(values, dataset.dtype), location
    return read_packing(dataset, location).apply(values) if values.dtype.kind in "iuf" else values, location


def _texts(values: NDArray[Any]) -> list[str]:
    return [v.decode("utf-8", errors="replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    return values[np.isfinite(values)]


def _mean(values: NDArray[Any], _seconds: float) -> float:
    return float(np.mean(kept)) if len(kept := _finite(values)) else nan


def _median(values: NDArray[Any], _seconds: float) -> float:
    return float(np.median(kept)) if len(kept := _finite(values)) else nan


def _majority(values: NDArray[Any], _seconds: float) -> float:
    kinds, counts = np.unique(_finite(values), return_counts=True)
    return float(kinds[np.argmax(counts)]) if len(kinds) else nan


def _first(values: NDArray[Any], _seconds: float) -> float:
    return float(kept[0]) if len(kept := _finite(values)) else nan


_BUILT_IN: dict[str, Reducer] = dict(zip(BUILT_IN_REDUCERS, (_mean, _median, _majority, _first), strict=True))
