"""What flows from a data source to an adapter: one sample, and what all samples of a source share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a signal: `length` points, `step` `unit`s apart, the first at `start`."""

    name: str
    length: int
    unit: str = ""
    step: float | None = None
    start: float = 0.0

    def coordinates(self) -> tuple[float, float]:
        """First and last edge in `unit`s (indices where no step is known), for drawing."""
        step = self.step if self.step is not None else 1.0
        return self.start, self.start + step * self.length


@dataclass(frozen=True, slots=True)
class SignalInfo:
    """What every sample of a source has in common.

    `axes` are those of one sample, after windowing, without the channels. `rate_hz` is the sampling rate of
    the `time` axis, None when there is none or when recordings differ (an adapter then resamples).
    """

    channels: tuple[str, ...]
    axes: tuple[Axis, ...]
    unit: str = ""
    complex: bool = False
    rate_hz: float | None = None

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
        label: a value, a class index, or None.
        group: the person, drive or session that splits are made by.
        place: `file:/record@start`, for messages and captions.
        rate_hz: sampling rate of the time axis of this recording.
    """

    signal: NDArray[np.generic]
    valid: NDArray[np.bool_] | None
    label: float | int | None
    group: str
    place: str
    rate_hz: float | None = None


class Source(Protocol):
    """Random access to samples: HDF5 windows, a folder of files, or what a user brings.

    `groups` and `labels` are known for every sample without reading signals, so splits and class balance cost
    nothing. `labels` is float64 (a value), int64 (an index into `classes`) or None.
    """

    info: SignalInfo
    groups: NDArray[np.str_]
    labels: NDArray[np.generic] | None
    classes: tuple[str, ...] | None

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def fingerprint(self) -> str: ...
