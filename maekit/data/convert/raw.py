"""Files of bare numbers, real or complex, and SigMF recordings, whose metadata stand in a JSON file beside them.

Types are named as in SigMF (https://sigmf.org): `c` or `r`, then `f32`, `f64`, `i32`, `i16`, `u32`, `u16`, `i8` or `u8`, then the byte
order `_le` or `_be`.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.data.convert.content import FileContent
from maekit.data.convert.file_array import FileArray
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RAW_TYPE = re.compile(r"(?P<kind>[cr]?)(?P<letter>f|i|u)(?P<bits>8|16|32|64)(?:_(?P<order>le|be))?")
SIGMF_DATA, SIGMF_META = ".sigmf-data", ".sigmf-meta"
TYPE_OF_SUFFIX = {
    ".cfile": "cf32",
    ".cf32": "cf32",
    ".fc32": "cf32",
    ".cf64": "cf64",
    ".cs8": "ci8",
    ".cs16": "ci16",
    ".cu8": "cu8",
}
"""Endings that name a type: those of GNU Radio, inspectrum and the tools of common receivers."""


class RawType(NamedTuple):
    """How numbers are stored.

    Attributes:
        dtype: of one number.
        is_complex: whether two numbers, I and Q, make one sample.
    """

    dtype: np.dtype[Any]
    is_complex: bool

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return self.dtype.itemsize * (2 if self.is_complex else 1)


class Metadata(NamedTuple):
    """What a SigMF file states on the samples beside it."""

    type_name: str
    rate_hz: float | None
    channels: int


def raw_type(name: str) -> RawType | None:
    """The type that a name stands for (`int16` is `ri16_le`); None for any other name. The byte order is little by default."""
    if name == "int16":
        return RawType(np.dtype("<i2"), False)
    match = RAW_TYPE.fullmatch(name)
    if match is None or (match["letter"], match["bits"]) in (("f", "8"), ("f", "16"), ("i", "64"), ("u", "64")):
        return None
    order = ">" if match["order"] == "be" else "<"
    return RawType(np.dtype(f"{order}{match['letter']}{int(match['bits']) // 8}"), match["kind"] == "c")


def read_raw(path: Path, kind: str | None) -> FileContent:
    """The samples of a file of numbers, of which only what is used is read.

    Args:
        path: the file; its SigMF metadata are read where they stand beside it.
        kind: the type; by default that of the metadata, or of the file's ending.

    Raises:
        UserError: an empty file, no whole number of samples, or metadata that are damaged or say otherwise.
    """
    metadata = read_metadata(path.with_suffix(SIGMF_META)) if path.suffix == SIGMF_DATA else None
    name = kind or (metadata.type_name if metadata else TYPE_OF_SUFFIX[path.suffix.lower()])
    if metadata is not None and raw_type(name) != raw_type(metadata.type_name):
        raise UserError(
            "a type other than the one that the recording's metadata state",
            location=str(path),
            value=name,
            expected=f"{metadata.type_name}, as in {path.with_suffix(SIGMF_META).name}",
            hint="Leave `format` out: it is read from there.",
        )
    channels = metadata.channels if metadata else 1
    stored, shape = _layout(path.stat().st_size, str(path), name, channels)
    values = FileArray(path, stored.dtype, shape, decode=partial(_decode, stored=stored, channels=channels))
    return FileContent(str(path), {"data": values}, rate_hz=metadata.rate_hz if metadata else None)


def decode_raw(content: NDArray[np.uint8], location: str, name: str) -> FileContent:
    """The samples in the bytes of a file, (sample,).

    Raises:
        UserError: see `read_raw`.
    """
    stored, shape = _layout(len(content), location, name, 1)
    return FileContent(location, {"data": _decode(content.view(stored.dtype).reshape(shape), stored, 1)})


def _layout(size: int, location: str, name: str, channels: int) -> tuple[RawType, tuple[int, ...]]:
    """The type of the numbers in as many bytes, and their shape (sample, number of a sample).

    Raises:
        UserError: no samples, or no whole number of them.
    """
    stored = raw_type(name)
    assert stored is not None, f"the caller checks the name, got {name}"
    row = stored.sample_bytes * channels
    if not size or size % row:
        raise UserError(
            f"no whole number of samples of type {name}",
            location=location,
            value=f"{size} bytes",
            expected=f"a multiple of {row}",
            hint=f"Is it of another type? If it is cut off: `head -c {size // row * row} FILE` gives its whole samples."
            if size >= row
            else "",
        )
    return stored, (size // row, row // stored.dtype.itemsize)


def _decode(numbers: NDArray[Any], stored: RawType, channels: int) -> NDArray[Any]:
    """(sample, number of a sample) to (sample,) or (sample, channel).

    Complex numbers of integers become complex64 of the same counts. Unsigned integers lie around the middle of their range,
    as receivers that write them mean it (127.5 for `cu8`); their middle is subtracted from complex ones.
    """
    values = _join(numbers.reshape(-1, 2), stored.dtype) if stored.is_complex else numbers
    return values.reshape(-1, channels) if channels > 1 else values.reshape(-1)


def _join(pairs: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f" and dtype.isnative:
        return pairs.view(np.complex64 if dtype.itemsize == 4 else np.complex128)[:, 0]
    joined: NDArray[Any] = np.empty(len(pairs), np.complex128 if dtype.itemsize == 8 else np.complex64)
    joined.real, joined.imag = pairs[:, 0], pairs[:, 1]
    if dtype.kind == "u":
        middle = (2 ** (8 * dtype.itemsize) - 1) / 2
        joined.real -= middle
        joined.imag -= middle
    return joined


def read_metadata(path: Path) -> Metadata:
    """Read what a SigMF metadata file states.

    Raises:
        UserError: there is none, it is damaged, or it describes what is not read: bytes between the samples, pauses, or a change
            of the centre frequency.
    """
    location = str(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        general, captures = document["global"], document.get("captures", [])
        type_name, rate, channels = (
            general["core:datatype"],
            general.get("core:sample_rate"),
            int(general.get("core:num_channels", 1)),
        )
        rate_hz = None if rate is None else float(rate)
        states = [
            (int(part.get("core:header_bytes", 0)), part.get("core:frequency"), _shift(part)) for part in captures
        ]
    except FileNotFoundError:
        raise UserError(
            "no metadata beside the samples",
            location=location,
            expected="a file with their type and rate",
            hint="Copy it there, or rename the samples and state `format` and `rate_hz`.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"not the metadata of a SigMF recording ({type(error).__name__}: {error})", location=location
        ) from error
    if raw_type(str(type_name)) is None or channels < 1 or (rate_hz is not None and not 0 < rate_hz < np.inf):
        raise UserError(
            "no type, rate or number of channels that is read",
            location=location,
            value=f"core:datatype {type_name}, core:sample_rate {rate}, core:num_channels {channels}",
            expected="a type such as cf32_le or ci16_le",
        )
    if general.get("core:dataset") or general.get("core:trailing_bytes") or any(header for header, _, _ in states):
        raise UserError(
            "a SigMF recording with bytes that are no samples (a non-conforming data set)",
            location=location,
            hint="Write its samples alone to a file, and state `format` and `rate_hz`.",
        )
    if len({frequency for _, frequency, _ in states}) > 1 or len({shift for _, _, shift in states}) > 1:
        raise UserError(
            "a SigMF recording with pauses or of several centre frequencies",
            location=location,
            value=f"{len(states)} captures",
            expected="one capture, or captures that follow each other without a pause",
            hint="Write each capture to a file of its own.",
        )
    return Metadata(str(type_name), rate_hz, channels)


def _shift(capture: dict[str, Any]) -> int:
    """Samples that the recorder counted before the file's first one, according to one of its captures."""
    start = int(capture.get("core:sample_start", 0))
    return int(capture.get("core:global_index", start)) - start
