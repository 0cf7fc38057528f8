"""What reading a window costs: compressed chunks are decoded whole, however little of them a window holds."""

from __future__ import annotations

import shlex
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from maekit.errors import UserError

if TYPE_CHECKING:
    import h5py

DECODED_LIMIT = 64 << 20
"""Bytes to decode for one window, above which it is refused if most of them are not the window's."""
DECODED_NOTE = 256 << 10
"""Bytes to decode for one window, a millisecond or more, above which `data check` and a dry run say so."""
WASTE_RATIO = 16
"""Bytes decoded over bytes of the window that are tolerated."""
MAX_WINDOWS = 1 << 24
"""Windows of one recording."""


def decoded_bytes(dataset: h5py.Dataset, axis: int, rows: int) -> tuple[int, int]:
    """Bytes that reading `rows` along an axis decodes, and bytes of those rows.

    Args:
        dataset: of numbers.
        axis: along which a window lies.
        rows: length of the window.
    """
    size = dataset.dtype.itemsize
    rows = min(rows, dataset.shape[axis])
    window = size * rows * prod(length for i, length in enumerate(dataset.shape) if i != axis)
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        return window, window  # parts of chunks without filters are read by themselves
    padded = [-(-length // chunk) * chunk for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    chunk = dataset.chunks[axis]
    padded[axis] = min(-(-rows // chunk) * chunk, padded[axis])
    return size * prod(padded), window


def is_slow(decoded: int, window: int) -> bool:
    """Whether reading a window decodes so much more than the window holds that it takes many times as long."""
    return decoded > DECODED_NOTE and decoded > WASTE_RATIO * window


def pack_command(spec: str, root: str | Path) -> str:
    """The command that rewrites the files of a data spec so that windows are read as fast as the disk allows."""
    folder = Path(root).resolve()
    words = [
        "maekit",
        "data",
        "pack",
        spec,
        "--root",
        str(root),
        "--to",
        str(folder.with_name(f"{folder.name}-packed")),
    ]
    return shlex.join(words)


def check_read_cost(dataset: h5py.Dataset, axis: int, rows: int, location: str) -> tuple[int, int]:
    """Refuse windows for which far more is decoded than they hold.

    Returns:
        Bytes decoded for a window, and bytes of it.

    Raises:
        UserError: with the bytes, and the mend.
    """
    decoded, window = decoded_bytes(dataset, axis, rows)
    if decoded <= DECODED_LIMIT or decoded <= WASTE_RATIO * window:
        return decoded, window
    raise UserError(
        f"each window of {window:,} bytes decodes {decoded / 2**20:,.0f} MiB of compressed chunks",
        location=location,
        value=dataset.chunks,
        expected=f"at most {DECODED_LIMIT >> 20} MiB a window, or chunks of about one window",
        hint="Rewrite the files with `maekit data pack SPEC --root FOLDER --to NEW`, or give a longer `window`.",
    )


def check_window_count(count: int, location: str) -> None:
    """Refuse more windows of a recording than can be indexed.

    Raises:
        UserError: with the number.
    """
    if count > MAX_WINDOWS:
        raise UserError(
            f"{count:,} windows in one recording",
            location=location,
            expected=f"at most {MAX_WINDOWS:,}",
            hint="Give a longer hop (`hop_seconds`, `hop`), and check that `rate_hz` is in hertz.",
        )
