"""Objects in a sample: a confidence map for each class, and optionally the extents of their boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from maekit.config.data_spec import OBJECT_EXTENT
from maekit.core.joint import PRIMARY
from maekit.core.losses import masked_mean
from maekit.core.patchify import zero_invalid
from maekit.tasks.confidence import confidence, peaks, sigma_in_cells, suppress
from maekit.tasks.label_kinds.objects import ObjectLabels, check_per_class, present
from maekit.tasks.mix import checked_share, refuse_auxiliary
from maekit.tasks.signals import standardised
from maekit.tasks.task import TaskOutput
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from maekit.core.encoders.base import Backbone
    from maekit.core.joint import SignalBatch
    from maekit.metrics.plane import Plane
    from maekit.tasks.parts import Parts
    from maekit.tasks.task import Batch, EvalRows

PRIOR = 0.01
"""Confidence that the head starts with everywhere: most cells hold no object."""
LENGTH = "length"


class Detection(Transfer):
    """Confidence maps over the cells of a plane, from the tokens of all patches.

    Each token gives the cells of its patch some channels, which a convolution turns into one logit a class. A token locates an
    object inside its patch only coarsely, so that with `skip_channels` convolutions also see the sample itself (as the detail
    stream of ViTMatte, Yao et al., 2023), the frames of a clip as channels; the tokens of a clip are averaged over time. The loss
    is the cross entropy with the confidence map, weighted by |y - p|^focal (Li et al., Generalized Focal Loss, 2020; 0 is plain
    cross entropy) and divided by the sum of the map. Auxiliary signals are read by the encoder together with the sample.

    Args:
        front, encoder: as in `Transfer`.
        plane: coordinates of the cells along the sample's last two axes.
        columns: of a label: the two axes' names, `class` where there are classes, and where they are used `length` and extents.
        classes: their names.
        kappa: of each class in object location similarity. RODNet's published evaluation has 0.005 for pedestrians, 0.01 for
            cyclists and 0.03 for cars.
        lengths: of each class, in the unit of the distance, where labels have no column `length`: for the width of the map.
        width: standard deviation of the Gaussian in cells, for each radian that the object subtends.
        sigma_min, sigma_max: limits of the standard deviation, in cells.
        boxes: also predict extents (columns `AXIS_extent`); similarity is then the overlap of boxes, and no `kappa` is needed.
        box_weight: weight of the loss of extents.
        focal: exponent of the weight.
        channels: of the head, in each cell.
        skip_channels: channels that a convolution on the sample adds to them, and of two more convolutions behind it; 0 for none.
        mix: augmentation: share of training samples that another of the batch is laid over; see `maekit.tasks.mix`.
        max_detections: objects in a sample at most.
        score_threshold: score below which a peak is no object.
        nms_threshold: similarity to an object of a higher score above which one is suppressed.
        options: `tune`, `tuned_blocks` of `Transfer`.

    Raises:
        ValueError: numbers that do not go with the classes, or columns that are missing.
    """

    label_kind = ObjectLabels
    labels: ObjectLabels

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
        if (
            not 0 < sigma_min <= sigma_max
            or not width > 0
            or not 0 <= score_threshold < 1
            or not 0 < nms_threshold <= 1
            or min(max_detections, channels) < 1
            or min(skip_channels, focal, box_weight) < 0
        ):
            raise ValueError(
                f"width={width}, sigma_min={sigma_min}, sigma_max={sigma_max}, score_threshold={score_threshold}, "
                f"max_detections={max_detections}, channels={channels}, skip_channels={skip_channels}, focal={focal}, "
                f"box_weight={box_weight}, nms_threshold={nms_threshold}: expected 0 < sigma_min <= sigma_max, a width above 0, "
                "0 <= score_threshold < 1, 0 < nms_threshold <= 1, the others from 1 (skip_channels, focal, box_weight: from 0)"
            )
        labels = ObjectLabels(plane, columns, classes, kappa=kappa, boxes=boxes)
        check_per_class("lengths", lengths, labels.classes)
        if lengths is None and LENGTH not in labels.columns and not boxes:
            raise ValueError("objects have no column `length`: give `lengths`, one for each class")
        shape, grid = encoder.patchifier.sample_shape[1:], encoder.patchifier.grid_size
        if tuple(shape[-2:]) != plane.shape:
            raise ValueError(f"samples of {shape} cells, but the plane has {plane.shape}")
        patch = (shape[-2] // grid[-2], shape[-1] // grid[-1])
        super().__init__(front, encoder, None, channels * patch[0] * patch[1], **options)
        self.labels, self.patch = labels, patch
        self.lengths: Tensor | None
        self.register_buffer("lengths", None if lengths is None else torch.tensor(list(lengths)), persistent=False)
        self.box_weight, self.focal, self.mix = box_weight, focal, checked_share(mix)
        self.width, self.sigma_min, self.sigma_max = width, sigma_min, sigma_max
        self.max_detections, self.score_threshold, self.nms_threshold = max_detections, score_threshold, nms_threshold
        outputs = len(labels.classes) + (2 if boxes else 0)
        planes = math.prod(encoder.patchifier.sample_shape[:-2])
        self.skip_channels = nn.Conv2d(planes, skip_channels, 3, padding=1) if skip_channels else None
        widths = [channels + skip_channels, *([skip_channels, skip_channels] if skip_channels else []), outputs]
        self.read = nn.Sequential(
            *[layer for wide, to in pairwise(widths) for layer in (nn.GELU(), nn.Conv2d(wide, to, 3, padding=1))]
        )
        # With weights near zero the convolutions behind the head would get no signal.
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        last = self.read[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[: len(labels.classes)], math.log(PRIOR / (1 - PRIOR)))

    @classmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """As of `Transfer`, with the plane and the columns of the objects."""
        source = parts.source
        arguments = super().build_arguments(parts) | {"classes": source.classes}
        return arguments | {"plane": parts.plane(), "columns": source.objects or ()}

    @classmethod
    def reads_patches(cls, options: Mapping[str, Any]) -> bool:
        """See `Transfer.reads_patches`."""
        del options
        return True

    def check_auxiliary(self, others: Collection[str]) -> None:
        """Refuse `mix`, which would change the sample alone."""
        refuse_auxiliary(self.mix, others)

    def maps(self, batch: Batch) -> Float[Tensor, "batch out first second"]:
        """Logits of each class in each cell, followed with boxes by the logarithms of the extents in cells."""
        signals = self.signals(batch)
        grid = self.encoder.patchifier.grid_size
        cells = rearrange(
            self.head_output(signals),
            "batch (time g0 g1 p0 p1 channel) -> batch time channel (g0 p0) (g1 p1)",
            g0=grid[-2],
            g1=grid[-1],
            p0=self.patch[0],
            p1=self.patch[1],
            channel=self.head.out_features // (self.patch[0] * self.patch[1]),
        )
        cells = reduce(cells, "batch time channel first second -> batch channel first second", "mean")
        if self.skip_channels is not None:
            cells = torch.cat([cells, self._skip(signals[PRIMARY])], 1)
        cells = self.read[:-1](cells.contiguous(memory_format=torch.channels_last))
        # Outside autocast: in half precision neighbouring cells tie, and one peak would be several.
        with torch.autocast(cells.device.type, enabled=False):
            return self.read[-1](cells.float())

    def _skip(self, sample: SignalBatch) -> Float[Tensor, "batch channel first second"]:
        """Channels of the sample as the encoder has it: invalid patches are zero."""
        assert self.skip_channels is not None
        patchifier = self.encoder.patchifier
        x = patchifier.unpatchify(zero_invalid(patchifier.patchify(sample.x), sample.valid))
        return self.skip_channels(rearrange(x, "batch channel ... first second -> batch (channel ...) first second"))

    def inputs(self, batch: Batch) -> Batch:
        """See `Task.inputs`: standardised signals, in training some of them laid over each other with their objects."""
        return standardised(batch, self.front, self.fronts, mix=self.mix if self.training else 0.0)

    def forward(self, batch: Batch) -> TaskOutput:
        """See `Task.forward`."""
        batch = self.inputs(batch)
        maps = self.maps(batch)
        loss = self.map_losses(maps, batch["label"].float()).mean()
        return TaskOutput(loss, {"maps": maps.detach(), "label": batch["label"]})

    @torch.no_grad()
    def eval_step(self, batch: Batch) -> EvalRows:
        """Detections, and with labels the true objects and the loss.

        Returns:
            `detections` (batch, detection, column) as `ObjectLabels` reads them; `objects` in the same columns without scores.
        """
        details = {"maps": self.maps(batch)}
        return self.train_rows(batch, details | ({"label": batch["label"]} if "label" in batch else {}))

    @torch.no_grad()
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """See `Task.train_rows`; objects of scenes that were laid over each other are those of both."""
        maps = details["maps"]
        rows: EvalRows = {"index": batch["index"], "detections": self.decode(maps)}
        if "label" in details:
            label = details["label"].float()
            rows["objects"] = self.labels.on_plane(label)
            rows["loss"] = self.map_losses(maps, label)
        return rows

    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Loss, and average precision and recall over similarities of 0.5 to 0.9; see `maekit.metrics.average_precision`."""
        detections, objects = (present(rows[name].numpy()) for name in ("detections", "objects"))
        return {"loss": rows["loss"].mean().item(), **self.labels.score(detections, objects)}

    def decode(self, maps: Float[Tensor, "batch out first second"]) -> Float[Tensor, "batch detection column"]:
        """Detections from maps: coordinates (with boxes also extents), class, score."""
        count, plane = len(self.labels.classes), self.labels.plane
        cells, kind, score = peaks(maps[:, :count].sigmoid(), self.max_detections, self.score_threshold)
        where = plane.at(cells)
        if self.labels.boxes:
            extents = _at_cells(maps[:, count:].clamp(-4, 6).exp(), cells)
            where = torch.cat([where, extents * plane.sizes(cells)], -1)
        score = suppress(where, kind, score, self.labels.similarity, self.nms_threshold)
        order = score.argsort(dim=1, descending=True, stable=True)
        detections = torch.cat([where, kind[..., None].to(where), score[..., None]], -1)
        detections = torch.where(score[..., None] > 0, detections, torch.nan)
        return detections.gather(1, order[..., None].expand_as(detections))

    def map_losses(self, maps: Tensor, label: Float[Tensor, "batch object column"]) -> Float[Tensor, " batch"]:
        """Loss of each sample from its maps and its table of objects."""
        plane, count = self.labels.plane, len(self.labels.classes)
        where = torch.stack([self._column(label, axis) for axis in plane.axes], -1)
        cells = plane.cells(where)
        cells = torch.where(plane.within(cells)[..., None], cells, torch.nan)
        kinds = self.labels.classes_of(label).nan_to_num().long()
        target = confidence(cells, self._sigma(label, where, kinds), kinds, plane.shape, count)
        logits = maps[:, :count]
        weight = (target - logits.sigmoid()).abs() ** self.focal
        errors = weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = errors.sum((1, 2, 3)) / target.sum((1, 2, 3)).clamp(min=1)
        return loss + self.box_weight * self._box_losses(maps, label, cells) if self.labels.boxes else loss

    def _box_losses(self, maps: Tensor, label: Tensor, cells: Tensor) -> Float[Tensor, " batch"]:
        """Mean absolute error of the logarithms of extents, at the cells of the objects."""
        plane = self.labels.plane
        on_plane = cells.isfinite().all(-1)
        extents = torch.stack([self._column(label, f"{axis}{OBJECT_EXTENT}") for axis in plane.axes], -1)
        target = (extents / plane.sizes(cells)).clamp(min=1e-3).log()
        pred = _at_cells(maps[:, len(self.labels.classes) :], cells)
        return masked_mean((pred - target).abs().mean(-1), on_plane, dim=1)[:, 0]

    def _sigma(self, label: Tensor, where: Tensor, kinds: Tensor) -> Tensor:
        """Standard deviation of the Gaussian of each object, in cells."""
        plane = self.labels.plane
        if LENGTH in self.labels.columns:
            length = self._column(label, LENGTH)
        elif self.lengths is not None:
            length = self.lengths[kinds]
        else:
            length = None
        if plane.angle is None or length is None:
            return torch.full_like(where[..., 0], self.sigma_min)
        return sigma_in_cells(length, plane.distance(where), self.width, self.sigma_min, self.sigma_max)

    def _column(self, label: Tensor, name: str) -> Tensor:
        return label[..., self.labels.columns.index(name)]


def _at_cells(
    maps: Float[Tensor, "batch channel first second"], cells: Float[Tensor, "batch object 2"]
) -> Float[Tensor, "batch object channel"]:
    """Values of maps at the nearest cells; of NaN at the first cell."""
    nearest = cells.nan_to_num().round().long()
    row, column = nearest[..., 0].clamp(0, maps.shape[2] - 1), nearest[..., 1].clamp(0, maps.shape[3] - 1)
    sample = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[sample, :, row, column]
