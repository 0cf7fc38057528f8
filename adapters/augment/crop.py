"""The part of a picture that a training sample shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from maekit.adapter import SampleAugmentation
from maekit.adapters.image.image import ImageAdapter

if TYPE_CHECKING:
    from numpy.random import Generator

    from maekit.adapter import Adapter
    from maekit.data.sample import Sample

Box = tuple[int, int, int, int]
"""(top, left, height, width)."""
Kind = Literal["random", "area", "fixed"]
RATIOS = (3 / 4, 4 / 3)
"""Lowest and highest width over height of a box."""


class Crop(SampleAugmentation):
    """Cuts a random box out of a picture and resizes it (bicubic, antialiased) to the size of a sample.

    Args:
        adapter: `image`.
        kind: `random` (torchvision's RandomResizedCrop), `area` (one draw without retries, of linear probes) or `fixed` (a box of
            the sample's own size, anywhere in the picture as it is resized for evaluation).
        scale: lowest and highest share of the picture's area, of `random` and `area`.

    Raises:
        ValueError: another adapter, or options that cannot be.
    """

    def __init__(self, adapter: Adapter, *, kind: Kind = "random", scale: tuple[float, float] = (0.2, 1.0)) -> None:
        if not isinstance(adapter, ImageAdapter):
            raise ValueError("it is for the adapter image")
        if kind not in get_args(Kind):
            raise ValueError(f"kind {kind!r}, expected one of {', '.join(get_args(Kind))}")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale {tuple(scale)}, expected two shares of the area, 0 < lowest <= highest <= 1")
        self.adapter, self.kind, self.scale = adapter, kind, scale

    def __call__(self, sample: Sample, rng: Generator) -> Sample:
        """The resized box, ready for the front."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        size, x = self.adapter.size, self.adapter.picture(sample)
        if self.kind == "fixed":
            x = self.adapter.resized(x)
            top, left = (int(rng.integers(0, n - to + 1)) for n, to in zip(x.shape[1:], size, strict=True))
            x = functional.crop(x, top, left, *size)
        else:
            draw = random_crop if self.kind == "random" else area_crop
            box = draw(rng, x.shape[1], x.shape[2], self.scale)
            x = functional.resized_crop(x, *box, list(size), InterpolationMode.BICUBIC, antialias=True)
        return replace(sample, signal=self.adapter.in_range(x), valid=None, prepared=True)


def random_crop(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> Box:
    """A box as torchvision's RandomResizedCrop draws it: up to ten tries to fit into the picture, else its centre."""
    for _ in range(10):
        h, w = _sides(rng, height, width, scale)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w, h = min(width, round(height * RATIOS[1])), min(height, round(width * RATIOS[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def area_crop(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> Box:
    """A box from one draw, its sides limited to the picture's: as in the linear probes of the MAE paper's code."""
    h, w = _sides(rng, height, width, scale)
    h, w = min(max(h, 1), height), min(max(w, 1), width)
    return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w


def _sides(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> tuple[int, int]:
    area = height * width * rng.uniform(*scale)
    ratio = np.exp(rng.uniform(*np.log(RATIOS)))
    return round(float(np.sqrt(area / ratio))), round(float(np.sqrt(area * ratio)))
