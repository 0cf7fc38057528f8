"""Published augmentations of pictures, each drawn from one sample's own generator alone."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.random import Generator
    from PIL import Image

Box = tuple[int, int, int, int]
"""(top, left, height, width)."""
RATIOS = (3 / 4, 4 / 3)


def random_crop(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> Box:
    """As torchvision's RandomResizedCrop draws it: up to ten tries to fit into the picture, else its centre."""
    for _ in range(10):
        h, w = _sides(rng, height, width, scale)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w, h = min(width, round(height * RATIOS[1])), min(height, round(width * RATIOS[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def area_crop(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> Box:
    """One draw, its sides cut down to the picture's: as the linear probes of the MAE paper's code have it."""
    h, w = _sides(rng, height, width, scale)
    h, w = min(max(h, 1), height), min(max(w, 1), width)
    return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w


def _sides(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> tuple[int, int]:
    area = height * width * rng.uniform(*scale)
    ratio = np.exp(rng.uniform(*np.log(RATIOS)))
    return round(float(np.sqrt(area / ratio))), round(float(np.sqrt(area * ratio)))


def rand_augment(config: str, mean: Sequence[float], size: tuple[int, int]) -> Callable[[Image.Image], Image.Image]:
    """timm's RandAugment, set up as timm sets it up for training.

    Args:
        config: such as `rand-m9-mstd0.5-inc1`.
        mean: of the channels in [0, 1]: what a shifted picture leaves is filled with it.
        size: of a sample; shifts go up to 0.45 of its shorter side.

    Raises:
        ValueError: no configuration that timm knows.
    """
    from PIL import Image as PIL
    from timm.data.auto_augment import rand_augment_transform

    filling = tuple(min(255, round(255 * value)) for value in mean)
    hparams: dict[str, Any] = {
        "translate_const": int(min(size) * 0.45),
        "img_mean": filling,
        "interpolation": PIL.Resampling.BICUBIC,
    }
    if not config.startswith("rand"):
        raise ValueError(f"randaugment {config!r}, expected a configuration of timm such as 'rand-m9-mstd0.5-inc1'")
    try:
        augment = rand_augment_transform(config, hparams)
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"randaugment {config!r} ({error}), expected a configuration of timm such as 'rand-m9-mstd0.5-inc1'"
        ) from error
    for op in augment.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """At its strongest timm asks for no bits at all, which newer versions of Pillow refuse: one is left."""
    from PIL import ImageOps

    return image if bits >= 8 else ImageOps.posterize(image, max(bits, 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and torch (CPU) begin at `seed`; outside nothing has changed.

    For libraries that draw from those and take no generator.
    """
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
