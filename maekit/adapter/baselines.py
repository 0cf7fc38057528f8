"""What an adapter estimates or detects without learning, beside which learned numbers are put."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.sample import Sample

Array = np.ndarray[Any, np.dtype[Any]]
Estimator = Callable[["Sample"], float]
"""An estimate of the label from one sample, without learning; NaN where there is none."""
Candidates = Callable[["Sample"], Array]
"""Values that the label of one sample may have, the likeliest first; possibly none."""


@dataclass(frozen=True)
class Detector:
    """Finds the objects of a sample without learning.

    Attributes:
        features: names of the numbers that describe each detection besides its position and score. `AXIS_extent` is the size
            of its box along an axis of the adapter's plane, in the unit of the axis.
        find: sample -> (detection, column): both coordinates on the plane, score (larger is surer), features.
    """

    features: tuple[str, ...]
    find: Callable[[Sample], NDArray[np.float64]]


class Baselines:
    """Estimators, detectors and signal quality of a modality; by default there are none."""

    def estimators(self) -> Mapping[str, Estimator]:
        """Estimators of the label that learn nothing, by name."""
        return {}

    def candidates(self) -> Mapping[str, Candidates]:
        """Values among which an estimator could choose, by name; the one nearest to the label bounds them all."""
        return {}

    def detectors(self) -> Mapping[str, Detector]:
        """Detectors of objects on the adapter's plane that learn nothing, by name."""
        return {}

    def quality(self, sample: Sample) -> Mapping[str, float]:
        """Numbers that say how far a sample can be trusted; larger is better, NaN is poor.

        Each is named by what is wrong where it is low. Training samples set the limits below which `maekit predict` gives that
        name instead of an estimate.
        """
        del sample
        return {}
