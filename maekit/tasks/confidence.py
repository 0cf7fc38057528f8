"""Confidence maps: from objects to what a network learns, and from what it says back to objects.

As in RODNet (Wang et al., WACV 2021 and IEEE JSTSP 2021) and RADLER (Luo et al., CVPR-W 2025): for each class a map that is 1 at an
object's cell and falls off as a Gaussian whose width follows from the angle that the object subtends; objects are read
from local peaks, of which location-based suppression keeps those that are not alike a better one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from maekit.metrics.similarity import Similarity

NEIGHBOURHOOD = 3
"""Side of the square of cells in which a peak is the largest."""


def confidence(
    centres: Float[Tensor, "batch object 2"],
    widths: Float[Tensor, "batch object"],
    kinds: Int[Tensor, "batch object"],
    shape: tuple[int, int],
    classes: int,
) -> Float[Tensor, "batch kind first second"]:
    """The largest Gaussian of the objects of each class, in each cell.

    Args:
        centres: in cells and fractions of them, NaN where there is no object. The nearest cell has 1.
        widths: standard deviations in cells.
        kinds: class of each object.
        shape: cells along both axes.
        classes: how many there are.
    """
    there = centres.isfinite().all(-1)
    nearest = centres.nan_to_num().round()
    spread = 2 * widths.nan_to_num(1.0).square()[..., None]
    along = [
        torch.exp(-(torch.arange(n, device=centres.device) - nearest[..., axis, None]).square() / spread)
        for axis, n in enumerate(shape)
    ]
    of = F.one_hot(kinds.clamp(0, classes - 1), classes) * there[..., None]
    first = rearrange(along[0], "batch object first -> batch object 1 first 1") * of[..., None, None]
    second = rearrange(along[1], "batch object second -> batch object 1 1 second")
    return reduce(first * second, "batch object kind first second -> batch kind first second", "max")


def width_of(length: Tensor, distance: Tensor, scale: float, score_threshold: float, highest: float) -> Tensor:
    """Standard deviation in cells: `scale` times the angle that `length` subtends at `distance`, within limits."""
    return (scale * 2 * torch.atan(length / (2 * distance.clamp(min=1e-3)))).clamp(score_threshold, highest)


def peaks(
    scores: Float[Tensor, "batch kind first second"], max_detections: int, score_threshold: float
) -> tuple[Float[Tensor, "batch most 2"], Int[Tensor, "batch most"], Float[Tensor, "batch most"]]:
    """The highest local maxima: cells and fractions of them, class, score; NaN, -1 and 0 where there are fewer.

    Fractions of a cell come from a parabola through the logarithms of a peak and its neighbours, which a Gaussian is.
    """
    classes, rows, columns = scores.shape[1:]
    around = F.max_pool2d(scores, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
    kept = torch.where((scores == around) & (scores >= score_threshold), scores, 0.0)
    score, location = rearrange(kept, "batch kind first second -> batch (kind first second)").topk(
        min(max_detections, classes * rows * columns), dim=1
    )
    kind, cell = location // (rows * columns), location % (rows * columns)
    row, column = cell // columns, cell % columns
    logs = F.pad(scores.clamp(min=1e-6).log(), (1, 1, 1, 1), mode="replicate")
    batch = torch.arange(len(scores), device=scores.device)[:, None]
    centres = []
    for axis, at in enumerate((row, column)):
        before, here, after = (
            logs[batch, kind, row + 1 + (step if axis == 0 else 0), column + 1 + (step if axis == 1 else 0)]
            for step in (-1, 0, 1)
        )
        bend = before - 2 * here + after
        shift = torch.where(bend < -1e-6, (before - after) / (2 * bend.clamp(max=-1e-6)), 0.0).clamp(-0.5, 0.5)
        centres.append(at + shift)
    there = score > 0
    found = torch.where(there[..., None], torch.stack(centres, -1), torch.nan)
    return found, torch.where(there, kind, -1), score


def suppress(
    found: Float[Tensor, "batch most column"],
    kind: Int[Tensor, "batch most"],
    score: Float[Tensor, "batch most"],
    similarity: Similarity,
    limit: float,
) -> Float[Tensor, "batch most"]:
    """Location-based suppression: the scores, 0 where a better object of the same class is more alike than `limit`.

    Args:
        found: objects in the order of falling scores.
        similarity: of two objects.
    """
    alike = similarity(found[:, :, None].nan_to_num(), found[:, None].nan_to_num(), kind[:, :, None])
    rivals = (alike > limit) & (kind[:, :, None] == kind[:, None])
    kept = score > 0
    for i in range(found.shape[1]):
        better = rivals[:, :i, i] & kept[:, :i]
        kept[:, i] &= ~better.any(1)
    return torch.where(kept, score, 0.0)
