"""Confidence maps: from objects to the target of a network, and from its output back to objects.

As in RODNet (Wang et al., WACV 2021 and IEEE JSTSP 2021) and RADLER (Luo et al., CVPR-W 2025): for each class a map that is 1 at an
object's cell and falls off as a Gaussian whose width follows from the angle that the object subtends. Objects are local maxima;
location-based non-maximum suppression removes those that are similar to one of a higher score.
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
    is_object = centres.isfinite().all(-1)
    nearest = centres.nan_to_num().round()
    variance2 = 2 * widths.nan_to_num(1.0).square()[..., None]
    profiles = [
        torch.exp(-(torch.arange(n, device=centres.device) - nearest[..., axis, None]).square() / variance2)
        for axis, n in enumerate(shape)
    ]
    one_hot = F.one_hot(kinds.clamp(0, classes - 1), classes) * is_object[..., None]
    first = rearrange(profiles[0], "batch object first -> batch object 1 first 1") * one_hot[..., None, None]
    second = rearrange(profiles[1], "batch object second -> batch object 1 1 second")
    return reduce(first * second, "batch object kind first second -> batch kind first second", "max")


def sigma_in_cells(length: Tensor, distance: Tensor, scale: float, sigma_min: float, sigma_max: float) -> Tensor:
    """Standard deviation in cells: `scale` times the angle that `length` subtends at `distance`, within limits."""
    return (scale * 2 * torch.atan(length / (2 * distance.clamp(min=1e-3)))).clamp(sigma_min, sigma_max)


def peaks(
    scores: Float[Tensor, "batch kind first second"], max_detections: int, score_threshold: float
) -> tuple[Float[Tensor, "batch most 2"], Int[Tensor, "batch most"], Float[Tensor, "batch most"]]:
    """The highest local maxima: cells and fractions of them, class, score; NaN, -1 and 0 where there are fewer.

    Fractions of a cell come from a parabola through the logarithms of a peak and its neighbours, which a Gaussian is.
    """
    classes, rows, columns = scores.shape[1:]
    largest = F.max_pool2d(scores, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2)
    maxima = torch.where((scores == largest) & (scores >= score_threshold), scores, 0.0)
    score, location = rearrange(maxima, "batch kind first second -> batch (kind first second)").topk(
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
    is_object = score > 0
    return (
        torch.where(is_object[..., None], torch.stack(centres, -1), torch.nan),
        torch.where(is_object, kind, -1),
        score,
    )


def suppress(
    detections: Float[Tensor, "batch most column"],
    kind: Int[Tensor, "batch most"],
    score: Float[Tensor, "batch most"],
    similarity: Similarity,
    limit: float,
) -> Float[Tensor, "batch most"]:
    """Location-based non-maximum suppression.

    Args:
        detections: in the order of falling scores.
        kind: class of each.
        score: of each; 0 where there is none.
        similarity: of two objects.
        limit: similarity to an object of the same class and a higher score above which a detection is suppressed.

    Returns:
        The scores, 0 where a detection is suppressed.
    """
    values = similarity(detections[:, :, None].nan_to_num(), detections[:, None].nan_to_num(), kind[:, :, None])
    rivals = (values > limit) & (kind[:, :, None] == kind[:, None])
    kept = score > 0
    for i in range(detections.shape[1]):
        better = rivals[:, :i, i] & kept[:, :i]
        kept[:, i] &= ~better.any(1)
    return torch.where(kept, score, 0.0)
