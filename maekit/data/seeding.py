"""Generators of random numbers that depend on (seed, epoch, index) alone, for all samples of a batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

_POOL = 4
"""Words of 32 bits that entropy is mixed into."""
_STATE = 8
"""Words of 32 bits that PCG64 asks for."""
_SHIFT, _HIGH = np.uint32(16), np.uint64(32)
_LEFT, _RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)


def sample_rngs(seed: int, epoch: int, indices: Sequence[int]) -> list[Generator]:
    """The generators `numpy.random.default_rng((seed, epoch, index))` of some indices, computed together.

    NumPy's `SeedSequence` takes most of that time, 30 us of each; its mixing is done for all of them as arrays here. They do not `spawn`.
    """
    if max(seed, epoch, *indices) >= 2**32:
        return [np.random.default_rng((seed, epoch, index)) for index in indices]
    entropy = np.zeros((_POOL, len(indices)), np.int64)
    entropy[0], entropy[1], entropy[2] = seed, epoch, indices
    seeds: list[Any] = [_Words(row) for row in _state_words(entropy)]
    return [np.random.Generator(np.random.PCG64(words)) for words in seeds]


class _Words(ISeedSequence):
    """A seed sequence of one state, which is known already."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> NDArray[np.uint64]:
        """The state: PCG64 asks for four words of 64 bits."""
        del dtype
        assert n_words == len(self.words)
        return self.words


def _constants(start: int, factor: int, number: int) -> NDArray[np.uint32]:
    """(number + 1, 1) powers of a factor times a start, modulo 2**32: the constants that the words of a pool are hashed with in turn."""
    return np.array([[start * pow(factor, i, 2**32) % 2**32] for i in range(number + 1)], np.uint32)


_MIXING = _constants(0x43B0D7E5, 0x931E8875, _POOL**2)
_DRAWING = _constants(0x8B51F9DD, 0x58F38DED, _STATE)
_OTHERS = [[target for target in range(_POOL) if target != source] for source in range(_POOL)]


def _hash(words: NDArray[np.uint32], constants: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(word, sample) hashed, each word with a constant and the next one."""
    words = (words ^ constants[:-1]) * constants[1:]
    return words ^ (words >> _SHIFT)


def _state_words(entropy: NDArray[Any]) -> NDArray[np.uint64]:
    """(sample, 4) what `SeedSequence.generate_state(4, uint64)` gives: `seed_seq_fe` of O'Neill (2015), as in NumPy.

    Args:
        entropy: (4, sample) the numbers of each seed, below 2**32, and zeros.
    """
    pool = _hash(entropy.astype(np.uint32), _MIXING[: _POOL + 1])
    used = _POOL
    for source, others in enumerate(_OTHERS):
        hashed = _hash(pool[source], _MIXING[used : used + _POOL])
        joined = pool[others] * _LEFT - hashed * _RIGHT
        pool[others] = joined ^ (joined >> _SHIFT)
        used += _POOL - 1
    words = _hash(np.concatenate([pool, pool]), _DRAWING).astype(np.uint64)
    return np.ascontiguousarray((words[::2] | words[1::2] << _HIGH).T)
