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

_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000)
"""What recorders state that write into a pipe and cannot know the size (0x7FFFF000: SoX)."""
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_AMBISONIC_TAIL = bytes.fromhex("00002107d3118644c8c1ca000000")
"""What follows the two bytes of a type in WAVE_FORMAT_EXTENSIBLE, and in its ambisonic B-format, whose samples are stored alike."""


def read_wav(content: bytes, location: str) -> FileContent:
    """Samples (time,) or (time, channel), and their rate.

    Integers have one full scale whatever their depth, `FULL_SCALE`: 16-bit samples stay as they are, 8-bit ones, which
    are stored with an offset of 128, and those of 24 and 32 bits become float32. Floats stay as they are; their full
    scale is 1 by convention.

    Raises:
        UserError: the file is cut off, or coded otherwise.
    """
    from scipy.io import wavfile

    content = _plain_header(content, location)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about chunks other than the samples
        rate, samples = wavfile.read(io.BytesIO(content))
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


def _plain_header(content: bytes, location: str) -> bytes:
    """A file whose header states the size of its samples, and a type that SciPy knows.

    Raises:
        UserError: a file that was cut off, of which SciPy returns what there is without an error, or one of coded samples.
    """
    order: Literal["big", "little"] = "big" if content[:4] == b"RIFX" else "little"
    at = 12
    while at + 8 <= len(content):
        size, start = int.from_bytes(content[at + 4 : at + 8], order), at + 8
        if content[at : at + 4] == b"fmt ":
            kind = int.from_bytes(content[start : start + 2], order)
            if kind == _EXTENSIBLE and content[start + 26 : start + 40] in (_AMBISONIC_TAIL, _GUID_TAIL):
                kind = int.from_bytes(content[start + 24 : start + 26], order)
                content = content[: start + 26] + _GUID_TAIL + content[start + 40 :]
            if kind not in _PLAIN:
                raise UserError(
                    "a WAV of coded samples",
                    location=location,
                    value=_CODED.get(kind, f"format {kind:#06x}"),
                    expected="PCM or floats",
                    hint="`ffmpeg -i FILE -c:a pcm_s16le NEW.wav` decodes it.",
                )
        if content[at : at + 4] == b"data":
            if size in _UNKNOWN_SIZES and content[:4] != b"RF64":
                return content[: at + 4] + (len(content) - start).to_bytes(4, order) + content[start:]
            if size != 0xFFFFFFFF and start + size > len(content):
                raise UserError(
                    "cut off",
                    location=location,
                    value=f"{len(content)} bytes",
                    expected=f"{start + size} bytes",
                    hint="Copy it again.",
                )
            return content
        at = start + size + size % 2
    return content


_EXTENSIBLE, _PLAIN = 0xFFFE, (1, 3)
_CODED = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x55: "MP3"}
