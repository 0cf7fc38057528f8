"""Objects in a sample: a confidence map for each class, and where asked for the extents of their boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from maekit.core.joint import PRIMARY
from maekit.core.losses import masked_mean
from maekit.core.patchify import zero_invalid
from maekit.metrics.average_precision import Matches, match, precision_and_recall
from maekit.metrics.similarity import similarity_of
from maekit.tasks.confidence import confidence, peaks, suppress, width_of
from maekit.tasks.mix import checked_share, overlaid, refuse_auxiliary
from maekit.tasks.task import Batch, EvalRows
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from maekit.core.encoders.base import Backbone
    from maekit.core.joint import SignalBatch
    from maekit.metrics.plane import Plane

RARE = 0.01
"""Confidence that the head starts with everywhere: most cells hold no object."""
Array = np.ndarray[Any, Any]
CLASS, LENGTH, EXTENT = "class", "length", "_extent"


class Detection(Transfer):
    """Confidence maps over the cells of a plane, from the tokens of all patches.

    Each token gives the cells of its patch some channels, which a convolution turns into one logit a class. Where an object is
    inside of a patch a token tells only roughly, so that with `skip_channels` convolutions also see the sample itself (as the detail
    stream of ViTMatte, Yao et al., 2023), a clip's frames beside each other as channels; what the tokens say is averaged
    over its time. The loss is the cross entropy with the
    confidence map, weighted by |y - p|^focal (Li et al., Generalized Focal Loss, 2020; 0 is plain cross entropy) and divided
    by the sum of the map. Signals beside the sample (a map of what stands still, a view of the same moment) are read by the
    encoder together with it.

    Args:
        front, encoder: as in `Transfer`.
        plane: where the sample's last two axes lie.
        columns: of a label: the two axes' names, `class` where there are classes, and where they are used `length` and extents.
        classes: their names.
        kappa: kappa of each class in object location similarity. RODNet's published evaluation has 0.005 for
            pedestrians, 0.01 for cyclists and 0.03 for cars.
        lengths: of each class, in the unit of the distance, where labels have no column `length`: for the width of the map.
        width: cells that the Gaussian's standard deviation has for each radian that the object subtends.
        sigma_min, sigma_max: limits of it, in cells.
        boxes: also predict extents (columns `AXIS_extent`); likeness is then the overlap of boxes, and no kappa are needed.
        box_weight: of the loss of extents.
        focal: exponent of the weight.
        channels: that the head has in each cell.
        skip_channels: channels that a convolution on the sample adds to them, and that two more convolutions have behind it; 0 for none.
        mix: augmentation: share of training samples that another of the batch is laid over; see `maekit.tasks.mix`.
        max_detections: objects in a sample at most.
        score_threshold: score below which nothing is an object.
        nms_threshold: likeness to a better object above which one is left out.
        options: `tune`, `tuned_blocks` of `Transfer`.

    Raises:
        ValueError: numbers that do not go with the classes, or columns that are missing.
    """

    def __init__(
        self,
        front: nn.Module,
        encoder: Backbone,
        *,
        plane: Plane,
        columns: Sequence[str],
        classes: Sequence[str] | None,
        kappa: Sequence[float] | None = None,
        lengths: Sequence[float] | None = None,
        width: float = 15.0,
        sigma_min: float = 1.0,
        sigma_max: float = 4.0,
        boxes: bool = False,
        box_weight: float = 1.0,
        focal: float = 2.0,
        channels: int = 8,
        skip_channels: int = 0,
        mix: float = 0.0,
        max_detections: int = 20,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.3,
        **options: Any,
    ) -> None:
        self.classes = tuple(classes or ("object",))
        self.boxes, self.box_weight, self.focal, self.mix = boxes, box_weight, focal, checked_share(mix)
        self.columns = tuple(columns)
        wanted = [*plane.axes, *([CLASS] if classes else []), *(f"{axis}{EXTENT}" for axis in plane.axes if boxes)]
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise ValueError(
                f"objects have no column {', '.join(missing)}: `label.objects` names {', '.join(self.columns)}"
            )
        if (
            not 0 < sigma_min <= sigma_max
            or not width > 0
            or not 0 <= score_threshold < 1
            or not 0 < nms_threshold <= 1
            or min(max_detections, channels) < 1
            or min(skip_channels, focal, box_weight) < 0
        ):
            raise ValueError(
                f"width={width}, sigma_min={sigma_min}, sigma_max={sigma_max}, lowest={score_threshold}, most={max_detections}, channels={channels}, "
                f"detail={skip_channels}, focal={focal}, box_weight={box_weight}, nms_threshold={nms_threshold}: expected 0 < sigma_min <= sigma_max, "
                "a width above 0, 0 <= lowest < 1, 0 < nms_threshold <= 1, the others from 1 (detail, focal, box_weight: 0)"
            )
        for name, given in (("kappa", kappa), ("lengths", lengths)):
            if given is not None and (len(given) != len(self.classes) or not min(given) > 0):
                raise ValueError(
                    f"{name}={list(given)}, expected one number above 0 for each of {', '.join(self.classes)}"
                )
        self.similarity = similarity_of(plane, kappa, boxes)
        if lengths is None and LENGTH not in self.columns and not boxes:
            raise ValueError("objects have no column `length`: give `lengths`, one for each class")
        shape, grid = encoder.patchifier.sample_shape[1:], encoder.patchifier.grid_size
        if tuple(shape[-2:]) != plane.shape:
            raise ValueError(f"samples of {shape} cells, but the plane has {plane.shape}")
        patch = (shape[-2] // grid[-2], shape[-1] // grid[-1])
        super().__init__(front, encoder, None, channels * patch[0] * patch[1], **options)
        self.plane, self.lengths, self.patch = plane, lengths, patch
        self.width, self.sigma_min, self.sigma_max = width, sigma_min, sigma_max
        self.max_detections, self.score_threshold, self.nms_threshold = max_detections, score_threshold, nms_threshold
        outputs = len(self.classes) + (2 if boxes else 0)
        seen = math.prod(encoder.patchifier.sample_shape[:-2])
        self.skip_channels = nn.Conv2d(seen, skip_channels, 3, padding=1) if skip_channels else None
        widths = [channels + skip_channels, *([skip_channels, skip_channels] if skip_channels else []), outputs]
        self.read = nn.Sequential(
            *[layer for wide, to in pairwise(widths) for layer in (nn.GELU(), nn.Conv2d(wide, to, 3, padding=1))]
        )
        nn.init.trunc_normal_(
            self.head.weight, std=0.02
        )  # a head of near zeros would hand nothing on to the convolution
        last = self.read[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[: len(self.classes)], float(np.log(RARE / (1 - RARE))))

    def check_auxiliary(self, others: Collection[str]) -> None:
        """Not with an overlay."""
        refuse_auxiliary(self.mix, others)

    def maps(self, batch: Batch) -> Float[Tensor, "batch out first second"]:
        """Logits of each class in each cell, and behind them with boxes the logarithms of the extents in cells."""
        grid, signals = self.encoder.patchifier.grid_size, self.signals(batch)
        cells = rearrange(
            self.output_of(signals),
            "batch (time g0 g1 p0 p1 channel) -> batch time channel (g0 p0) (g1 p1)",
            g0=grid[-2],
            g1=grid[-1],
            p0=self.patch[0],
            p1=self.patch[1],
            channel=self.head.out_features // (self.patch[0] * self.patch[1]),
        )
        cells = reduce(cells, "batch time channel first second -> batch channel first second", "mean")
        if self.skip_channels is not None:
            cells = torch.cat([cells, self._detail(signals[PRIMARY])], 1)
        cells = self.read[:-1](cells.contiguous(memory_format=torch.channels_last))
        # Outside autocast: in half precision neighbouring cells tie, and one peak would be several.
        with torch.autocast(cells.device.type, enabled=False):
            return self.read[-1](cells.float())

    def _detail(self, sample: SignalBatch) -> Float[Tensor, "batch channel first second"]:
        """Of the standardised sample as the encoder reads it: zeros where nothing was measured."""
        assert self.skip_channels is not None
        patchifier = self.encoder.patchifier
        x = patchifier.unpatchify(zero_invalid(patchifier.patchify(sample.x), sample.valid))
        return self.skip_channels(rearrange(x, "batch channel ... first second -> batch (channel ...) first second"))

    def forward(self, batch: Batch) -> Tensor:
        if self.mix and self.training:
            batch = overlaid(batch, self.mix)
        return self._losses(self.maps(batch), batch["label"].float()).mean()

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """`detections` (batch, most, columns..., class, score), the surest first and NaN where there are fewer; `objects` the
        true ones in the same columns; `loss`.
        """
        maps = self.maps(batch)
        found: EvalRows = {"index": batch["index"], "detections": self.decoded(maps)}
        if "label" in batch:
            label = batch["label"].float()
            found["objects"] = shown(label, self.columns, self.plane, boxes=self.boxes)
            found["loss"] = self._losses(maps, label)
        return found

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Loss, and average precision and recall over likeness 0.5 to 0.9; see `maekit.metrics.average_precision`."""
        matched = self.matched(rows["detections"].numpy(), rows["objects"].numpy())
        return {"loss": rows["loss"].mean().item(), **precision_and_recall(matched, np.ones(1), self.classes)}

    def matched(self, detections: Array, objects: Array) -> Matches:
        """What came of putting those of all samples beside each other, as one group; both as `rows` gives them."""
        one = np.zeros(len(objects), dtype=np.int64)
        return match(present(detections), present(objects), one, 1, len(self.classes), self.similarity)

    def selection(self) -> Mapping[str, bool]:
        return {"ap": True, "ap50": True, "loss": False}

    def decoded(self, maps: Float[Tensor, "batch out first second"]) -> Float[Tensor, "batch most column"]:
        """Objects from maps: coordinates (with boxes also extents), class, score."""
        count = len(self.classes)
        cells, kind, score = peaks(maps[:, :count].sigmoid(), self.max_detections, self.score_threshold)
        where = self.plane.at(cells)
        if self.boxes:
            at = cells.nan_to_num().round().long()
            rows, columns = at[..., 0].clamp(0, maps.shape[2] - 1), at[..., 1].clamp(0, maps.shape[3] - 1)
            sample = torch.arange(len(maps), device=maps.device)[:, None]
            extents = maps[:, count:].clamp(-4, 6).exp()[sample, :, rows, columns]
            where = torch.cat([where, extents * self.plane.sizes(cells)], -1)
        score = suppress(where, kind, score, self.similarity, self.nms_threshold)
        order = score.argsort(dim=1, descending=True, stable=True)
        found = torch.cat([where, kind[..., None].to(where), score[..., None]], -1)
        found = torch.where(score[..., None] > 0, found, torch.nan)
        return found.gather(1, order[..., None].expand_as(found))

    def _losses(self, maps: Tensor, label: Float[Tensor, "batch object column"]) -> Float[Tensor, " batch"]:
        where = torch.stack([label[..., self._column(axis)] for axis in self.plane.axes], -1)
        cells = self.plane.cells(where)
        inside = self.plane.within(cells)
        cells = torch.where(inside[..., None], cells, torch.nan)
        kinds = (
            label[..., self._column(CLASS)].nan_to_num().long()
            if CLASS in self.columns
            else torch.zeros_like(cells[..., 0]).long()
        )
        wanted = confidence(cells, self._widths(label, where, kinds), kinds, self.plane.shape, len(self.classes))
        logits = maps[:, : len(self.classes)]
        weight = (wanted - logits.sigmoid()).abs() ** self.focal
        errors = weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        loss = errors.sum((1, 2, 3)) / wanted.sum((1, 2, 3)).clamp(min=1)
        return loss + self.box_weight * self._box_losses(maps, label, where, cells) if self.boxes else loss

    def _box_losses(self, maps: Tensor, label: Tensor, where: Tensor, cells: Tensor) -> Float[Tensor, " batch"]:
        """Mean absolute error of the logarithms of extents, at the cells of the objects."""
        there = cells.isfinite().all(-1)
        at = cells.nan_to_num().round().long()
        extents = torch.stack([label[..., self._column(f"{axis}{EXTENT}")] for axis in self.plane.axes], -1)
        wanted = (extents / self.plane.sizes(cells)).clamp(min=1e-3).log()
        sample = torch.arange(len(maps), device=maps.device)[:, None]
        said = maps[:, len(self.classes) :][
            sample, :, at[..., 0].clamp(0, maps.shape[2] - 1), at[..., 1].clamp(0, maps.shape[3] - 1)
        ]
        return masked_mean((said - wanted).abs().mean(-1), there, dim=1)[:, 0]

    def _widths(self, label: Tensor, where: Tensor, kinds: Tensor) -> Tensor:
        if self.plane.angle is None:
            return torch.full_like(where[..., 0], self.sigma_min)
        if LENGTH in self.columns:
            length = label[..., self._column(LENGTH)]
        elif self.lengths is not None:
            length = torch.tensor(list(self.lengths), device=label.device)[kinds]
        else:
            return torch.full_like(where[..., 0], self.sigma_min)
        return width_of(length, self.plane.distance(where), self.width, self.sigma_min, self.sigma_max)

    def _column(self, name: str) -> int:
        return self.columns.index(name)


def shown(label: Float[Tensor, "... object column"], columns: Sequence[str], plane: Plane, *, boxes: bool) -> Tensor:
    """(..., object, 3 or 5) true objects as detections have them: coordinates, with boxes extents, class; NaN outside of the plane."""
    names = [*plane.axes, *(f"{axis}{EXTENT}" for axis in plane.axes if boxes)]
    found = label[..., [columns.index(name) for name in names]]
    kinds = label[..., columns.index(CLASS)] if CLASS in columns else torch.zeros_like(found[..., 0])
    inside = plane.within(plane.cells(found[..., :2]))
    return torch.where(inside[..., None], torch.cat([found, kinds[..., None]], -1), torch.nan)


def present(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Of each sample the objects that there are."""
    return [sample[np.isfinite(sample).all(-1)] for sample in rows]
