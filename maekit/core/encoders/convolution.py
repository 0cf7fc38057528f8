"""The body of convolutional encoders: a stem and residual blocks whose strides make one token of each patch.

Removed and invalid patches are zeroed before every convolution, like padding (the sparse convolution of SparK, Tian et al.,
2023, arXiv:2301.03580, computed densely; MCMAE, Gao et al., 2022, masks likewise). So nothing of a removed patch reaches
the tokens, and the norms, which are over the channels of one position, do not depend on the share that is removed.
"""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, cast

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maekit.core.encoders.base import Backbone
from maekit.core.losses import masked_mean
from maekit.core.masking import gather_tokens
from maekit.core.patchify import GridPatchifier, zero_invalid
from maekit.core.transformer import Blocks, LayerNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.core.masking import Mask
    from maekit.core.patchify import Patchifier

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""By the number of axes."""

PerAxis = tuple[int, ...]
"""One number for each axis."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each position, (batch, channel, *axes)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)

    def forward(self, x: Float[Tensor, "batch width *axes"]) -> Float[Tensor, "batch width *axes"]:
        """Normalise every position by itself."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ConvolutionBlock(nn.Module):
    """A strided convolution to a coarser grid where `stride` is above 1, then a residual pair of convolutions (pre-norm, GELU).

    Args:
        width: channels.
        stride: positions along each axis that become one, by a convolution over just these.
        kernel: positions that a convolution covers along each axis, odd.
        dilation: distance between them.
    """

    def __init__(self, width: int, stride: PerAxis, kernel: int, dilation: int) -> None:
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
        self, x: Float[Tensor, "batch width *axes"], visible: Bool[Tensor, "batch 1 *coarse"] | None
    ) -> Float[Tensor, "batch width *coarse"]:
        """One block; positions where `visible`, on the grid after the stride, is False are zeroed before convolutions."""
        x = self.down(x)
        hidden = self.conv1(_zero_hidden(self.act(self.norm1(x)), visible))
        return x + self.conv2(_zero_hidden(self.act(self.norm2(hidden)), visible))


class ConvolutionalEncoder(Backbone):
    """A stem on the samples and residual blocks, whose strides together make one token of each patch; a GELU is last.

    The token of the whole sample is the mean of the tokens of visible patches.

    Args:
        patchifier: how a sample is cut: on a grid of one to three axes.
        width: channels.
        depth: residual blocks of two convolutions.
        kernel: points that a convolution covers along each axis, odd.

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
    def plan(patch: PerAxis, depth: int) -> list[tuple[PerAxis, int]]:
        """Stride along each axis, and dilation, of each block; the strides multiply to the patch."""

    def encode(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None, mask: Mask | None
    ) -> Float[Tensor, "batch token width"]:
        """Encode samples with removed and invalid patches zeroed before every convolution."""
        visible = valid
        if mask is not None:
            visible = ~mask.mask if valid is None else valid & ~mask.mask
        x = self.stem(self.patchifier.unpatchify(zero_invalid(patches, visible)))
        points = self.patch_size  # of a patch along each axis, on the grid after each block
        for block in cast("Sequence[ConvolutionBlock]", self.blocks):
            points = tuple(count // steps for count, steps in zip(points, block.stride, strict=True))
            x = self.blocks.run_block(block, x, None if visible is None else self._expand(visible, points))
        # With a GELU also where fine-tuning removes the norm: the mean of a linear function of a signal around zero is zero.
        tokens = self.mix_tokens(self.act(self.norm(rearrange(x, "batch width ... -> batch (...) width"))))
        whole = masked_mean(tokens, visible, dim=1)
        if mask is not None:
            tokens = gather_tokens(tokens, mask.ids_keep)
        return torch.cat([whole, tokens], dim=1)

    def mix_tokens(self, tokens: Float[Tensor, "batch patch width"]) -> Float[Tensor, "batch patch width"]:
        """A further step over all tokens after the last block; here none."""
        return tokens

    def _expand(self, visible: Bool[Tensor, "batch patch"], points: PerAxis) -> Bool[Tensor, "batch 1 *axes"]:
        """The value of each patch at every one of its points, on a grid with so many points a patch."""
        names = range(len(points))
        grid, axes = " ".join(f"g{i}" for i in names), " ".join(f"(g{i} p{i})" for i in names)
        sizes = {f"g{i}": n for i, n in enumerate(self.patchifier.grid_size)} | {
            f"p{i}": n for i, n in enumerate(points)
        }
        return repeat(visible, f"batch ({grid}) -> batch 1 {axes}", **sizes)


def _zero_hidden(
    x: Float[Tensor, "batch width *axes"], visible: Bool[Tensor, "batch 1 *axes"] | None
) -> Float[Tensor, "batch width *axes"]:
    return x if visible is None else torch.where(visible, x, 0.0)
