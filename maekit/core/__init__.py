"""The masked autoencoder, independent of any modality. `from maekit.core import MaskedAutoencoder, GridPatchifier`."""

from maekit.core.autoencoder import Encoder, MAEOutput, MaskedAutoencoder
from maekit.core.encoders.base import Backbone
from maekit.core.encoders.cnn import CNN
from maekit.core.encoders.tcn import TCN
from maekit.core.masking import Mask, Masking, RandomMasking, mask_patches
from maekit.core.patchify import GridPatchifier, Patchifier
from maekit.core.positions import interpolate_positions, sincos_positions
from maekit.core.structured_masking import BlockMasking, GridMasking, SpanMasking
from maekit.core.targets.base import Target
from maekit.core.targets.pixels import PatchNormTarget, RawTarget
from maekit.core.transformer import PAPER_DECODER, PRESETS, TransformerConfig

__all__ = [
    "CNN",
    "PAPER_DECODER",
    "PRESETS",
    "TCN",
    "Backbone",
    "BlockMasking",
    "Encoder",
    "GridMasking",
    "GridPatchifier",
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
