"""A temporal convolutional network as an encoder."""

from __future__ import annotations

from maekit.core.encoders.convolution import ConvolutionalEncoder, PerAxis


class TCN(ConvolutionalEncoder):
    """A temporal convolutional network (Bai et al., 2018, arXiv:1803.01271), but not causal.

    Dilations double from block to block on the full grid; the last block goes down to one token a patch.
    """

    @staticmethod
    def plan(patch: PerAxis, depth: int) -> list[tuple[PerAxis, int]]:
        """No strides but in the last block."""
        unit = (1,) * len(patch)
        return [*((unit, 2**i) for i in range(depth - 1)), (patch, 1)]
