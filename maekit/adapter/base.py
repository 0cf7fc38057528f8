"""What one modality brings: an adapter turns raw samples into tensors, and tensors into pictures.

Everything a modality knows lives here and nowhere else: decibels, beats, RGB means, which augmentation is
physical, how its people draw it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from maekit.adapter.amplitude import LinearAmplitude
from maekit.adapter.front import Front
from maekit.adapter.statistics import ChannelStatistics, channel_statistics
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import Tensor

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo
    from maekit.metrics.plane import Plane

Array = np.ndarray[Any, np.dtype[Any]]
Reducer = Callable[[Array, float], float]
"""(values inside one window, window length in seconds) -> label. NaN: this window has no usable label."""
Derivation = Callable[[Array, float], Array]
"""(signal, rate_hz) -> event times in seconds, or another signal; run once per recording when converting."""
Transformed = tuple[Array | Mapping[int, Any], Mapping[str, Any], Sequence[str]]
"""(values, attributes, what a person should know).

Values of a recording have time first; those of a frame are one frame's; those made of a file on all frames may be given
by number. With the attribute `columns`, they are rows of a table, of which a frame may have any number.
"""
Transformation = Callable[..., Transformed]
"""(array or document as it was published, **options of the data spec) -> what is stored; run per recording or frame."""
Estimator = Callable[["Sample"], float]
"""A no-learning estimate of the label from one sample."""
Candidates = Callable[["Sample"], Array]
"""Values that the label of one sample may have, the likeliest first; possibly none."""


@dataclass(frozen=True)
class Detector:
    """Finds the objects of a sample without learning.

    Attributes:
        features: what is said of each detection beside its place and score, by name. `AXIS_extent` is the size of its box along
            an axis of the adapter's plane, in the unit of the axis.
        find: sample -> (detection, column): both coordinates on the plane, score (larger is surer), features.
    """

    features: tuple[str, ...]
    find: Callable[[Sample], NDArray[np.float64]]


class Adapter(ABC):
    """Base of every modality. A minimal one makes a patchifier and draws.

    Args:
        info: what the samples of the source have in common.
        patchifier: how a sample (after `Front.transform`) is cut.
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
    derivations: ClassVar[Mapping[str, Derivation]] = {}
    """Signals or events derived once per recording when converting, by name."""
    transformations: ClassVar[Mapping[str, Transformation]] = {}
    """Ways to make a signal of what a device wrote, when converting, by the name a data spec uses."""

    def __init__(self, info: SignalInfo, patchifier: Patchifier) -> None:
        self.info = info
        self.patchifier = patchifier
        self.rate_hz = info.rate_hz
        self.unit = info.unit

    def prepare(self, sample: Sample) -> tuple[Array, NDArray[np.bool_] | None]:
        """One sample in a worker process: (signal of fixed shape, valid or None). Default: as read, float32."""
        return np.ascontiguousarray(sample.signal, dtype=np.float32), sample.valid

    def estimators(self) -> Mapping[str, Estimator]:
        """No-learning estimates of the label that every learned number is put beside."""
        return {}

    def quality(self, sample: Sample) -> Mapping[str, float]:
        """What an estimate from a sample depends on: larger is better, NaN is poor; named by what is wrong where it is low.

        Training samples set the limits below which `maekit predict` gives that name instead of an estimate. Default:
        nothing is judged.
        """
        return {}

    def places(self) -> NDArray[np.float64] | None:
        """Values of the label that the patches stand for, rising, one a patch; None where they stand for none.

        Where they do (a label that is a place on an axis of the sample), a task may let each patch speak for its own value.
        """
        return None

    def plane(self) -> Plane | None:
        """Where the cells of a sample's last two axes lie, for tasks that find objects there; None where they are no cells."""
        return None

    def detectors(self) -> Mapping[str, Detector]:
        """Ways to find objects on the plane without learning, that every learned detector is put beside."""
        return {}

    def candidates(self) -> Mapping[str, Candidates]:
        """What a no-learning estimator could choose from: the one nearest to the label is the ceiling of them all."""
        return {}

    def make_front(self) -> Front:
        """A new front end for a model, which nothing else shares. Default: standardises each channel."""
        return Front(self.patchifier)

    def fit(self, samples: Iterable[Sample]) -> ChannelStatistics:
        """The normalisation of a front, from training samples only.

        Raises:
            UserError: a channel that never changes, or nothing measured at all.
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

    def drawn_at(self, where: Array) -> Array:
        """(..., 2) coordinates on the axes of `plane` to the x and y at which `draw` puts them. Default: its second axis is x."""
        return where[..., ::-1]

    @staticmethod
    def simulate(folder: Path, *, seed: int = 0) -> Path:
        """Write physically sensible HDF5 recordings into `folder`, and beside them the data spec returned.

        An adapter that can has this; its keyword-only options are those of `maekit data simulate --set`.
        """
        raise UserError("this adapter has no simulator", hint="Write `simulate`, or use recordings of your own.")
