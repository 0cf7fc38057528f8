"""One encoded picture to an array of bytes, and scaling it down."""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from maekit.data.images.tiff import tiff_layout
from maekit.data.sample import Axis, SignalInfo
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Channels = Literal[1, 3]
MAX_PIXELS = 89_478_485
"""Where Pillow begins to warn: a quarter of a gibibyte of RGB. It is an error here, which makes the warning redundant."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # it logs what it then raises


AS_ARRAYS = (
    "To keep its numbers, write each picture as an array (`numpy.save` of what `tifffile.imread` reads, axes height, width, band), and "
    "convert the arrays with a data spec that has a stream with a group `frame` in `convert.record`."
)
"""The way on for pictures of measured values, which are signals."""


_ORIENTATION = 0x0112
"""EXIF's tag."""


class Header(NamedTuple):
    """What the header of an encoded picture states.

    Attributes:
        mode: Pillow's, such as `RGB`, `L` or `I;16`.
        height: in pixels.
        width: in pixels.
        frames: pictures in the file: of an animation, or pages.
        orientation: of EXIF; 1 is upright.
    """

    mode: str
    height: int
    width: int
    frames: int = 1
    orientation: int = 1


def picture_info(channels: Channels = 3) -> SignalInfo:
    """Metadata of pictures in folders. Their sizes vary, so the axes have length 0."""
    names = ("gray",) if channels == 1 else ("red", "green", "blue")
    return SignalInfo(names, (Axis("height", 0, "px"), Axis("width", 0, "px")))


def read_picture(path: Path, channels: Channels = 3) -> NDArray[np.uint8]:
    """Decode one file to uint8 (channels, height, width); see `decode_picture`.

    Raises:
        UnreadableError: the file is missing, not a picture, damaged, or too large.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", location=str(path)) from error
    return decode_picture(content, str(path), channels)


def decode_picture(content: bytes, location: str, channels: Channels = 3) -> NDArray[np.uint8]:
    """Decode a picture to uint8 (channels, height, width), a view of pixels in rows, on which resizing is fastest.

    Conversions are those of Pillow's `convert`, like in the pipelines that published numbers come from. To three
    channels: gray is repeated, palettes are looked up, CMYK is converted without a colour profile, and transparency is
    dropped (the colour under it shows). To one channel: colours become luma (ITU-R 601), and gray stays as it is. Gray
    of 16 bits is scaled by 1/257. The EXIF orientation is not applied, and of several frames the first is taken.

    Args:
        content: bytes of the file.
        location: shown in error messages.
        channels: 3 for RGB, 1 for gray.

    Raises:
        UnreadableError: not a picture, damaged, floats or more than 16 bits, or more than 89 megapixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _too_large(location, f"{picture.width} x {picture.height}")
            if picture.mode.startswith("I"):
                return np.repeat(_from_16_bits(np.asarray(picture), location)[None], channels, axis=0)
            if picture.mode == "F":
                raise UnreadableError(
                    "a picture of floats, whose range nothing states",
                    location=location,
                    value=f"float32, 1 band, {picture.height} x {picture.width}",
                    expected="8 or 16 bits",
                    hint=f"Save it as 8 or 16 bits. {AS_ARRAYS}",
                )
            # Straight from a palette to RGB, Pillow warns about some palettes with transparency.
            opaque = picture.convert("RGBA") if picture.mode == "P" else picture
            if channels == 1:
                return np.array(opaque.convert("L"))[None]
            return np.array(opaque.convert("RGB")).transpose(2, 0, 1)
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(location, "its header") from error
    except Exception as error:  # damaged bytes make decoders raise anything from OSError to struct.error
        if layout := tiff_layout(content):
            raise UnreadableError(
                "a TIFF that is no picture of 8 or 16 bits in 1, 3 or 4 bands",
                location=location,
                value=layout,
                hint=AS_ARRAYS,
            ) from error
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not JPEG, PNG or another format that Pillow knows" if unknown else error
        raise UnreadableError(
            f"cannot be read as a picture ({reason})", location=location, hint="Remove or replace the file."
        ) from error


def decode_header(content: bytes) -> Header | None:
    """Mode and size that an encoded picture states, without decoding it; None for one whose header cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            upright, frames = picture.getexif().get(_ORIENTATION, 1), getattr(picture, "n_frames", 1)
            return Header(picture.mode, picture.height, picture.width, int(frames), int(upright))
    except Exception:  # `decode_picture` reports what is wrong
        return None


def decode_pixels(content: bytes, location: str) -> NDArray[np.uint8]:
    """Decode to RGB uint8 (height, width, channel), the layout of pictures among the signals of a recording."""
    return np.ascontiguousarray(decode_picture(content, location).transpose(1, 2, 0))


def resize_shorter_side(picture: NDArray[np.uint8], shorter: int) -> NDArray[np.uint8]:
    """Scale (channels, height, width) down to a shorter side of `shorter` pixels (bicubic, antialiased), never up."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    shape = resized_shape(picture.shape[1:], shorter)
    if shape == picture.shape[1:]:
        return picture
    small: NDArray[np.uint8] = F.resize(
        torch.from_numpy(picture), shape, InterpolationMode.BICUBIC, antialias=True
    ).numpy()
    return small


def resized_shape(shape: Sequence[int], shorter: int) -> tuple[int, ...]:
    """(height, width) after `resize_shorter_side`; the longer side is rounded down, as torchvision does it."""
    shortest = min(shape)
    return tuple(shape) if shortest <= shorter else tuple(shorter * n // shortest for n in shape)


def _too_large(location: str, value: str) -> UnreadableError:
    return UnreadableError(
        "a picture too large to decode safely",
        location=location,
        value=value,
        expected=f"at most {MAX_PIXELS // 10**6} megapixels",
        hint="Scale it down or remove it.",
    )


def _from_16_bits(gray: NDArray[np.generic], location: str) -> NDArray[np.uint8]:
    """Gray values of 0 to 65535 scaled to bytes."""
    values = gray.astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError(
            "gray values of more than 16 bits",
            location=location,
            value=(values.min(), values.max()),
            expected="0 to 65535",
            hint="Save it as 8 or 16 bits.",
        )
    return (values / 257).round().astype(np.uint8)
