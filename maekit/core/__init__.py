"""The masked autoencoder, knowing nothing of any modality. `from maekit.core import MaskedAutoencoder, GridPatchifier`."""

from maekit.core.autoencoder import Encoder, MAEOutput, MaskedAutoencoder
from maekit.core.encoders.base import Backbone
from maekit.core.encoders.convolutional import CNN, TCN, HarmonicCNN
from maekit.core.masking import (
    AxisMasking,
    BlockMasking,
    GridMasking,
    Mask,
    Masking,
    RandomMasking,
    SpanMasking,
    mask_patches,
)
from maekit.core.patchify import GridPatchifier, Patchifier
from maekit.core.positions import interpolate_positions, sincos_positions
from maekit.core.targets.base import PatchNormTarget, RawTarget, Target
from maekit.core.transformer import PAPER_DECODER, PRESETS, TransformerConfig

__all__ = [
    "CNN",
    "PAPER_DECODER",
    "PRESETS",
    "TCN",
    "AxisMasking",
    "Backbone",
    "BlockMasking",
    "Encoder",
    "GridMasking",
    "GridPatchifier",
    "HarmonicCNN",
    "MAEOutput",
    "Mask",
    "MaskedAutoencoder",
    "Masking",
    "PatchNormTarget",
    "Patchifier",
    "RandomMasking",
    "RawTarget",
    "SpanMasking",
    "Target",
    "TransformerConfig",
    "interpolate_positions",
    "mask_patches",
    "sincos_positions",
]
