"""Removal of static clutter from ADC cubes, before any map is made."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Complex
from torch import Tensor

Clutter = Literal["none", "mean", "two_pulse", "three_pulse"]


def remove_clutter(
    adc: Complex[Tensor, "*batch chirp sample"], method: Clutter
) -> Complex[Tensor, "*batch left sample"]:
    """Remove static clutter from a frame (moving target indication; Richards, Scheer & Holm, 2010, chapter 17).

    Args:
        adc: (..., chirp, sample).
        method: `mean` subtracts the mean over the chirps: zero Doppler is removed exactly, targets within one Doppler bin are
            attenuated, and the number of chirps stays. `two_pulse` subtracts from each chirp the one before: one chirp fewer, and
            the power of a target at Doppler f is multiplied by 4 sin^2(pi f T), with the chirp interval T. `three_pulse` does so
            twice: two chirps fewer, 16 sin^4(pi f T). The cancellers attenuate slow targets and multiply the power of white
            noise by 2 and 6.

    Returns:
        The cube, with as many chirps as the method leaves.

    Raises:
        ValueError: an unknown method, or too few chirps.
    """
    if method not in get_args(Clutter):
        raise ValueError(f"clutter {method!r}, expected one of {', '.join(get_args(Clutter))}")
    order = {"two_pulse": 1, "three_pulse": 2}.get(method, 0)
    if adc.shape[-2] <= order:
        raise ValueError(f"clutter {method!r} needs more than {order} chirps, there are {adc.shape[-2]}")
    if method == "mean":
        return adc - adc.mean(dim=-2, keepdim=True)
    return torch.diff(adc, n=order, dim=-2) if order else adc
