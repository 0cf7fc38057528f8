"""Convolutional encoders over a grid of patches: a residual network, and a temporal convolutional network.

They see removed and unmeasured patches as they see what lies outside of the sample: as zeros, before every convolution (the
sparse convolution of SparK, Tian et al., 2023, arXiv:2301.03580, computed densely; MCMAE, Gao et al., 2022, masks
likewise). So nothing of a removed patch reaches the tokens, and norms, which are over the channels of one place alone, do
not change with the share that is removed.
"""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, cast

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maekit.core.encoders.base import Backbone, gather, zero_invalid
from maekit.core.patchify import GridPatchifier
from maekit.core.transformer import Blocks, LayerNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""By the number of axes."""

Steps = tuple[int, ...]
"""One number an axis."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each place, (batch, channel, *axes)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)

    def forward(self, x: Float[Tensor, "batch width *axes"]) -> Float[Tensor, "batch width *axes"]:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ConvolutionBlock(nn.Module):
    """Down to a coarser grid where `stride` says so, then two convolutions around a residual (pre-norm, GELU).

    Args:
        width: channels.
        stride: how many places become one, along each axis; a convolution over just these places.
        kernel: places that a convolution sees along each axis, odd.
        dilation: steps between them.
    """

    def __init__(self, width: int, stride: Steps, kernel: int, dilation: int) -> None:
        super().__init__()
        conv: Any = CONVOLUTIONS[len(stride)]
        self.stride = stride
        self.down: nn.Module = nn.Identity()
        if prod(stride) > 1:
            self.down = nn.Sequential(ChannelNorm(width), conv(width, width, stride, stride))
        same = {"dilation": dilation, "padding": dilation * (kernel // 2)}
        self.norm1, self.conv1 = ChannelNorm(width), conv(width, width, kernel, **same)
        self.norm2, self.conv2 = ChannelNorm(width), conv(width, width, kernel, **same)
        self.act = nn.GELU()

    def forward(
        self, x: Float[Tensor, "batch width *axes"], seen: Bool[Tensor, "batch 1 *coarse"] | None
    ) -> Float[Tensor, "batch width *coarse"]:
        """`seen` False, on the grid after the stride, are places that count as outside; None: none does."""
        x = self.down(x)
        inner = self.conv1(within(self.act(self.norm1(x)), seen))
        return x + self.conv2(within(self.act(self.norm2(inner)), seen))


class ConvolutionalEncoder(Backbone):
    """A stem on the samples and residual blocks, whose strides together make one token of each patch, active in the end.

    The token of the whole sample is the mean of those that were seen.

    Args:
        patchifier: how a sample is cut: on a grid of one to three axes.
        width: channels.
        depth: residual blocks of two convolutions.
        kernel: points that a convolution sees along each axis, odd.

    Raises:
        ValueError: no grid, or more axes than there are convolutions for; sizes that make no network.
    """

    def __init__(self, patchifier: Patchifier, *, width: int = 64, depth: int = 6, kernel: int = 5) -> None:
        super().__init__()
        if not isinstance(patchifier, GridPatchifier) or len(patchifier.patch_size) not in CONVOLUTIONS:
            raise ValueError(
                f"convolutions need patches on a grid of one to three axes; this {type(patchifier).__name__} has the grid "
                f"{patchifier.grid_size}"
            )
        if min(width, depth, kernel) < 1 or kernel % 2 == 0:
            raise ValueError(f"width={width}, depth={depth}, kernel={kernel}: expected 1 or more, and an odd kernel")
        self.patchifier, self.width, self.patch_size = patchifier, width, patchifier.patch_size
        self.mask_token = None
        conv: Any = CONVOLUTIONS[len(self.patch_size)]
        self.stem = conv(patchifier.sample_shape[0], width, kernel, padding=kernel // 2)
        self.blocks = Blocks(
            ConvolutionBlock(width, stride, kernel, dilation) for stride, dilation in self.plan(self.patch_size, depth)
        )
        self.norm, self.act = LayerNorm(width), nn.GELU()

    @staticmethod
    @abstractmethod
    def plan(patch: Steps, depth: int) -> list[tuple[Steps, int]]:
        """Stride along each axis, and dilation, of each block; the strides multiply to the patch."""

    def encode(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None, mask: Mask | None
    ) -> Float[Tensor, "batch token width"]:
        seen = valid
        if mask is not None:
            seen = ~mask.mask if valid is None else valid & ~mask.mask
        x = self.stem(self.patchifier.unpatchify(zero_invalid(patches, seen)))
        left = self.patch_size
        for block in cast("Sequence[ConvolutionBlock]", self.blocks):
            left = tuple(points // steps for points, steps in zip(left, block.stride, strict=True))
            places = None if seen is None else self.places(seen, left)
            if self.blocks.recomputed and torch.is_grad_enabled():
                x = checkpoint(block, x, places, use_reentrant=False)
            else:
                x = block(x, places)
        # Active also where fine-tuning leaves out the norm: the mean of what is linear in a signal around zero says nothing.
        tokens = self.mix(self.act(self.norm(rearrange(x, "batch width ... -> batch (...) width"))))
        whole = mean_of(tokens, seen)
        if mask is not None:
            tokens = gather(tokens, mask.ids_keep)
        return torch.cat([whole, tokens], dim=1)

    def mix(self, tokens: Float[Tensor, "batch patch width"]) -> Float[Tensor, "batch patch width"]:
        """What else a token learns of the others after the last block."""
        return tokens

    def places(self, seen: Bool[Tensor, "batch patch"], points: Steps) -> Bool[Tensor, "batch 1 *axes"]:
        """What holds for a patch, for every one of its `points` places."""
        found = seen.reshape(len(seen), 1, *self.patchifier.grid_size)
        for axis, count in enumerate(points, start=2):
            found = found.repeat_interleave(count, dim=axis) if count > 1 else found
        return found


class CNN(ConvolutionalEncoder):
    """A residual network (He et al., 2016) that goes down to one token a patch step by step."""

    @staticmethod
    def plan(patch: Steps, depth: int) -> list[tuple[Steps, int]]:
        strides = zip(*(spread(prime_factors(points), depth) for points in patch), strict=True)
        return [(stride, 1) for stride in strides]


class TCN(ConvolutionalEncoder):
    """A temporal convolutional network (Bai et al., 2018, arXiv:1803.01271), but one that also looks ahead.

    Dilations double from block to block on the full grid; the last block goes down to one token a patch.
    """

    @staticmethod
    def plan(patch: Steps, depth: int) -> list[tuple[Steps, int]]:
        still = (1,) * len(patch)
        return [*((still, 2**i) for i in range(depth - 1)), (patch, 1)]


class HarmonicCNN(CNN):
    """A residual network whose tokens, at its end, also look at those a few fixed distances away.

    On the logarithm of a frequency, that is where a tone's harmonics lie, whatever the tone.

    Args:
        offsets: the distances, in patches; 0 is the token itself. Beyond the ends are zeros.
        dropout: share of the mixed channels left out in training.

    Raises:
        ValueError: more than one axis; no tap; what `ConvolutionalEncoder` raises.
    """

    after = ("harmonic", "norm")

    def __init__(
        self, patchifier: Patchifier, *, offsets: tuple[int, ...] = (0,), dropout: float = 0.1, **options: Any
    ) -> None:
        super().__init__(patchifier, **options)
        if len(self.patch_size) != 1 or not offsets:
            raise ValueError(
                f"harmonic_cnn needs one axis and at least one tap; the grid is {patchifier.grid_size}, offsets are {offsets}"
            )
        self.offsets, self.reach = offsets, max(abs(tap) for tap in offsets)
        self.harmonic = nn.Sequential(nn.Linear(len(offsets) * self.width, self.width), nn.GELU(), nn.Dropout(dropout))

    def mix(self, tokens: Float[Tensor, "batch patch width"]) -> Float[Tensor, "batch patch width"]:
        wide = nn.functional.pad(tokens, (0, 0, self.reach, self.reach))
        starts = (self.reach + tap for tap in self.offsets)
        return self.harmonic(torch.cat([wide[:, start : start + tokens.shape[1]] for start in starts], dim=-1))


def prime_factors(number: int) -> list[int]:
    """Smallest first; none of 1."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found


def spread(factors: Sequence[int], depth: int) -> list[int]:
    """`depth` numbers with the same product, the factors in order and as evenly apart as they go."""
    steps = [1] * depth
    for i, factor in enumerate(factors):
        steps[i * depth // len(factors)] *= factor
    return steps


def within(
    x: Float[Tensor, "batch width *axes"], seen: Bool[Tensor, "batch 1 *axes"] | None
) -> Float[Tensor, "batch width *axes"]:
    """Zeros where nothing was seen."""
    return x if seen is None else torch.where(seen, x, 0.0)


def mean_of(
    tokens: Float[Tensor, "batch patch width"], seen: Bool[Tensor, "batch patch"] | None
) -> Float[Tensor, "batch 1 width"]:
    """Mean of the tokens that were seen."""
    if seen is None:
        return reduce(tokens, "batch patch width -> batch 1 width", "mean")
    total = reduce(torch.where(seen[..., None], tokens, 0.0), "batch patch width -> batch 1 width", "sum")
    return total / seen.sum(1).clamp(min=1)[:, None, None]
