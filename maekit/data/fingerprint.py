"""Whether two runs saw the same data: a hash of names, sizes and sampled content, the same for every copy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_WHOLE = 2**20
_PIECE = 2**16
_PIECES = 16
_OPENED = 1000


def fingerprint(root: Path, files: Sequence[Path], meaning: str) -> str:
    """SHA-256 over the spec's meaning, all names and sizes, and samples of the content.

    Files up to 1 MiB are read whole, larger ones in 16 pieces of 64 KiB from the first byte to the last, and of very many files 1000 that are
    spread evenly. Neither the folder's place nor a file's date enters. A change between two pieces of a large file of the same
    size goes unseen: that is the price of answering in a second for gigabytes.

    Args:
        root: what names are relative to.
        files: files below it, in any order.
        meaning: the part of the spec that decides what a sample is, as text.
    """

    def read(i: int, start: int, length: int) -> bytes:
        with files[i].open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    names = [file.relative_to(root).as_posix() for file in files]
    return fingerprint_of(names, lambda i: files[i].stat().st_size, read, meaning)


def fingerprint_of(
    names: Sequence[str], size: Callable[[int], int], read: Callable[[int, int, int], bytes], meaning: str
) -> str:
    """The same for files that may stand anywhere, as inside a pack.

    Args:
        names: one for each file, in any order.
        size: bytes of file i.
        read: bytes of file i from a start, so many.
        meaning: as above.
    """
    digest = hashlib.sha256(meaning.encode())
    order = sorted(range(len(names)), key=names.__getitem__)
    count = len(order)
    opened = {i * (count - 1) // max(_OPENED - 1, 1) for i in range(_OPENED)} if count > _OPENED else set(range(count))
    for location, i in enumerate(order):
        length = size(i)
        digest.update(f"\0{names[i]}\0{length}\0".encode(errors="surrogateescape"))
        if location in opened:
            if length <= _WHOLE:
                digest.update(read(i, 0, length))
            else:
                for piece in range(_PIECES):
                    digest.update(read(i, piece * (length - _PIECE) // (_PIECES - 1), _PIECE))
    return digest.hexdigest()
