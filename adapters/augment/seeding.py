"""Libraries that draw from global generators, made to draw from a sample's own."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator


@contextmanager
def seeded(rng: Generator) -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and torch (CPU) are seeded from `rng`; afterwards they are as before."""
    seed = int(rng.integers(2**32))
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
