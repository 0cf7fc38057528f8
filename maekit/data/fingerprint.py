"""Whether two runs saw the same data: a hash of names, sizes and sampled content, the same for every copy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WHOLE = 2**20
_PIECE = 2**16
_PIECES = 16
_OPENED = 1000


def fingerprint(root: Path, files: Sequence[Path], meaning: str) -> str:
    """SHA-256 over the spec's meaning, all names and sizes, and content: files up to 1 MiB whole, larger ones in
    16 pieces of 64 KiB from the first byte to the last, and of very many files 1000 spread evenly.

    Neither the folder's place nor a file's date enters. A change between two pieces of a large file of the same
    size goes unseen: that is the price of answering in a second for gigabytes.

    Args:
        root: what names are relative to.
        files: files below it, in any order.
        meaning: the part of the spec that decides what a sample is, as text.
    """
    digest = hashlib.sha256(meaning.encode())
    by_name = {file.relative_to(root).as_posix(): file for file in files}
    names = sorted(by_name)
    count = len(names)
    opened = {names[i * (count - 1) // max(_OPENED - 1, 1)] for i in range(_OPENED)} if count > _OPENED else set(names)
    for name in names:
        size = by_name[name].stat().st_size
        digest.update(f"\0{name}\0{size}\0".encode())
        if name in opened:
            with by_name[name].open("rb") as stream:
                if size <= _WHOLE:
                    digest.update(stream.read())
                else:
                    for i in range(_PIECES):
                        stream.seek(i * (size - _PIECE) // (_PIECES - 1))
                        digest.update(stream.read(_PIECE))
    return digest.hexdigest()
