"""Random numbers in the shape that a data spec states, to time a recipe where its data is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.config.data_spec import CHANNEL, TIME, DataSpec, Window
from maekit.data.images.folder import INFO
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POOL = 16
"""Different samples; they are taken again and again, so that drawing numbers costs nothing while time is taken."""
CLASSES = 1000
"""Of a folder of class folders that is not there."""


class RandomSource:
    """A `Source` that knows its shape from a data spec alone; what only the files would tell must be given.

    Args:
        spec: what the files would mean.
        window: instead of the spec's.
        samples: how many.
        lengths: points along axes whose length stands in the files alone.
        labels: whether there are any; tables of objects are empty.

    Raises:
        UserError: an axis whose length is not known, or a length for an axis that there is not.
    """

    def __init__(
        self, spec: DataSpec, window: Window | None, *, samples: int, lengths: Mapping[str, int], labels: bool
    ) -> None:
        self.samples, self.spec = samples, spec
        self.info = _of_any_size(lengths) if spec.signal is None else _windows(spec, window or spec.window, lengths)
        self.shape: Sequence[int] = self.info.shape
        """Of a sample; where samples may have any size, whoever knows the size in use sets it."""
        self._pool: list[NDArray[Any]] = []
        self.groups = np.full(samples, "random")
        self.objects: tuple[str, ...] | None = None
        self.auxiliary: dict[str, SignalInfo] = {}
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
            self._pool = [self._drawn(rng) for _ in range(POOL)]
        label = None if self.labels is None else self.labels[index]
        label = label if label is None or label.ndim else label.item()
        return Sample(self._pool[index % POOL], None, label, "random", f"random@{index}", self.info.rate_hz)

    def fingerprint(self) -> str:
        """Random samples are no data that a run could be tied to."""
        return "random"

    def _drawn(self, rng: np.random.Generator) -> NDArray[Any]:
        if self.spec.signal is None:
            return rng.integers(0, 256, self.shape, dtype=np.uint8)
        values = rng.uniform(0.1, 1.0, self.shape).astype(np.float32)  # positive: powers and magnitudes are
        return values * (1 + 1j) if self.info.complex else values


def _of_any_size(lengths: Mapping[str, int]) -> SignalInfo:
    if lengths:
        raise UserError(
            "an image folder has no axes to give lengths for",
            location="--axis",
            value=dict(lengths),
            expected="nothing: the adapter says the size",
        )
    return INFO


def _windows(spec: DataSpec, window: Window | None, lengths: Mapping[str, int]) -> SignalInfo:
    signal = spec.signal
    assert signal is not None
    for name in lengths:
        if name not in signal.axes:
            raise UserError(
                "no such axis",
                location="--axis",
                value=name,
                expected="one of " + ", ".join(signal.axes),
                hint=nearest(name, signal.axes),
            )
    rate = signal.rate_hz if isinstance(signal.rate_hz, float) else None
    known = dict(lengths)
    if window is not None and window.length is not None:
        known[window.axis] = window.length
    if window is not None and window.seconds is not None and rate is not None:
        known[TIME] = round(window.seconds * rate)
    names = [name for name in signal.axes if name != CHANNEL]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"how many points there are along {unknown[0]!r} stands in the files alone",
            location=spec.name,
            expected="a length for " + ", ".join(unknown),
            hint="Give " + " ".join(f"--axis {name}=NUMBER" for name in unknown) + ".",
        )
    if rate is None and window is not None and window.seconds is not None:
        rate = known[TIME] / window.seconds
    if window is not None and window.length == 1:
        names.remove(window.axis)
    count = known.get(CHANNEL, 1)
    channels = tuple(signal.channels) or (tuple(str(i) for i in range(count)) if count > 1 else ("",))
    axes = []
    for name in names:
        step = signal.steps.get(name)
        if name != TIME:
            axes.append(
                Axis(name, known[name])
                if step is None
                else Axis(name, known[name], step.unit, step.step, step.start, step.spacing)
            )
    if TIME in names:
        axes.insert(names.index(TIME), Axis(TIME, known[TIME], "s", 1 / rate if rate else None))
    return SignalInfo(channels, tuple(axes), signal.unit, signal.complex in ("keep", "pairs"), rate)
