"""RandAugment (Cubuk et al., 2020), as timm implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapter import SignalAugmentation
from maekit.adapters.augment.color_jitter import rgb_bytes
from maekit.adapters.augment.seeding import seeded
from maekit.adapters.image.image import IMAGENET_MEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray
    from PIL import Image

    from maekit.adapter import Adapter


class RandAugment(SignalAugmentation):
    """A few random operations of shape and colour on each picture.

    Args:
        adapter: `image`, of pictures with three bytes a pixel.
        config: timm's configuration, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ValueError: other pictures, or no configuration that timm knows.
    """

    def __init__(self, adapter: Adapter, *, config: str = "rand-m9-mstd0.5-inc1") -> None:
        height, width = rgb_bytes(adapter).size
        self.transform = rand_augment(config, IMAGENET_MEAN, (height, width))

    def __call__(
        self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The picture after the random operations."""
        import torch
        from torchvision.transforms.v2 import functional

        with seeded(rng):
            picture = self.transform(functional.to_pil_image(torch.from_numpy(signal)))
        return functional.pil_to_tensor(picture).numpy(), valid


def rand_augment(config: str, mean: Sequence[float], size: tuple[int, int]) -> Callable[[Image.Image], Image.Image]:
    """Build RandAugment as timm does for training.

    Args:
        config: such as `rand-m9-mstd0.5-inc1`.
        mean: of the channels in [0, 1]; it fills what a shifted picture leaves empty.
        size: (height, width) of a sample; shifts go up to 0.45 of its shorter side.

    Raises:
        ValueError: no configuration that timm knows.
    """
    import PIL.Image
    from timm.data.auto_augment import rand_augment_transform

    fill = tuple(min(255, round(255 * value)) for value in mean)
    hparams: dict[str, Any] = {
        "translate_const": int(min(size) * 0.45),
        "img_mean": fill,
        "interpolation": PIL.Image.Resampling.BICUBIC,
    }
    if not config.startswith("rand"):
        raise ValueError(f"config {config!r}, expected a configuration of timm such as 'rand-m9-mstd0.5-inc1'")
    try:
        augment = rand_augment_transform(config, hparams)
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"config {config!r} ({error}), expected a configuration of timm such as 'rand-m9-mstd0.5-inc1'"
        ) from error
    for op in augment.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep at least one bit: at its strongest timm asks for none, which newer versions of Pillow refuse."""
    from PIL import ImageOps

    return image if bits >= 8 else ImageOps.posterize(image, max(bits, 1))
