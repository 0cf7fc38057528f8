"""What a modality brings: an adapter prepares samples, makes the front end of a model and draws.

Everything that a modality knows lives in its adapter and nowhere else: decibels, beats, RGB means, which augmentation is
physical, how people of the field draw a sample.
"""

from maekit.adapter.amplitude import LinearAmplitude, Reference
from maekit.adapter.augmentation import (
    Augmentation,
    Augmentations,
    BatchAugmentation,
    SampleAugmentation,
    SignalAugmentation,
)
from maekit.adapter.base import Adapter, Derivation, Reducer, Transformation, Transformed
from maekit.adapter.baselines import Baselines, Candidates, Detector, Estimator
from maekit.adapter.front import Front
from maekit.adapter.geometry import Geometry
from maekit.adapter.statistics import ChannelStatistics

__all__ = [
    "Adapter",
    "Augmentation",
    "Augmentations",
    "Baselines",
    "BatchAugmentation",
    "Candidates",
    "ChannelStatistics",
    "Derivation",
    "Detector",
    "Estimator",
    "Front",
    "Geometry",
    "LinearAmplitude",
    "Reducer",
    "Reference",
    "SampleAugmentation",
    "SignalAugmentation",
    "Transformation",
    "Transformed",
]
