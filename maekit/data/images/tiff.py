"""What the header of a TIFF states: size, bands, and type of the numbers."""

from __future__ import annotations

import struct
from itertools import product

_WIDTH, _HEIGHT, _BITS, _BANDS, _FORMAT = 256, 257, 258, 277, 339
_KINDS = {1: "uint", 2: "int", 3: "float"}
_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def tiff_layout(content: bytes) -> str:
    """Describe a TIFF, such as `uint16, 8 bands, 40 x 40`; an empty text for another file, or a damaged header.

    Source: TIFF 6.0 (Adobe, 1992), sections 2 and 8; BigTIFF has wider numbers.
    """
    headers = {f"{name}{version}".encode("latin-1"): None for name, version in product(("II", "MM"), "*+")}
    order = "<" if content[:2] == b"II" else ">"
    if content[:2] + content[2:4].strip(b"\0") not in headers:
        return ""
    try:
        tags = _first_directory(content, order, big=b"+" in content[2:4])
    except (struct.error, KeyError, IndexError):
        return ""
    if _WIDTH not in tags or _HEIGHT not in tags:
        return ""
    bits, kind, bands = tags.get(_BITS, 1), _KINDS.get(tags.get(_FORMAT, 1), "number of "), tags.get(_BANDS, 1)
    return f"{kind}{bits}, {bands} band{'s' if bands > 1 else ''}, {tags[_HEIGHT]} x {tags[_WIDTH]}"


def _first_directory(content: bytes, order: str, *, big: bool) -> dict[int, int]:
    """The first value of each whole-number tag of the first page."""
    at = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), content, at)[0]
    at += 8 if big else 2
    tags = {}
    for entry in range(at, at + min(count, 4096) * (20 if big else 12), 20 if big else 12):
        tag, form = struct.unpack_from(order + "HH", content, entry)
        number = struct.unpack_from(order + ("Q" if big else "I"), content, entry + 4)[0]
        if form not in _SIZES:
            continue
        value = entry + (12 if big else 8)
        if struct.calcsize(order + _SIZES[form]) * number > (8 if big else 4):  # stored elsewhere
            value = struct.unpack_from(order + ("Q" if big else "I"), content, value)[0]
        tags[tag] = struct.unpack_from(order + _SIZES[form], content, value)[0]
    return tags
