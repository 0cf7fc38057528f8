"""WAV files of any bit depth, on one scale."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maekit.data.convert.content import FileContent
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE = 32768.0
"""Full scale of integer samples of any depth, in steps of 16-bit files, which are stored as they are."""

_UNKNOWN_SIZE = 0xFFFFFFFF
"""What a recorder states that writes into a pipe and cannot know the size."""


def read_wav(content: bytes, location: str) -> FileContent:
    """Samples (time,) or (time, channel), and their rate.

    Integers have one full scale whatever their depth, `FULL_SCALE`: 16-bit samples stay as they are, 8-bit ones, which
    are stored with an offset of 128, and those of 24 and 32 bits become float32. Floats stay as they are; their full
    scale is 1 by convention.

    Raises:
        UserError: the file is cut off.
    """
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about chunks other than the samples
        rate, samples = wavfile.read(io.BytesIO(content))
    _check_complete(content, location)
    return FileContent(
        location,
        {"data": _on_one_scale(samples)},
        rate_hz=float(rate),
        full_scale=1.0 if samples.dtype.kind == "f" else FULL_SCALE,
    )


def _on_one_scale(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) * np.float32(FULL_SCALE / 128)
    if samples.dtype.kind == "i" and samples.dtype.itemsize > 2:  # SciPy shifts 24 bits to the top of an int32
        return (samples / (2.0 ** (8 * samples.dtype.itemsize - 1) / FULL_SCALE)).astype(np.float32)
    return samples


def _check_complete(content: bytes, location: str) -> None:
    """Refuse a file that was cut off, of which SciPy returns what there is without an error."""
    order: Literal["big", "little"] = "big" if content[:4] == b"RIFX" else "little"
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == b"data":
            if size != _UNKNOWN_SIZE and at + 8 + size > len(content):
                raise UserError(
                    "cut off",
                    location=location,
                    value=f"{len(content)} bytes",
                    expected=f"{at + 8 + size} bytes",
                    hint="Copy it again.",
                )
            return
        at += 8 + size + size % 2
