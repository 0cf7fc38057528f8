"""A residual convolutional network as an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.core.encoders.convolution import ConvolutionalEncoder, PerAxis

if TYPE_CHECKING:
    from collections.abc import Sequence


class CNN(ConvolutionalEncoder):
    """A residual network (He et al., 2016) that goes down to one token a patch step by step."""

    @staticmethod
    def plan(patch: PerAxis, depth: int) -> list[tuple[PerAxis, int]]:
        """The prime factors of the patch along each axis, spread over the blocks."""
        strides = zip(*(spread_factors(prime_factors(points), depth) for points in patch), strict=True)
        return [(stride, 1) for stride in strides]


def prime_factors(number: int) -> list[int]:
    """Prime factors in rising order; none of 1."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def spread_factors(factors: Sequence[int], depth: int) -> list[int]:
    """`depth` numbers with the same product: the factors in order, as evenly spaced as possible, and ones."""
    strides = [1] * depth
    for i, factor in enumerate(factors):
        strides[i * depth // len(factors)] *= factor
    return strides
