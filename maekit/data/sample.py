"""What flows from a data source to an adapter: one sample, and what all samples of a source share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a signal: `length` points, `step` `unit`s apart, the first at `start`.

    With the spacing `sine`, `step` and `start` are sines of an angle in `unit`.
    """

    name: str
    length: int
    unit: str = ""
    step: float | None = None
    start: float = 0.0
    spacing: Literal["even", "sine"] = "even"

    def points(self) -> NDArray[np.float64]:
        """(length,) where the points lie, in `unit` (indices where no step is known)."""
        even = self.start + (1.0 if self.step is None else self.step) * np.arange(self.length, dtype=np.float64)
        if self.spacing == "even":
            return even
        angle = np.arcsin(even.clip(-1, 1)) * (180 / np.pi if self.unit == "deg" else 1.0)
        return np.asarray(angle, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class SignalInfo:
    """What every sample of a source has in common.

    `axes` are those of one sample, after windowing, without the channels. `rate_hz` is the sampling rate of
    the `time` axis, None when there is none or when recordings differ (an adapter then resamples). `objects` are the
    columns of the labels where they are tables.
    """

    channels: tuple[str, ...]
    axes: tuple[Axis, ...]
    unit: str = ""
    complex: bool = False
    rate_hz: float | None = None
    objects: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, *axis lengths)."""
        return (len(self.channels), *(axis.length for axis in self.axes))


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of one recording.

    Args:
        signal: (channels, *axes), real or complex, in the source's unit. Finite wherever `valid`.
        valid: (*axes) True where really measured; None when all of it was.
        label: a value, a class index, (object, column) for a table of objects, or None.
        group: the person, drive or session that splits are made by.
        location: `file:/record@start`, for messages and captions.
        rate_hz: sampling rate of the time axis of this recording.
        auxiliary: other signals of the same moment that were asked for and that the recording has, by name.
        prepared: whether an augmentation has made the signal what `Adapter.prepare` would give.
    """

    signal: NDArray[np.generic]
    valid: NDArray[np.bool_] | None
    label: float | int | NDArray[np.float32] | None
    group: str
    location: str
    rate_hz: float | None = None
    auxiliary: Mapping[str, Sample] = field(default_factory=dict)
    prepared: bool = False


class Source(Protocol):
    """Random access to samples: HDF5 windows, a folder of files, or what a user brings.

    `groups` and `labels` are known for every sample without reading signals, so splits and class balance cost
    nothing. `labels` is float64 (a value), int64 (an index into `classes`), float32 (sample, object, column) with rows of NaN
    where a sample has fewer `objects`, whose columns these are, or None.
    """

    info: SignalInfo
    groups: NDArray[np.str_]
    labels: NDArray[np.generic] | None
    classes: tuple[str, ...] | None
    objects: tuple[str, ...] | None
    auxiliary: dict[str, SignalInfo]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def fingerprint(self) -> str:
        """A hash of the data; equal for copies, different where a sample differs."""
