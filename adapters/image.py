"""Pictures, through torchvision's transforms."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Front
from maekit.core.patchify import GridPatchifier
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from numpy.random import Generator

    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]
Normalisation = Literal["imagenet", "fit"] | tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LOOKED_AT = 16
"""Training pictures whose values are compared with `full_scale` before training."""


class PictureFront(Front):
    """From stored values to intensities in [0, 1]."""

    def __init__(self, patchifier: GridPatchifier, *, full_scale: float) -> None:
        super().__init__(patchifier)
        self.full_scale = full_scale

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, height, width) as floats in [0, 1]."""
        return signal.float() / self.full_scale, valid


class ImageAdapter(Adapter):
    """Pictures of any size and number of channels.

    In training a random resized crop (bicubic, antialiased) and a horizontal flip, as in the MAE paper; otherwise
    the picture is resized to cover size / `crop_ratio` and the centre cut out.

    Args:
        info: of the source.
        size: side (or height, width) of a sample.
        patch: side of a patch.
        scale: share of the area that a random crop takes, lowest and highest; None crops nothing in training.
        flip: mirror half of the training pictures; not where left and right matter.
        crop_ratio: 0.875 as is usual for ImageNet, 1.0 for pictures that come in their final size.
        normalisation: `imagenet` (mean and standard deviation of each colour there), `fit` (of the training split),
            or (means, standard deviations) of intensities in [0, 1], one for each channel.
        full_scale: the stored value that is intensity 1: 255, 65535 for 16 bits, 1 for floats.

    Raises:
        ValueError: options that do not fit each other or the channels.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        size: int | tuple[int, int] = 224,
        patch: int = 16,
        scale: tuple[float, float] | None = (0.2, 1.0),
        flip: bool = True,
        crop_ratio: float = 0.875,
        normalisation: Normalisation = "imagenet",
        full_scale: float = 255.0,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        channels = len(info.channels)
        if len(info.axes) != 2:
            raise ValueError(f"a picture has height and width, but the data spec gives {[a.name for a in info.axes]}")
        if info.complex:
            raise ValueError("pictures are real, but the data spec gives complex values")
        if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale {scale}, expected two shares of the area, 0 < lowest <= highest <= 1")
        if not 0 < crop_ratio <= 1:
            raise ValueError(f"crop_ratio {crop_ratio}, expected 0 < crop_ratio <= 1")
        if not full_scale > 0:
            raise ValueError(f"full_scale {full_scale}, expected a positive stored value")
        patchifier = GridPatchifier((channels, height, width), (patch, patch), ("height", "width"))
        super().__init__(info, patchifier, PictureFront(patchifier, full_scale=full_scale))
        self.size, self.scale, self.flip, self.crop_ratio = (height, width), scale, flip, crop_ratio
        self.full_scale, self.normalisation, self.unit = full_scale, normalisation, "intensity in [0, 1]"
        if normalisation == "imagenet":
            self._normalise(IMAGENET_MEAN, IMAGENET_STD)
        elif not isinstance(normalisation, str):
            self._normalise(*normalisation)
        elif normalisation != "fit":
            raise ValueError(f"normalisation {normalisation!r}, expected 'imagenet', 'fit' or (means, deviations)")

    def fit(self, samples: Iterable[Sample]) -> None:
        """The training split's mean and standard deviation where asked for; constants stay.

        Raises:
            UserError: pictures that `full_scale` would turn nearly black.
        """
        samples = iter(samples)
        first = list(islice(samples, LOOKED_AT))
        brightest = max((float(np.max(sample.signal)) for sample in first), default=self.full_scale)
        if brightest <= 1 < self.full_scale:
            raise UserError(
                f"no value above 1 in {len(first)} pictures", place=first[0].place, value=brightest,
                expected=f"values up to full_scale = {self.full_scale:g}",
                mend="Set the adapter's `full_scale: 1` where pictures are stored as fractions.",
            )  # fmt: skip
        if self.normalisation == "fit":
            super().fit(sample for part in (first, samples) for sample in part)

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """Resize and centre crop: (channel, height, width), in the stored unit."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        x = self._picture(sample)
        if tuple(x.shape[1:]) == self.size and self.crop_ratio == 1:
            return x.numpy(), None
        cover = [round(side / self.crop_ratio) for side in self.size]
        factor = max(to / n for to, n in zip(cover, x.shape[1:], strict=True))
        shape = [max(to, round(n * factor)) for to, n in zip(cover, x.shape[1:], strict=True)]
        x = F.resize(x, shape, InterpolationMode.BICUBIC, antialias=True)
        return self._in_range(F.center_crop(x, list(self.size))), None

    def training_sample(self, sample: Sample, rng: Generator) -> tuple[Array, Valid | None]:
        """Random resized crop and flip, both from `rng` alone."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        if self.scale is None:
            signal, _ = self.prepare(sample)
        else:
            x = self._picture(sample)
            crop = random_crop(rng, x.shape[1], x.shape[2], self.scale)
            signal = self._in_range(
                F.resized_crop(x, *crop, list(self.size), InterpolationMode.BICUBIC, antialias=True)
            )
        if self.flip and rng.random() < 0.5:
            signal = signal[:, :, ::-1]
        return np.ascontiguousarray(signal), None

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """The picture itself: colours for three channels, else the first in gray; NaN is half-bright."""
        picture = x.transpose(1, 2, 0) if len(x) == 3 else x[0]
        shown = np.where(np.isnan(picture), 0.5, np.clip(picture, 0, 1))
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{title} ({self.info.channels[0]})".strip() if len(x) not in (1, 3) else title)

    @classmethod
    def simulate(cls, folder: Path, *, seed: int = 0, **size: Any) -> Path:
        """Shapes on textured ground; see `maekit.adapters.shapes`."""
        from maekit.adapters.shapes import simulate_shapes

        return simulate_shapes(folder, seed=seed, **size)

    def _normalise(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        channels = len(self.info.channels)
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise ValueError(
                f"normalisation has {len(mean)} means and {len(std)} deviations, these pictures have {channels} "
                "channels: one positive deviation and one mean for each, or 'fit'"
            )
        self.front.mean.copy_(torch.tensor(mean))
        self.front.std.copy_(torch.tensor(std))

    def _picture(self, sample: Sample) -> Tensor:
        """The stored picture, once it is sure that it is one.

        Raises:
            UserError: pixels that were not measured, or values outside of 0 to `full_scale`.
        """
        x = np.ascontiguousarray(sample.signal)
        if sample.valid is not None and not sample.valid.all():
            raise UserError(
                "a picture with missing pixels", place=sample.place, value=f"{int((~sample.valid).sum())} missing",
                expected="whole pictures, for resizing would smear what is missing over its neighbours",
                mend="Leave such pictures out with `missing_budget: 0` in the data spec.",
            )  # fmt: skip
        if x.dtype != np.uint8 or self.full_scale < 255:
            x = x.astype(np.float32)
            low, high = float(x.min()), float(x.max())
            if low < 0 or high > self.full_scale:
                raise UserError(
                    "values that are no intensities", place=sample.place, value=(low, high),
                    expected=f"0 to full_scale = {self.full_scale:g}",
                    mend="Set the adapter's `full_scale` to the stored value of full intensity.",
                )  # fmt: skip
        return torch.from_numpy(x)

    def _in_range(self, x: Tensor) -> Array:
        """Without the overshoot of bicubic interpolation (bytes are clipped by torchvision)."""
        return (x.clamp(0, self.full_scale) if x.is_floating_point() else x).numpy()


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
