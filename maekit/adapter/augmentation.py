"""Random, physically valid variations of training samples, each at the stage where it belongs.

A recipe lists them under `augment`. An augmentation is built as `Kind(adapter, **options)` and raises ValueError for options
that do not fit the adapter. Its randomness comes from the generator that it is given and from nothing else. Those of an
earlier stage run first, those of one stage in the order of the recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    from maekit.adapter.base import Adapter
    from maekit.data.sample import Sample


class Augmentation(ABC):  # noqa: B024 (each stage below has its own call)
    """Base of the three stages."""

    changes_label: ClassVar[bool] = False
    """Whether a varied sample may have another label than the one that was read."""

    def check_auxiliary(self, others: Mapping[str, Adapter]) -> None:  # noqa: B027 (most augmentations accept any)
        """Check the signals that are read together with the varied one. Default: all are accepted.

        Args:
            others: adapters of the auxiliary signals, by name.

        Raises:
            ValueError: the varied signal would contradict one of them.
        """


class SampleAugmentation(Augmentation):
    """Varies a sample as it was read, before it is prepared, with its label and its auxiliary signals."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The varied sample (`dataclasses.replace(sample, signal=..., label=...)`), or `sample` itself where nothing changes.

        `sample.label` is None where there are no labels, and stays so. With `prepared=True` in the result, its signal is
        taken as if `Adapter.prepare` had given it.
        """


class SignalAugmentation(Augmentation):
    """Varies a prepared signal."""

    @abstractmethod
    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """A signal of the same shape, and which of its values were measured (None: all). The arguments may be altered."""


class BatchAugmentation(Augmentation):
    """Varies a batch of standardised samples on the device."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "batch *sample"], rng: Generator) -> Float[Tensor, "batch *sample"]:
        """A batch of the same shape. `rng` is seeded by the training step; `torch`'s own generator may be used as well."""


@dataclass(frozen=True)
class Augmentations:
    """The augmentations of one signal, by stage."""

    of_sample: tuple[SampleAugmentation, ...] = ()
    of_signal: tuple[SignalAugmentation, ...] = ()
    of_batch: tuple[BatchAugmentation, ...] = ()

    @classmethod
    def by_stage(cls, augmentations: Sequence[Augmentation]) -> Augmentations:
        """Sort a list into the stages."""
        return cls(
            tuple(each for each in augmentations if isinstance(each, SampleAugmentation)),
            tuple(each for each in augmentations if isinstance(each, SignalAugmentation)),
            tuple(each for each in augmentations if isinstance(each, BatchAugmentation)),
        )

    @property
    def varies_samples(self) -> bool:
        """Whether some of them vary a sample as it was read."""
        return bool(self.of_sample)

    def vary_sample(self, sample: Sample, rng: Generator) -> Sample:
        """A sample as it was read, varied; `sample` itself where nothing changes."""
        for augmentation in self.of_sample:
            sample = augmentation(sample, rng)
        return sample

    def vary_signal(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """A prepared signal, varied, of the same type."""
        kind = signal.dtype
        for augmentation in self.of_signal:
            signal, valid = augmentation(signal, valid, rng)
        return np.ascontiguousarray(signal, dtype=kind), valid
