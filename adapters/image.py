"""Pictures, through torchvision's transforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Front
from maekit.core.patchify import GridPatchifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from numpy.random import Generator

    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PictureFront(Front):
    """uint8 to [0, 1]."""

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, height, width) as floats in [0, 1]."""
        return signal.float() / 255, valid


class ImageAdapter(Adapter):
    """Pictures of any size and number of channels, uint8 in [0, 255].

    In training a random resized crop (bicubic, antialiased) and a horizontal flip, as in the MAE paper; otherwise
    the shorter side is resized to size / `crop_ratio` and the centre cut out.

    Args:
        info: of the source.
        size: side (or height, width) of a sample.
        patch: side of a patch.
        scale: share of the area that a random crop takes, lowest and highest; None crops nothing in training.
        flip: mirror half of the training pictures; not where left and right matter.
        crop_ratio: 0.875 as is usual for ImageNet, 1.0 for pictures that come in their final size.
        normalisation: `imagenet` (mean and standard deviation of each colour there) or `fit` (of the training split).
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        size: int | Sequence[int] = 224,
        patch: int = 16,
        scale: tuple[float, float] | None = (0.2, 1.0),
        flip: bool = True,
        crop_ratio: float = 0.875,
        normalisation: str = "imagenet",
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        channels = len(info.channels)
        if normalisation not in ("imagenet", "fit"):
            raise ValueError(f"normalisation {normalisation!r}, expected 'imagenet' or 'fit'")
        if normalisation == "imagenet" and channels != 3:
            raise ValueError(f"normalisation 'imagenet' is for 3 channels, these have {channels}: use 'fit'")
        patchifier = GridPatchifier((channels, height, width), (patch, patch), ("height", "width"))
        super().__init__(info, patchifier, PictureFront(patchifier))
        self.size, self.scale, self.flip, self.crop_ratio = (height, width), scale, flip, crop_ratio
        self.normalisation, self.unit = normalisation, "intensity in [0, 1]"

    def fit(self, samples: Iterable[Sample]) -> None:
        """ImageNet's constants, or the training split's."""
        if self.normalisation == "fit":
            super().fit(samples)
            return
        self.front.mean.copy_(torch.tensor(IMAGENET_MEAN))
        self.front.std.copy_(torch.tensor(IMAGENET_STD))

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """Resize and centre crop: (channel, height, width) uint8."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        x = torch.from_numpy(np.ascontiguousarray(sample.signal))
        if tuple(x.shape[1:]) == self.size and self.crop_ratio == 1:
            return x.numpy(), None
        target = [round(side / self.crop_ratio) for side in self.size]
        factor = max(target[0] / x.shape[1], target[1] / x.shape[2])
        shape = [max(side, round(n * factor)) for side, n in zip(self.size, x.shape[1:], strict=True)]
        x = F.resize(x, shape, InterpolationMode.BICUBIC, antialias=True)
        return F.center_crop(x, list(self.size)).numpy(), None

    def training_sample(self, sample: Sample, rng: Generator) -> tuple[Array, Valid | None]:
        """Random resized crop and flip, both from `rng` alone."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        if self.scale is None:
            signal, valid = self.prepare(sample)
        else:
            x = torch.from_numpy(np.ascontiguousarray(sample.signal))
            top, left, height, width = random_crop(rng, x.shape[1], x.shape[2], self.scale)
            crop = F.resized_crop(x, top, left, height, width, list(self.size), InterpolationMode.BICUBIC, antialias=True)
            signal, valid = crop.numpy(), None
        if self.flip and rng.random() < 0.5:
            signal = np.ascontiguousarray(signal[:, :, ::-1])
        return signal, valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """The picture itself: colours for three channels, else the first in gray."""
        picture = x.transpose(1, 2, 0) if x.shape[0] == 3 else x[0]
        gone = np.isnan(picture)
        shown = np.where(gone, 0.5, np.clip(picture, 0, 1))
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title)

    @classmethod
    def simulate(cls, folder: Path, *, seed: int = 0, **size: Any) -> Path:
        """Shapes on textured ground; see `maekit.adapters.shapes`."""
        from maekit.adapters.shapes import simulate_shapes

        return simulate_shapes(folder, seed=seed, **size)


def random_crop(rng: Generator, height: int, width: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """(top, left, height, width) distributed as torchvision's RandomResizedCrop draws it, ratios 3/4 to 4/3."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w
