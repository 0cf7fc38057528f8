"""Building blocks of radar maps: windows that preserve the power of a target, power, decibels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

Window = Literal["hann", "hamming", "blackman", "none"]
LOWEST_W = 1e-30
BLOCK = 2**17
"""Complex values that a CPU core processes in one block: 1 MiB, which stays in its cache."""


@lru_cache(maxsize=64)
def scaled_window(name: Window, length: int) -> NDArray[np.float64]:
    """A symmetric window divided by its sum (F. J. Harris, Proc. IEEE 66, 1978), so that a tone on a bin keeps its amplitude.

    White noise of power n has the power n * sum(w^2) / sum(w)^2 after a transform with it: the processing gain.

    Args:
        name: `none` is the rectangular window, with the finest resolution and side lobes of -13 dB.
        length: in samples.

    Raises:
        ValueError: an unknown window, or one whose values are all zero at this length.
    """
    windows: dict[str, Callable[[int], NDArray[np.float64]]] = {
        "hann": np.hanning,
        "hamming": np.hamming,
        "blackman": np.blackman,
        "none": np.ones,
    }
    if name not in windows:
        raise ValueError(f"window {name!r}, expected one of {', '.join(windows)}")
    window = windows[name](length)
    if not window.sum() > 1e-6:
        raise ValueError(f"a {name} window of {length} points is zero throughout; use `none` or more points")
    return window / window.sum()


def on_device(values: NDArray[np.generic], like: Complex[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Constants of a transform on the device and in the precision of its signal."""
    return torch.from_numpy(values).to(like)


def squared_parts(spectrum: Complex[Tensor, "*axes"]) -> Float[Tensor, "*axes part"]:
    """Squares of the real and of the imaginary part, which add to the power; in place of the spectrum where no gradient needs it."""
    parts = torch.view_as_real(spectrum)
    return parts.square() if parts.requires_grad else parts.square_()


def decibels(watts: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """10 log10 of a power, at least -300 dB; computed in place."""
    return watts.clamp_(min=LOWEST_W).log10_().mul_(10)


def in_blocks(
    step: Callable[[Tensor], Tensor], cubes: Shaped[Tensor, "cube *axes"], *, size: int | None = None
) -> Float[Tensor, "cube *mapped"]:
    """Apply a function to many cubes; on the CPU in blocks whose intermediate results stay in the cache.

    Args:
        step: from some cubes to what becomes of them.
        cubes: all of them.
        size: complex values that a cube becomes in between; by default as many as it has.
    """
    if cubes.device.type != "cpu" or len(cubes) < 2:
        return step(cubes)
    at_once = max(1, BLOCK * torch.get_num_threads() // (size or cubes[0].numel()))
    return step(cubes) if at_once >= len(cubes) else torch.cat([step(block) for block in torch.split(cubes, at_once)])
