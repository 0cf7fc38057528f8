"""The interface of a target: what the decoder predicts for each removed patch, and how far off a prediction is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from maekit.core.losses import masked_mean, squared_error

if TYPE_CHECKING:
    from collections.abc import Iterable


class PatchStatistics(NamedTuple):
    """Mean and scale of each patch (batch, patch, 1) that turn a prediction back: `pred * scale + mean`."""

    mean: Float[Tensor, "batch patch 1"]
    scale: Float[Tensor, "batch patch 1"]


class Target(nn.Module, ABC):
    """patches (batch, patch, patch_dim) -> target; subclasses give `forward` and override what differs from squared errors.

    A module, so that what a target has learned (buffers, frozen parameters) is saved in the checkpoint.
    """

    dim: int
    """Numbers that the decoder predicts for one patch."""
    average_of: str = "the mean patch"
    """What `average` predicts, in words."""

    @abstractmethod
    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Shaped[Tensor, "batch patch target"]:
        """What is to be predicted: numbers, or one integer for each patch.

        Args:
            patches: (batch, patch, patch_dim), zeros where invalid.
            valid: (batch, patch) True where measured (None: everywhere).
        """

    def loss_mask(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        """Patches whose target depends on valid values alone (None: all); no other patch enters the loss."""
        return valid

    def loss(
        self, pred: Float[Tensor, "batch patch out"], target: Shaped[Tensor, "batch patch target"]
    ) -> Float[Tensor, "batch patch"]:
        """Loss of each patch, in float32; by default the mean squared error."""
        return squared_error(pred, target)

    def average(
        self, target: Shaped[Tensor, "batch patch target"], visible: Bool[Tensor, "batch patch"]
    ) -> Float[Tensor, "batch patch out"]:
        """The best prediction from visible patches that is the same for every patch, to compare a loss with."""
        return mean_patch(target, visible)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Learn what the target needs, once before training.

        Args:
            patches: of one training sample each, NaN where invalid; may be iterated more than once.

        Raises:
            ValueError: patches that it cannot be learned from.
        """

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics | None:
        """What the target removed from each patch; None when a prediction cannot be turned back into a patch."""
        del patches
        return None

    def as_patches(self, pred: Float[Tensor, "batch patch out"]) -> Float[Tensor, "batch patch dim"]:
        """A prediction as patches, before `statistics` are put back."""
        return pred


def identity_statistics(patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
    """Mean 0 and scale 1: statistics of a target whose predictions are in the unit of the patches."""
    mean = torch.zeros_like(patches[..., :1])
    return PatchStatistics(mean, torch.ones_like(mean))


def mean_patch(
    target: Float[Tensor, "batch patch dim"], visible: Bool[Tensor, "batch patch"]
) -> Float[Tensor, "batch patch dim"]:
    """The mean of the sample's visible patches, for every patch."""
    return masked_mean(target, visible, dim=1).expand_as(target)
