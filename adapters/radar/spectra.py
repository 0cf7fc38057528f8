"""What every radar map is made of: windows that keep the power of a target, power, decibels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

Window = Literal["hann", "hamming", "blackman", "none"]
LOWEST_W = 1e-30
BLOCK = 2**17
"""Complex values that a CPU core takes through all steps before the next ones: 1 MiB, which stays in its cache."""


@lru_cache(maxsize=64)
def scaled_window(name: Window, length: int) -> NDArray[np.float64]:
    """A symmetric window over its sum (F. J. Harris, Proc. IEEE 66, 1978), so that a tone on a bin keeps its amplitude.

    White noise of power n comes out of a transform with it as n * sum(w^2) / sum(w)^2: the processing gain.

    Args:
        name: `none` is rectangular: the finest resolution, side lobes of -13 dB.
        length: samples.

    Raises:
        ValueError: no such window, or one whose values are all zero at this length.
    """
    made: dict[str, Callable[[int], NDArray[np.float64]]] = {
        "hann": np.hanning,
        "hamming": np.hamming,
        "blackman": np.blackman,
        "none": np.ones,
    }
    if name not in made:
        raise ValueError(f"window {name!r}, expected one of {', '.join(made)}")
    window = made[name](length)
    if not window.sum() > 1e-6:
        raise ValueError(f"a {name} window of {length} points is zero throughout; use `none` or more points")
    return window / window.sum()


def on_device(values: NDArray[np.generic], like: Complex[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Constants of a transform, where its signal is and in its precision."""
    return torch.from_numpy(values).to(like)


def power(spectrum: Complex[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Squared magnitude, without the square root that `abs` takes first."""
    squares = spectrum.real * spectrum.real
    return squares.addcmul_(spectrum.imag, spectrum.imag)


def decibels(watts: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """10 log10 of a power, not below -300 dB; written over the argument."""
    return watts.clamp_(min=LOWEST_W).log10_().mul_(10)


def in_blocks(step: Callable[[Tensor], Tensor], cubes: Complex[Tensor, "cube *axes"]) -> Float[Tensor, "cube *mapped"]:
    """A function of many cubes, on the CPU of a few at a time: what it makes on the way then stays in the cache."""
    if cubes.device.type != "cpu" or len(cubes) < 2:
        return step(cubes)
    at_once = max(1, BLOCK * torch.get_num_threads() // cubes[0].numel())
    return step(cubes) if at_once >= len(cubes) else torch.cat([step(block) for block in torch.split(cubes, at_once)])
