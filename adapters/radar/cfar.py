"""Constant false-alarm rate (CFAR) detection: a threshold for each cell from the cells around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import log, prod
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.special import betaincinv, betaln, expit, gammaincc, gammainccinv, gammaincinv, log_expit
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

Kind = Literal["ca", "os"]
RANK_SHARE = 0.75
NEIGHBOURS = 2**22


class CFAR(NamedTuple):
    """Threshold of each cell of a map in linear power, and whether the cell exceeds it."""

    threshold: Tensor
    detected: Tensor


def cfar(
    power: Float[Tensor, "*batch_and_axes"],
    *,
    guard: Sequence[int],
    train: Sequence[int],
    false_alarm: float = 1e-4,
    kind: Kind = "ca",
    rank: int | None = None,
    looks: float = 1.0,
) -> CFAR:
    """Detect cells that exceed the level around them, at a constant rate of false alarms.

    Cell averaging (H. M. Finn & R. S. Johnson, RCA Review 29, 1968) or ordered statistics (H. Rohling, IEEE Trans.
    AES 19, 1983).

    Around each cell lie guard cells, into which a target leaks, and around these training cells, which estimate the noise level:
    a rectangle of 2 (guard + train) + 1 cells per axis without the inner one of 2 guard + 1. With N training cells the
    threshold is

    - `ca`: alpha times their mean, alpha = N (P^(-1/N) - 1);
    - `os`: alpha times the rank-th smallest of them, alpha from P = prod_{i=0}^{rank-1} (N - i) / (N - i + alpha). A
      second target among the training cells raises their mean, but not a rank.

    The rate is P if cells are independent, the noise level is constant within the window, and the power of noise is exponentially
    distributed (squared magnitude of complex white noise) or, with `looks`, a mean of that many such powers (gamma distribution).
    Bins of a windowed FFT are correlated with their neighbours, so there are fewer independent cells than N, and the true rate
    exceeds P (measured with Hann windows: 1.4 to 2.1 times 1e-3).

    At the edges of a map the window is truncated; alpha follows from the number of remaining cells, and `rank` scales with it.

    Args:
        power: linear, not negative; the last axes, as many as `guard` has entries, are the map.
        guard: guard cells to either side along each of the map's axes, one or two.
        train: training cells beyond the guard cells; zero along one of two axes takes none along it.
        false_alarm: P, the probability of a detection in a cell of noise.
        kind: see above.
        rank: of `os`, from 1 to the number of training cells of a whole window; default three quarters of it.
        looks: number of independent powers that each cell is the mean of: chirps in a range-azimuth map, receivers in an averaged
            range-Doppler map. A value too small raises the thresholds.

    Returns:
        Thresholds (infinite where no training cell is left) and detections, of the shape of `power`.

    Raises:
        ValueError: sizes, probability, kind, rank or looks out of range, or negative power.
    """
    _check(power, guard, train, false_alarm, kind)
    if not looks > 0:
        raise ValueError(f"looks {looks!r} must be positive")
    # One axis is a map of one row, whose window has no neighbours across.
    around, beyond = ((0, cells[0]) if len(cells) == 1 else (cells[0], cells[1]) for cells in (guard, train))
    rows, columns = (1, power.shape[-1]) if len(guard) == 1 else power.shape[-2:]
    maps = power.reshape(-1, rows, columns)
    count = _ring_sum(torch.ones(1, rows, columns, dtype=torch.float64), around, beyond)[0].round().long()
    if kind == "ca":
        factor = _of_each(count, lambda n: ca_factor(n, false_alarm, looks) / n).to(power)
        threshold = _ring_sum(maps, around, beyond) * factor
    else:
        threshold = _ordered(maps, count.to(power.device), around, beyond, rank, false_alarm, looks)
    threshold = threshold.masked_fill(count.to(power.device) == 0, torch.inf).view(power.shape)
    return CFAR(threshold, power > threshold)


@lru_cache(maxsize=4096)
def ca_factor(cells: int, false_alarm: float, looks: float = 1.0) -> float:
    """Factor alpha on the mean of `cells` training cells.

    The ratio of a mean of L looks to a mean of N L others has an F distribution with 2 L and 2 N L degrees of freedom, whose tail
    is an incomplete beta function. With one look that is N (P^(-1/N) - 1).
    """
    share = float(betaincinv(cells * looks, looks, false_alarm))
    return cells * (1 - share) / share


@lru_cache(maxsize=4096)
def os_factor(cells: int, rank: int, false_alarm: float, looks: float = 1.0) -> float:
    """Factor alpha on the rank-th smallest of `cells` training cells."""

    def rate(alpha: float) -> float:
        if looks == 1:
            return prod((cells - i) / (cells - i + alpha) for i in range(rank))
        return float(weight @ gammaincc(looks, alpha * level))

    if looks != 1:
        # Probability of a cell above alpha times the level, integrated over the share u of cells below the level, which has a
        # beta distribution; on an even grid of log(u / (1 - u)), where the integrand decays at both ends.
        logit = np.linspace(-60, 60, 2401)
        below, above = expit(logit), expit(-logit)
        weight = np.exp(
            rank * log_expit(logit) + (cells - rank + 1) * log_expit(-logit) - betaln(rank, cells - rank + 1)
        )
        weight = weight * (logit[1] - logit[0])
        level = np.where(logit < 0, gammaincinv(looks, below), gammainccinv(looks, above))
    highest = 1.0
    while rate(highest) > false_alarm:
        highest *= 2
    return float(brentq(lambda alpha: log(max(rate(alpha), 1e-300) / false_alarm), 0.0, highest, rtol=1e-10))


def _check(
    power: Float[Tensor, "*axes"], guard: Sequence[int], train: Sequence[int], false_alarm: float, kind: Kind
) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r}, expected one of {', '.join(get_args(Kind))}")
    if len(guard) not in (1, 2) or len(train) != len(guard) or power.ndim < len(guard):
        raise ValueError(
            f"guard {tuple(guard)} and train {tuple(train)} have one entry for each of one or two axes of a map, "
            f"the power has {tuple(power.shape)}"
        )
    if min(*guard, *train) < 0 or max(train) < 1:
        raise ValueError(f"guard {tuple(guard)} and train {tuple(train)} are cells: none below 0, and some to train on")
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm {false_alarm!r} is a probability between 0 and 1")
    if (power < 0).any():
        raise ValueError("power is linear and not below zero; decibels go in as 10 ** (decibels / 10)")


def _ring_sum(
    maps: Float[Tensor, "map row column"], guard: tuple[int, int], train: tuple[int, int]
) -> Float[Tensor, "map row column"]:
    """Sum over the training cells that lie on the map.

    Computed as four disjoint rectangles. Subtracting the inner sum from the outer one would be faster, but wrong beside a strong
    target, where the rounding errors of two large sums exceed their difference.
    """
    up, along = (g + t for g, t in zip(guard, train, strict=True))
    rows, columns = maps.shape[1:]
    padded = pad(maps, (along, along, up, up))

    def rectangle(top: int, height: int, left: int, width: int) -> Tensor:
        """Sums over rectangles whose first cell is offset by `top` and `left` from each cell."""
        part = padded[:, up + top : up + top + rows + height - 1, along + left : along + left + columns + width - 1]
        return avg_pool2d(part, (height, width), stride=1, divisor_override=1)

    parts = []
    if train[0]:
        parts += [rectangle(top, train[0], -along, 2 * along + 1) for top in (-up, guard[0] + 1)]
    if train[1]:
        parts += [rectangle(-guard[0], 2 * guard[0] + 1, left, train[1]) for left in (-along, guard[1] + 1)]
    return torch.stack(parts).sum(0)


def _ordered(
    maps: Float[Tensor, "map row column"],
    count: Int[Tensor, "row column"],
    guard: tuple[int, int],
    train: tuple[int, int],
    rank: int | None,
    false_alarm: float,
    looks: float,
) -> Float[Tensor, "map row column"]:
    whole = _window(guard, train).to(maps.device)
    cells = int(whole.sum())
    if rank is not None and not 1 <= rank <= cells:
        raise ValueError(f"rank {rank}, expected 1 to {cells}, the training cells of a whole window")
    share = RANK_SHARE if rank is None else rank / cells

    def of(number: int) -> int:
        return max(1, round(share * number))

    ranks = _of_each(count, of).long()
    factor = _of_each(count, lambda n: os_factor(n, of(n), false_alarm, looks)).to(maps)
    up, along = (g + t for g, t in zip(guard, train, strict=True))
    threshold = torch.empty_like(maps)
    at_once = max(1, NEIGHBOURS // (maps[0].numel() * cells))  # the neighbours of a whole batch may be too many
    for some, out in zip(torch.split(maps, at_once), torch.split(threshold, at_once), strict=True):
        # Cells outside of the map are infinite, and therefore beyond the rank.
        padded = pad(some, (along, along, up, up), value=torch.inf)
        near = padded.unfold(1, len(whole), 1).unfold(2, whole.shape[1], 1)[..., whole]
        for k in torch.unique(ranks).tolist():
            out[:, ranks == k] = near[:, ranks == k].kthvalue(k, dim=-1).values
    return threshold * factor


def _window(guard: tuple[int, int], train: tuple[int, int]) -> Bool[Tensor, "row column"]:
    """True at the training cells."""
    up, along = (g + t for g, t in zip(guard, train, strict=True))
    window = torch.ones(2 * up + 1, 2 * along + 1, dtype=torch.bool)
    window[train[0] : train[0] + 2 * guard[0] + 1, train[1] : train[1] + 2 * guard[1] + 1] = False
    return window


def _of_each(count: Int[Tensor, "row column"], factor: Callable[[int], float]) -> Float[Tensor, "row column"]:
    """A function of the number of training cells, evaluated for each cell; 1 where there are none."""
    numbers, which = torch.unique(count, return_inverse=True)
    factors = [factor(n) if n else 1.0 for n in numbers.tolist()]
    return torch.tensor(factors, dtype=torch.float64, device=count.device)[which]
