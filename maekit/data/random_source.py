"""Random samples in the shape that a data spec states, for timing a recipe without its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import CHANNEL, TIME, DataSpec, Signal, Window
from maekit.data.images.picture import picture_info
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POOL = 16
"""Number of different samples. They are drawn once and reused, so that drawing does not count in timings."""
CLASSES = 1000
"""Number of classes of an image folder, whose class folders are not there to be counted."""


class UnknownLengthError(UserError):
    """The length of an axis is neither stated nor given, so that only the files tell it."""


class RandomSource:
    """A `Source` of random samples, whose shape comes from a data spec and from stated lengths.

    Args:
        spec: the data spec.
        window: replaces the spec's window.
        samples: number of samples.
        lengths: points along the axes whose length only the files would tell.
        labels: whether samples have labels; tables of objects are empty.
        auxiliary: names of the auxiliary signals that samples have; those that the spec does not know are left out.

    Raises:
        UserError: a length is given for an axis that does not exist, or (`UnknownLengthError`) one is missing.
    """

    def __init__(
        self,
        spec: DataSpec,
        window: Window | None,
        *,
        samples: int,
        lengths: Mapping[str, int],
        labels: bool,
        auxiliary: Sequence[str] = (),
    ) -> None:
        self.samples, self.spec = samples, spec
        signals = {name: spec.auxiliary[name] for name in auxiliary if name in spec.auxiliary}
        if spec.signal is None:
            self.info = _picture_info(spec, lengths)
        else:
            _check_axes(lengths, [spec.signal, *signals.values()])
            self.info = _window_info(spec.name, spec.signal, window or spec.window, lengths)
        self.shape: Sequence[int] = self.info.shape
        """Shape of a sample. For pictures of any size, the caller sets it to the size in use."""
        self._pool: list[tuple[NDArray[Any], dict[str, NDArray[Any]]]] = []
        self.groups = np.full(samples, "random")
        self.objects: tuple[str, ...] | None = None
        self.auxiliary: dict[str, SignalInfo] = {
            name: _window_info(spec.name, signal, window or spec.window, lengths) for name, signal in signals.items()
        }
        self.classes: tuple[str, ...] | None = None
        if labels and spec.kind == "image_folder":
            self.classes = tuple(f"class {i}" for i in range(CLASSES))
        elif labels and spec.label is not None and spec.label.classes is not None:
            self.classes = tuple(spec.label.classes)
        self.labels: NDArray[Any] | None = None
        if labels and spec.label is not None and spec.label.objects:
            self.objects = tuple(spec.label.objects)
            self.info = replace(self.info, objects=self.objects)
            self.labels = np.stack([np.full((1, len(self.objects)), np.nan, dtype=np.float32)] * samples)
        elif self.classes is not None:
            self.labels = np.arange(samples) % len(self.classes)
        elif labels and spec.label is not None:
            self.labels = np.linspace(0, 1, samples)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Sample:
        if not self._pool:
            rng = np.random.default_rng(0)
            self._pool = [self._draw(rng) for _ in range(POOL)]
        label = None if self.labels is None else self.labels[index]
        label = label if label is None or label.ndim else label.item()
        signal, auxiliary_signals = self._pool[index % POOL]
        location = f"random@{index}"
        auxiliary = {
            name: Sample(auxiliary_signals[name], None, None, "random", location, info.rate_hz)
            for name, info in self.auxiliary.items()
        }
        return Sample(signal, None, label, "random", location, self.info.rate_hz, auxiliary)

    def fingerprint(self) -> str:
        """A constant, since random samples are not data that a run depends on."""
        return "random"

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """The signal of one sample, and its auxiliary signals by name."""
        if self.spec.signal is None:
            return rng.integers(0, 256, self.shape, dtype=np.uint8), {}
        return _draw_signal(self.info, rng), {name: _draw_signal(info, rng) for name, info in self.auxiliary.items()}


def _draw_signal(info: SignalInfo, rng: np.random.Generator) -> NDArray[Any]:
    values = rng.uniform(0.1, 1.0, info.shape).astype(np.float32)  # positive, as powers and magnitudes are
    return values * (1 + 1j) if info.complex else values


def _picture_info(spec: DataSpec, lengths: Mapping[str, int]) -> SignalInfo:
    if lengths:
        raise UserError(
            "an image folder has no axes to give lengths for",
            location="--axis",
            value=dict(lengths),
            expected="nothing: the adapter states the size",
        )
    return picture_info(spec.picture_channels)


def _check_axes(lengths: Mapping[str, int], signals: Sequence[Signal]) -> None:
    axes = list(dict.fromkeys(axis for signal in signals for axis in signal.axes))
    for name in lengths:
        if name not in axes:
            raise UserError(
                "no such axis",
                location="--axis",
                value=name,
                expected="one of " + ", ".join(axes),
                hint=nearest(name, axes),
            )


def _window_info(spec_name: str, signal: Signal, window: Window | None, lengths: Mapping[str, int]) -> SignalInfo:
    """Metadata of the windows of a signal, as `RecordingReader.info` would report it for files of these lengths."""
    if window is not None and window.axis not in signal.axes:
        window = None  # an auxiliary signal without the axis is taken whole
    rate = signal.rate_hz if isinstance(signal.rate_hz, float) else None
    lengths = dict(lengths)
    if window is not None and window.length is not None:
        lengths[window.axis] = window.length
    if window is not None and window.seconds is not None and rate is not None:
        lengths[TIME] = round(window.seconds * rate)
    names = [name for name in signal.axes if name != CHANNEL]
    unknown = [name for name in names if name not in lengths]
    if unknown:
        raise UnknownLengthError(
            f"only the files tell how many points there are along {unknown[0]!r}",
            location=spec_name,
            expected="a length for " + ", ".join(unknown),
            hint="Give " + " ".join(f"--axis {name}=NUMBER" for name in unknown) + ".",
        )
    if rate is None and window is not None and window.seconds is not None:
        rate = lengths[TIME] / window.seconds
    if window is not None and window.length == 1:
        names.remove(window.axis)
    axes = []
    for name in names:
        step = signal.steps.get(name)
        if name == TIME:
            axes.append(Axis(TIME, lengths[TIME], "s", 1 / rate if rate else None))
        elif step is None:
            axes.append(Axis(name, lengths[name]))
        else:
            axes.append(Axis(name, lengths[name], step.unit, step.step, step.start, step.spacing))
    channels = signal.channel_names(lengths.get(CHANNEL, 1))
    return SignalInfo(channels, tuple(axes), signal.unit, signal.complex in ("keep", "pairs"), rate)
