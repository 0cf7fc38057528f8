"""Pictures, through torchvision's transforms."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, ChannelStatistics, Front
from maekit.adapters.image.intensity import Intensity
from maekit.adapters.simulate.shapes import simulate_shapes
from maekit.core.patchify import GridPatchifier
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]
Normalisation = Literal["imagenet", "fit"] | tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R 601), as in Pillow's conversion to gray."""
CHECKED_PICTURES = 16
"""Training pictures whose values are compared with `full_scale` before training."""


class ImageFront(Front):
    """From stored values to standardised intensities."""

    def __init__(self, patchifier: Patchifier, *, full_scale: float) -> None:
        super().__init__(patchifier)
        self.full_scale = full_scale

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, height, width) as floats in [0, 1]."""
        return signal.float() / self.full_scale, valid


class ImageAdapter(Adapter):
    """Pictures of any size and number of channels.

    A picture is resized (bicubic, antialiased) so that it covers size / `crop_ratio`, and its centre cut out. Random crops, flips
    and changes of colour are augmentations; Mixup and CutMix belong to the task.

    Args:
        info: of the source.
        size: side (or height, width) of a sample.
        patch: side of a patch.
        crop_ratio: 0.875 as is usual for ImageNet, 1.0 for pictures that come in their final size.
        channels: 1 turns colours into luma (ITU-R 601), 3 repeats gray; by default those of the data.
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
        crop_ratio: float = 0.875,
        channels: Literal[1, 3] | None = None,
        normalisation: Normalisation = "imagenet",
        full_scale: float = 255.0,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        info = _with_channels(info, channels)
        if len(info.axes) != 2:
            raise ValueError(f"a picture has height and width, but the data spec gives {[a.name for a in info.axes]}")
        if info.complex:
            raise ValueError("pictures are real, but the data spec gives complex values")
        if not 0 < crop_ratio <= 1:
            raise ValueError(f"crop_ratio {crop_ratio}, expected 0 < crop_ratio <= 1")
        if not full_scale > 0:
            raise ValueError(f"full_scale {full_scale}, expected a positive stored value")
        patchifier = GridPatchifier((len(info.channels), height, width), (patch, patch), ("height", "width"))
        super().__init__(info, patchifier)
        self.size, self.crop_ratio, self.amplitude = (height, width), crop_ratio, Intensity(full_scale)
        self.full_scale, self.normalisation, self.unit = full_scale, normalisation, "intensity in [0, 1]"
        self.constants: ChannelStatistics | None = None
        if normalisation == "imagenet":
            self.constants = self._stated(IMAGENET_MEAN, IMAGENET_STD)
        elif not isinstance(normalisation, str):
            self.constants = self._stated(*normalisation)
        elif normalisation != "fit":
            raise ValueError(f"normalisation {normalisation!r}, expected 'imagenet', 'fit' or (means, deviations)")

    def make_front(self) -> ImageFront:
        """Intensities in [0, 1], standardised."""
        return ImageFront(self.patchifier, full_scale=self.full_scale)

    def fit(self, samples: Iterable[Sample]) -> ChannelStatistics:
        """The stated constants, or the mean and standard deviation of the training split.

        Raises:
            UserError: pictures that `full_scale` would turn nearly black.
        """
        samples = iter(samples)
        first = list(islice(samples, CHECKED_PICTURES))
        brightest = max((float(np.max(sample.signal)) for sample in first), default=self.full_scale)
        if brightest <= 1 < self.full_scale:
            raise UserError(
                f"no value above 1 in {len(first)} pictures",
                location=first[0].location,
                value=brightest,
                expected=f"values up to full_scale = {self.full_scale:g}",
                hint="Set the adapter's `full_scale: 1` where pictures are stored as fractions.",
            )
        return self.constants or super().fit(chain(first, samples))

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """Resize and centre crop: (channel, height, width), in the stored unit."""
        from torchvision.transforms.v2 import functional

        return self.in_range(functional.center_crop(self.resized(self.picture(sample)), list(self.size))), None

    def resized(self, x: Tensor) -> Tensor:
        """(channel, height, width) resized so that it covers size / `crop_ratio`."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        if tuple(x.shape[1:]) == self.size and self.crop_ratio == 1:
            return x
        cover = [int(side / self.crop_ratio) for side in self.size]  # rounded down, as in the published evaluation
        to, side = max(zip(cover, x.shape[1:], strict=True), key=lambda pair: pair[0] / pair[1])
        shape = [max(least, to * n // side) for least, n in zip(cover, x.shape[1:], strict=True)]
        return functional.resize(x, shape, InterpolationMode.BICUBIC, antialias=True)

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw the picture: in colour with three channels, otherwise the first channel in gray; NaN is half-bright."""
        picture = x.transpose(1, 2, 0) if len(x) == 3 else x[0]
        shown = np.where(np.isnan(picture), 0.5, np.clip(picture, 0, 1))
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{title} ({self.info.channels[0]})".strip() if len(x) not in (1, 3) else title)

    simulate = staticmethod(simulate_shapes)

    def _stated(self, mean: tuple[float, ...], std: tuple[float, ...]) -> ChannelStatistics:
        channels = len(self.info.channels)
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise ValueError(
                f"normalisation has {len(mean)} means and {len(std)} deviations, these pictures have {channels} "
                "channels: one positive deviation and one mean for each, or 'fit'"
            )
        return ChannelStatistics(tuple(mean), tuple(std))

    def picture(self, sample: Sample) -> Tensor:
        """The stored picture, checked, in the adapter's channels.

        Raises:
            UserError: missing pixels, or values outside of 0 to `full_scale`.
        """
        x = np.asarray(sample.signal)
        if x.dtype != np.uint8 or min(x.strides) < 0:  # bytes stay in rows of pixels: resizing is twice as fast on them
            x = np.ascontiguousarray(x)
        if sample.valid is not None and not sample.valid.all():
            raise UserError(
                "a picture with missing pixels",
                location=sample.location,
                value=f"{int((~sample.valid).sum())} missing",
                expected="whole pictures, for resizing would smear what is missing over its neighbours",
                hint="Leave such pictures out with `missing_budget: 0` in the data spec.",
            )
        if x.dtype != np.uint8 or self.full_scale < 255:
            x = x.astype(np.float32)
            low, high = float(x.min()), float(x.max())
            if low < 0 or high > self.full_scale:
                raise UserError(
                    "values that are no intensities",
                    location=sample.location,
                    value=(low, high),
                    expected=f"0 to full_scale = {self.full_scale:g}",
                    hint="Set the adapter's `full_scale` to the stored value of full intensity.",
                )
        return self._convert_channels(torch.from_numpy(x))

    def _convert_channels(self, x: Tensor) -> Tensor:
        """To the channels of the adapter: colours to luma, or gray repeated."""
        channels = len(self.info.channels)
        if len(x) == channels:
            return x
        if channels == 3:
            return x.expand(3, -1, -1)
        luma = torch.tensordot(torch.tensor(LUMA), x.float(), 1)[None]  # torchvision's sums to 0.9999 and truncates
        return luma if x.is_floating_point() else luma.round().to(x.dtype)

    def in_range(self, x: Tensor) -> Array:
        """Clip the overshoot of bicubic interpolation (torchvision clips bytes itself)."""
        return (x.clamp(0, self.full_scale) if x.is_floating_point() else x).numpy()


def _with_channels(info: SignalInfo, channels: Literal[1, 3] | None) -> SignalInfo:
    """Metadata of the pictures once they are converted to this number of channels.

    Raises:
        ValueError: the data are neither gray nor RGB.
    """
    if channels is None or channels == len(info.channels):
        return info
    if len(info.channels) not in (1, 3):
        raise ValueError(f"channels {channels}, but only gray and RGB are converted; the data have {info.channels}")
    return replace(info, channels=("gray",) if channels == 1 else ("red", "green", "blue"))
