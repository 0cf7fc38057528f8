"""A seed for random numbers that torch does not draw."""

from __future__ import annotations

import torch


def draw_seed() -> int:
    """Draw a seed from torch's generator of the CPU, so that an interrupted run that goes on draws the same, and no GPU is waited for."""
    return int(torch.randint(2**31, ()))
