"""Recordings that are stored in different ways: types of numbers, rates, and chunks that cost much to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maekit.data.check.problems import Problem, abbreviate
from maekit.data.hdf5.read_cost import is_slow

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCALE_RATIO = 8.0
"""Ratio of the usual magnitudes of two types of numbers from which on they are of different scales."""
_MAX_RATES = 8


def type_problems(types: Sequence[str], peaks: Sequence[float], names: Sequence[str]) -> Iterator[Problem]:
    """A problem where recordings are of several types of numbers.

    Args:
        types: of each recording, as stored.
        peaks: largest magnitude of each recording.
        names: of the recordings.
    """
    of_type: dict[str, list[int]] = defaultdict(list)
    for number, kind in enumerate(types):
        of_type[kind].append(number)
    if len(of_type) < 2:
        return
    usual = {kind: float(np.median([peaks[i] for i in numbers])) for kind, numbers in of_type.items()}
    positive = [peak for peak in usual.values() if peak > 0]
    differ = bool(positive) and max(positive) > _SCALE_RATIO * min(positive)
    counted = "; ".join(
        f"{kind} in {len(numbers)} ({abbreviate([names[i] for i in numbers[:3]])}), peaks of {usual[kind]:.4g}"
        for kind, numbers in sorted(of_type.items(), key=lambda item: -len(item[1]))
    )
    yield Problem(
        "error" if differ else "warning",
        "recordings of different types of numbers" + (", and of different scales" if differ else ""),
        counted,
        hint="Bring them to one scale: convert the files again from what was published, or use a data spec with its own `scale` for each."
        if differ
        else "",
    )


def rate_problems(rates: Sequence[float | None], names: Sequence[str]) -> Iterator[Problem]:
    """A problem where recordings have several rates."""
    of_rate: dict[float, list[str]] = defaultdict(list)
    for rate, name in zip(rates, names, strict=True):
        if rate is not None:
            of_rate[rate].append(name)
    if len(of_rate) < 2:
        return
    ranked = sorted(of_rate.items(), key=lambda item: -len(item[1]))
    target = min(of_rate)
    if len(ranked) <= _MAX_RATES:
        counted = "; ".join(f"{rate:g} Hz in {len(some)} ({abbreviate(some[:3])})" for rate, some in ranked)
    else:  # clocks of their own rather than settings
        target = float(f"{np.median([rate for rate in rates if rate is not None]):.3g}")
        counted = (
            f"{len(ranked)} rates, {min(of_rate):.4g} Hz ({of_rate[min(of_rate)][0]}) to "
            f"{max(of_rate):.4g} Hz ({of_rate[max(of_rate)][0]}), half of the recordings near {target:g} Hz or below"
        )
    yield Problem(
        "warning",
        "recordings of different rates",
        counted,
        hint=f"Some adapters resample; for others, convert the files with `resample_hz: {target:g}` in `convert.streams`.",
    )


def cost_problems(costs: Mapping[str, tuple[int, int]], mend: str) -> Iterator[Problem]:
    """A note on recordings whose windows are slow to read.

    Args:
        costs: bytes decoded for a window and bytes of it, by recording.
        mend: the command that rewrites the files.
    """
    for name, (decoded, window) in costs.items():
        if is_slow(decoded, window):
            yield Problem(
                "note",
                "compressed chunks that make windows slow to read",
                name,
                f"{decoded / 2**20:.3g} MiB decoded for a window of {window / 2**20:.3g} MiB",
                f"`{mend}` rewrites them.",
            )
