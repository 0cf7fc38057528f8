"""Pictures of which something is not read: further frames, an orientation, most of 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from maekit.data.check.problems import Problem, abbreviate

if TYPE_CHECKING:
    from maekit.data.images.picture import Header

DEEP_MODES = ("I", "I;16", "I;16B")
"""Pillow's modes of gray values of 16 bits."""
_DARK = 64
"""Brightest byte of all pictures of 16 bits up to which they use at most 14 of them, such as those of a camera of 12 bits."""


def header_problems(headers: Mapping[str, Header], deep_peak: int) -> Iterator[Problem]:
    """Problems that show in the headers of pictures.

    Args:
        headers: by name of the file.
        deep_peak: largest byte that a picture of 16 bits became; 255 where there is none.
    """
    if frames := [name for name, header in headers.items() if header.frames > 1]:
        yield Problem(
            "warning",
            "pictures of several frames or pages, of which the first is read",
            abbreviate(frames),
            f"{len(frames)} of {len(headers)} examined",
            "If the others count, write each to a file of its own: `magick IN OUT-%d.png`.",
        )
    if turned := [name for name, header in headers.items() if header.orientation > 1]:
        yield Problem(
            "warning",
            "pictures with an EXIF orientation, which is not applied",
            abbreviate(turned),
            f"{len(turned)} of {len(headers)} examined",
            "`magick mogrify -auto-orient FILES` turns them.",
        )
    if deep_peak < _DARK:
        yield Problem(
            "warning",
            "pictures of 16 bits that use few of them, and become dark",
            "",
            f"at most {deep_peak} of 255",
            "A camera of 10 to 14 bits? Scale them to 16 bits.",
        )
