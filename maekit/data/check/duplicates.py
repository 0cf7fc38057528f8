"""The same signal under two names: sketches of content that recordings share though they are cut, stored, named or scaled differently.

The sketch of a recording is the smallest hashes of short stretches of its values ("bottom-k", Broder 1997): a copy shares them wherever it
begins or ends, in constant memory. A second sketch is of the order of values only (ordinal patterns, Bandt and Pompe 2002), which another
unit, offset or type of numbers does not change.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.check.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_STRETCH = 32
"""Rows of a signal of one axis that are hashed together; of other signals, a row is."""
_MIN_CHANGES = 16
"""Changes of value in a stretch below which it tells nothing."""
_SKETCH = 256
_MIN_SHARED = 16
"""Shared hashes below which two recordings are not the same; of shorter ones, all must be shared."""
_MIN_HASHES = 3
_MIN_SHARE = 0.5
"""Shared hashes, of those that both sketches could hold, from which on two recordings are the same."""
_MAX_HOLDERS = 64
"""Recordings with a hash beyond which it tells nothing."""
_LAGS = (1, 5)
"""Rows between values that are compared for the order of values."""
_MAX_ROWS = 1 << 22
"""Rows of a recording that are hashed."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Sketch:
    """The smallest hashes of a recording's stretches.

    Args:
        scaled: hash which of two values is larger, in place of the values.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        self._scaled = scaled
        self._before: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._smallest = np.zeros(0, dtype=np.uint64)
        self._tail: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._rows = 0

    def add(self, signal: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Take in the next rows.

        Args:
            signal: (rows, values of a row).
            valid: (rows,) whether all of a row was measured.
        """
        if self._rows >= _MAX_ROWS or not len(signal):
            return
        self._rows += len(signal)
        parts = np.ascontiguousarray(signal).view(np.float32) + np.float32(0)  # -0 becomes 0
        bits = parts.reshape(len(signal), -1).view(np.uint32)
        if self._scaled and bits.shape[1] > _STRETCH:
            values = bits.view(np.float32)
            bits = _orders(values[:, 1:], values[:, :-1])
        elif self._scaled:
            bits, valid = self._compared(bits.view(np.float32), valid)
            if not len(bits):
                return
        if bits.shape[1] > _STRETCH:
            hashes = [_digest(row) for row, good in zip(bits, valid, strict=True) if good and (row != row[0]).any()]
            self._keep(np.array(hashes, dtype=np.uint64))
            return
        factors = _FACTOR * (2 * np.arange(bits.shape[1], dtype=np.uint64) + np.uint64(1))
        rows = (bits * factors).sum(1, dtype=np.uint64)
        if self._tail is not None:
            rows, valid = np.concatenate([self._tail[0], rows]), np.concatenate([self._tail[1], valid])
        self._tail = rows[-_STRETCH + 1 :], valid[-_STRETCH + 1 :]
        if (count := len(rows) - _STRETCH + 1) > 0:
            self._keep(self._stretches(rows, valid, count))

    def _compared(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """(rows, values) how each value compares with later ones, and whether all of these were measured; rows that wait are kept."""
        if self._before is not None:
            values, valid = np.concatenate([self._before[0], values]), np.concatenate([self._before[1], valid])
        reach = max(_LAGS)
        self._before, count = (values[-reach:], valid[-reach:]), max(len(values) - reach, 0)
        codes = np.zeros((count, values.shape[1]), dtype=np.uint32)
        measured = valid[:count].copy()
        for lag in _LAGS:
            codes = codes * np.uint32(2) + _orders(values[lag : lag + count], values[:count])
            measured &= valid[lag : lag + count]
        return codes, measured

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Sorted."""
        return self._smallest

    @staticmethod
    def _stretches(rows: NDArray[np.uint64], valid: NDArray[np.bool_], count: int) -> NDArray[np.uint64]:
        total = np.zeros(count, dtype=np.uint64)
        for i in range(_STRETCH):
            total = total * _FACTOR + rows[i : i + count]
        changes = np.concatenate([[0], np.cumsum(rows[1:] != rows[:-1])])
        gaps = np.concatenate([[0], np.cumsum(~valid)])
        tells = (changes[_STRETCH - 1 :] - changes[:count] >= _MIN_CHANGES) & (gaps[_STRETCH:] == gaps[:count])
        total = total[tells]
        return (total ^ (total >> np.uint64(29))) * _FACTOR

    def _keep(self, hashes: NDArray[np.uint64]) -> None:
        if len(hashes) > 4 * _SKETCH:
            hashes = np.partition(hashes, 4 * _SKETCH - 1)[: 4 * _SKETCH]
        self._smallest = np.unique(np.concatenate([self._smallest, hashes]))[:_SKETCH]


def same_signals(sketches: Sequence[NDArray[np.uint64]]) -> list[tuple[int, int]]:
    """Pairs of recordings of which one holds most of the other."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, hashes in enumerate(sketches):
        for value in hashes.tolist():
            holders[value].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        if 2 <= len(numbers) <= _MAX_HOLDERS:
            shared.update(combinations(numbers, 2))
    pairs = []
    for (one, other), count in shared.items():
        first, second = sketches[one], sketches[other]
        if count < max(min(_MIN_SHARED, len(first), len(second)), _MIN_HASHES):
            continue
        limit = min(first[-1] if len(first) == _SKETCH else _MAX, second[-1] if len(second) == _SKETCH else _MAX)
        could = min(int((first <= limit).sum()), int((second <= limit).sum()))
        if count >= _MIN_SHARE * could:
            pairs.append((one, other))
    return sorted(pairs)


def duplicate_problems(
    pairs: Sequence[tuple[int, int]],
    names: Sequence[str],
    groups: Sequence[str],
    sides: Mapping[str, str],
    *,
    folds: bool,
    scaled: bool = False,
) -> Iterator[Problem]:
    """A problem for each pair: where it is on two sides of the split an error, or a warning if only the order of values is the same.

    Args:
        pairs: of recordings.
        names: of the recordings.
        groups: of the recordings.
        sides: of the groups; a group without a side takes no part.
        scaled: whether the pairs share the order of values only.
        folds: whether the split is a cross-validation, in which two groups are on two sides in some fold.
    """
    other_scale = " on another scale" if scaled else ""
    for one, other in pairs:
        first, second = sides.get(groups[one], ""), sides.get(groups[other], "")
        if (first != second or (folds and groups[one] != groups[other])) and first and second:
            how = f"{first} and {second}" if first != second else "of two groups, which some fold parts"
            yield Problem(
                "warning" if scaled else "error",
                f"the same signal{other_scale} on two sides of the split",
                f"{names[one]} and {names[other]}",
                how,
                "Leave one of them out, or give both the same group: what is tested on must not have been trained on.",
            )
        else:
            yield Problem(
                "note", f"the same signal{other_scale} under two names", f"{names[one]} and {names[other]}", first
            )


def same_files(count: int, size: Callable[[int], int], read: Callable[[int], bytes]) -> list[tuple[int, int]]:
    """Pairs (first, later one) of files of the same bytes; only those of equal size are read.

    Args:
        count: of files.
        size: of file i in bytes.
        read: content of file i.
    """
    of_size: dict[int, list[int]] = defaultdict(list)
    for i in range(count):
        of_size[size(i)].append(i)
    first: dict[bytes, int] = {}
    pairs = []
    for i in sorted(i for numbers in of_size.values() if len(numbers) > 1 for i in numbers):
        digest = hashlib.blake2b(read(i), digest_size=16).digest()
        if (earlier := first.setdefault(digest, i)) != i:
            pairs.append((earlier, i))
    return pairs


def _orders(later: NDArray[Any], earlier: NDArray[Any]) -> NDArray[np.uint32]:
    """Elementwise 1 where the later value is larger, otherwise 0; two values only, since rounding makes some equal."""
    return (later > earlier).astype(np.uint32)


_MAX = np.uint64(2**64 - 1)


def _digest(row: NDArray[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")
