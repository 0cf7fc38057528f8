"""A digest of a recording's values, by which the same recording is recognised in another file or under another name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import h5py

_BYTES = 1 << 18


def recording_digest(dataset: h5py.Dataset) -> str:
    """Digest of the shape and the first values of a signal, at most 256 KiB of them, as they are stored."""
    rows = dataset.shape[0] if dataset.ndim else 0
    row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
    start = np.ascontiguousarray(dataset[: min(rows, max(1, _BYTES // row_bytes))])
    digest = hashlib.sha256(f"{dataset.shape} {dataset.dtype.str}".encode())
    digest.update(start.tobytes())
    return digest.hexdigest()[:16]
