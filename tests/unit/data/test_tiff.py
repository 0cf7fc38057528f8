"""TIFFs that are no pictures for Pillow: what they hold is named."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from maekit.data.images.picture import decode_picture
from maekit.data.images.tiff import tiff_layout
from maekit.errors import UnreadableError


def tiff(order: str, *, bands: int, bits: int = 16, form: int = 1, height: int = 3, width: int = 5) -> bytes:
    """A header with bits for each band stored elsewhere in the file, and zeros as values."""
    data = bytes(height * width * bands * bits // 8)
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, 0), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 0), (277, 3, 1, bands), (278, 4, 1, height), (279, 4, 1, len(data)), (339, 3, 1, form)]
    after = 8 + 2 + 12 * len(entries) + 4
    places = {258: after, 273: after + 2 * bands}
    out = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        if tag == 258 and count <= 2:
            out += struct.pack(order + "HHIHH", tag, kind, count, bits, bits)
        elif kind == 3 and count == 1:
            out += struct.pack(order + "HHIHH", tag, kind, count, value, 0)
        else:
            out += struct.pack(order + "HHII", tag, kind, count, places.get(tag, value))
    return out + struct.pack(order + "I", 0) + struct.pack(order + f"{bands}H", *[bits] * bands) + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("bands", "bits", "form", "text"),
    [(8, 16, 1, "uint16, 8 bands"), (2, 32, 3, "float32, 2 bands"), (13, 16, 2, "int16, 13 bands")],
)
def test_bands_and_type_are_named_with_a_way_on(order: str, bands: int, bits: int, form: int, text: str) -> None:
    content = tiff(order, bands=bands, bits=bits, form=form)
    assert tiff_layout(content) == f"{text}, 3 x 5"
    with pytest.raises(UnreadableError, match=f"x.tif: a TIFF that is no picture.*{text}, 3 x 5.*`numpy.save`"):
        decode_picture(content, "x.tif")


def test_other_and_damaged_files_have_no_layout() -> None:
    assert [tiff_layout(content) for content in (b"", b"II", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\x89PNG")] == [
        ""
    ] * 5


def test_floats_are_named_with_the_same_way_on() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((3, 5), np.float32)).save(buffer, "TIFF")
    with pytest.raises(UnreadableError, match=r"a picture of floats.*float32, 1 band, 3 x 5.*`numpy.save`"):
        decode_picture(buffer.getvalue(), "x.tif")
