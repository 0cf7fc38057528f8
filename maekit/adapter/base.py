"""The base class of adapters: preparation of samples, the front end of a model, drawing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from maekit.adapter.amplitude import LinearAmplitude
from maekit.adapter.baselines import Baselines
from maekit.adapter.front import Front
from maekit.adapter.geometry import Geometry
from maekit.adapter.statistics import ChannelStatistics, channel_statistics
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import Tensor

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo

Array = np.ndarray[Any, np.dtype[Any]]
Reducer = Callable[[Array, float], float]
"""(values inside one window, window length in seconds) -> label. NaN: this window has no usable label."""
Derivation = Callable[[Array, float], Array]
"""(signal, rate_hz) -> event times in seconds, or another signal; run once per recording when converting."""
Transformed = tuple[Array | Mapping[int, Any], Mapping[str, Any], Sequence[str]]
"""(values, attributes, findings to report).

Values of a recording have time as their first axis; values of a frame are those of one frame; values from a file about all
frames may be given by frame number. With the attribute `columns`, values are rows of a table, any number a frame.
"""
Transformation = Callable[..., Transformed]
"""(array or document as published, **options of the data spec) -> what is stored; run once per recording or frame."""


class Adapter(Baselines, Geometry, ABC):
    """Base of every modality. A minimal one gives a patchifier to this constructor and draws.

    Everything else has a default: samples are taken as they are read, the front standardises each channel, and there are no
    baselines (`Baselines`) and no coordinates (`Geometry`). An adapter holds no module and no tensor that a model uses.

    Args:
        info: what the samples of the source have in common.
        patchifier: cuts a sample, as `Front.transform` gives it, into patches.
    """

    unit: str = ""
    """Unit of the values that `Front.transform` gives and `draw` receives, e.g. "dB", "mm"."""
    rate_hz: float | None
    """Sampling rate of prepared signals whose last axis is time."""
    resampled_s: float | None = None
    """Length in seconds to which `prepare` cuts recordings over time after it has resampled them; None where it does not."""
    amplitude: LinearAmplitude | None = LinearAmplitude()
    """How prepared values relate to amplitude, for gain and noise; None where they do not."""
    reducers: ClassVar[Mapping[str, Reducer]] = {}
    """Ways to make one label from the values (or event times) in a window, by the name a data spec uses."""
    label_ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Smallest and largest label that can be measured at all, by its unit; `data check` names labels beyond it."""
    derivations: ClassVar[Mapping[str, Derivation]] = {}
    """Signals or events derived once per recording when converting, by name."""
    transformations: ClassVar[Mapping[str, Transformation]] = {}
    """Ways to make a signal from a device's files when converting, by the name that a data spec uses."""

    def __init__(self, info: SignalInfo, patchifier: Patchifier) -> None:
        self.info = info
        self.patchifier = patchifier
        self.rate_hz = info.rate_hz
        self.unit = info.unit

    def prepare(self, sample: Sample) -> tuple[Array, NDArray[np.bool_] | None]:
        """Prepare one sample, in a worker process and without randomness.

        Returns:
            A signal of the same shape for every sample, and which of its values were measured (*axes of the signal; None: all).
            Default: as read, float32.
        """
        return np.ascontiguousarray(sample.signal, dtype=np.float32), sample.valid

    def prepare_batch(self, samples: Sequence[Sample]) -> list[tuple[Array, NDArray[np.bool_] | None]]:
        """Prepare samples together. Default: one by one.

        Returns:
            What `prepare` gives for each of them.
        """
        return [self.prepare(sample) for sample in samples]

    def make_front(self) -> Front:
        """Make a new front end for a model, which nothing else shares. Default: it standardises each channel."""
        return Front(self.patchifier)

    def fit(self, samples: Iterable[Sample]) -> ChannelStatistics:
        """Estimate the normalisation of a front from training samples.

        Raises:
            UserError: a channel that never changes, or no measured value.
        """
        front = self.make_front()

        def transformed() -> Iterator[tuple[Tensor, Tensor | None, str]]:
            for sample in samples:
                signal, valid = self.prepare(sample)
                mask = None if valid is None else torch.from_numpy(valid)[None]
                yield *front.transform(torch.from_numpy(signal)[None], mask), sample.location

        return channel_statistics(transformed(), self.info.channels)

    @abstractmethod
    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw one sample, (*sample_shape) in `unit`, as people of the field draw it: units on the axes."""

    @staticmethod
    def simulate(folder: Path, *, seed: int = 0) -> Path:
        """Write simulated HDF5 recordings and their data spec into `folder`; the path of the spec is returned.

        Keyword-only options of an override are options of `maekit data simulate --set`.

        Raises:
            UserError: the adapter has no simulator.
        """
        del folder, seed
        raise UserError("this adapter has no simulator", hint="Write `simulate`, or use recordings of your own.")
