"""What the decoder is asked to predict from each removed patch, and how far off a prediction is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.core.patchify import Patchifier
    from maekit.core.targets.tokenizer import Tokenizer


class PatchStatistics(NamedTuple):
    """Per-patch mean and scale (batch, patch, 1) that turn a prediction back: `pred * scale + mean`."""

    mean: Float[Tensor, "batch patch 1"]
    scale: Float[Tensor, "batch patch 1"]


class Target(nn.Module, ABC):
    """patches (batch, patch, patch_dim) -> target; a subclass gives `forward` and what differs from squared errors.

    `forward` is also told which patches were measured (`valid`, None: all); the others hold zeros.

    A module, so that what a target has learned (buffers, frozen parameters) travels in the checkpoint.
    """

    dim: int
    """Numbers that the decoder predicts for one patch."""
    average_of: str = "the mean patch"
    """What `average` predicts, in words."""
    local: bool = True
    """The target of a patch depends on that patch alone, so that it may be computed for some patches only."""

    @abstractmethod
    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Shaped[Tensor, "batch patch target"]:
        """What is to be predicted; numbers, or one whole number a patch."""

    def known(self, valid: Bool[Tensor, "batch patch"] | None) -> Bool[Tensor, "batch patch"] | None:
        """Patches whose target rests on what was measured (None: all); no other is ever in the loss."""
        return valid

    def loss(
        self, pred: Float[Tensor, "batch patch out"], target: Shaped[Tensor, "batch patch target"]
    ) -> Float[Tensor, "batch patch"]:
        """Of each patch, in float32; by default the mean squared error."""
        return squared_error(pred, target)

    def patch_weights(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch"] | None:
        """How much the loss of each patch counts (None: all alike); 1 on average over the known patches of a sample."""
        return None

    def apply_weights(
        self,
        loss: Float[Tensor, "batch patch"],
        patches: Float[Tensor, "batch patch dim"],
        valid: Bool[Tensor, "batch patch"] | None = None,
    ) -> Float[Tensor, "batch patch"]:
        """Losses of patches, each times its weight."""
        weights = self.patch_weights(patches, valid)
        return loss if weights is None else loss * weights

    def parts(
        self, pred: Float[Tensor, "batch patch out"], target: Shaped[Tensor, "batch patch target"]
    ) -> dict[str, Float[Tensor, "batch patch"]]:
        """Losses of each patch that the loss is made of, by name, for the log."""
        return {}

    def average(
        self, target: Shaped[Tensor, "batch patch target"], visible: Bool[Tensor, "batch patch"]
    ) -> Float[Tensor, "batch patch out"]:
        """The best prediction that is the same for every patch, from visible ones alone: a yardstick."""
        return mean_patch(target, visible)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Learn what the target needs, once and before training.

        Args:
            patches: of one training sample each, NaN where not measured; they may be gone through more than once.

        Raises:
            ValueError: patches that it cannot be learned from.
        """

    @property
    def drawn(self) -> Target:
        """The target whose predictions are turned back and drawn."""
        return self

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics | None:
        """What the target removed from each patch; None when a prediction cannot be turned back into a patch."""
        return None

    def as_patches(self, pred: Float[Tensor, "batch patch out"]) -> Float[Tensor, "batch patch dim"]:
        """A prediction as patches that lack only what `statistics` gives."""
        return pred


class RawTarget(Target):
    """The patch itself."""

    def __init__(self, patchifier: Patchifier) -> None:
        super().__init__()
        self.dim = patchifier.patch_dim

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch dim"]:
        return patches

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        return nothing_removed(patches)


class PatchNormTarget(Target):
    """Each patch with its own mean and standard deviation taken out (`norm_pix`).

    (x - mean) / sqrt(var + 1e-6) with the unbiased variance, as in the MAE paper's code.
    """

    def __init__(self, patchifier: Patchifier) -> None:
        super().__init__()
        if patchifier.patch_dim < 2:
            raise ValueError("a patch of one number has no variance: use the target 'raw', or larger patches")
        self.dim = patchifier.patch_dim

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch dim"]:
        mean, scale = self.statistics(patches)
        return (patches - mean) / scale

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        mean = patches.mean(dim=-1, keepdim=True)
        return PatchStatistics(mean, (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt())


class PCATarget(Target):
    """Coefficients of the patch on the leading principal components of the training patches (an ablation of the paper).

    Args:
        patchifier: gives the patch size.
        factors: how many components; the paper takes 96 of 768.
    """

    components: Tensor
    mean: Tensor

    def __init__(self, patchifier: Patchifier, *, factors: int = 96) -> None:
        super().__init__()
        if not 1 <= factors <= patchifier.patch_dim:
            raise ValueError(f"factors={factors}, expected 1 to the {patchifier.patch_dim} numbers of a patch")
        self.dim = factors
        self.register_buffer("mean", torch.zeros(patchifier.patch_dim))
        self.register_buffer("components", torch.zeros(patchifier.patch_dim, factors))

    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Float[Tensor, "batch patch factor"]:
        # Outside autocast: half-precision coefficients would be a noisy target.
        with torch.autocast(patches.device.type, enabled=False):
            return (patches.float() - self.mean) @ self.components

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Eigenvectors of the covariance of all patches, the largest first; each points where its largest entry is positive."""
        size = len(self.mean)
        count, total, products = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
        for some in patches:
            values = some[~some.isnan().any(-1)].detach().cpu().double()
            count, total = count + len(values), total + values.sum(0)
            products += values.T @ values
        if count <= self.dim:
            raise ValueError(f"{self.dim} components cannot be estimated from {count} training patches")
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        leading, variances = vectors.flip(1)[:, : self.dim], variances.flip(0)[: self.dim]
        if variances[-1] <= 1e-12 * variances[0]:
            rank = int((variances > 1e-12 * variances[0]).sum())
            raise ValueError(f"the training patches vary along {rank} components only, fewer than factors={self.dim}")
        signs = leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.copy_(leading * signs)

    def statistics(self, patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
        return nothing_removed(patches)

    def as_patches(self, pred: Float[Tensor, "batch patch factor"]) -> Float[Tensor, "batch patch dim"]:
        return pred.float() @ self.components.T + self.mean


class TokenTarget(Target):
    """The discrete token that a tokenizer gives to the patch, predicted by cross entropy (as in BEiT, Bao et al., 2021).

    The tokenizer is frozen, and part of the target's state. A prediction is a distribution and is not turned back.

    Args:
        patchifier: puts the sample together again, which the tokenizer sees whole.
        tokenizer: one code a patch.
    """

    average_of = "the frequencies of the visible codes"
    local = False

    def __init__(self, patchifier: Patchifier, *, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.patchifier, self.tokenizer, self.dim = patchifier, tokenizer, tokenizer.vocabulary
        if isinstance(tokenizer, nn.Module):
            tokenizer.requires_grad_(False)

    def train(self, mode: bool = True) -> TokenTarget:
        """The tokenizer never trains along."""
        super().train(mode)
        if isinstance(self.tokenizer, nn.Module):
            self.tokenizer.eval()
        return self

    @torch.no_grad()
    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Int[Tensor, "batch patch 1"]:
        # Outside autocast: a code must not depend on the precision that the model trains in.
        with torch.autocast(patches.device.type, enabled=False):
            codes = self.tokenizer.codes(self.patchifier.unpatchify(patches.float()))
        if tuple(codes.shape) != tuple(patches.shape[:2]):
            raise ValueError(
                f"the tokenizer gives codes of shape {tuple(codes.shape)}, expected one a patch: {tuple(patches.shape[:2])}"
            )
        return codes[..., None].long()

    def loss(self, pred: Float[Tensor, "batch patch code"], target: Int[Tensor, "batch patch 1"]) -> Tensor:
        logits = rearrange(pred.float(), "batch patch code -> batch code patch")
        return F.cross_entropy(logits, target[..., 0], reduction="none")

    def average(self, target: Int[Tensor, "batch patch 1"], visible: Bool[Tensor, "batch patch"]) -> Tensor:
        """Log frequencies of the codes of visible patches, one count a sample spread over the whole vocabulary."""
        counts = torch.zeros(len(target), self.dim, device=target.device)
        counts.scatter_add_(1, target[..., 0], visible.float())
        frequencies = (counts + 1 / self.dim) / (counts.sum(1, keepdim=True) + 1)
        return frequencies.log()[:, None].expand(-1, target.shape[1], -1)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Nothing is learned here; but a tokenizer that says it was never trained is refused."""
        if not getattr(self.tokenizer, "trained", True):
            raise ValueError("the tokenizer was never trained; name the run of one: `tokenizer: runs/...`")


def squared_error(
    pred: Float[Tensor, "batch patch out"], target: Float[Tensor, "batch patch out"]
) -> Float[Tensor, "batch patch"]:
    """Mean over the numbers of each patch, in float32."""
    return reduce((pred.float() - target.float()) ** 2, "batch patch out -> batch patch", "mean")


def nothing_removed(patches: Float[Tensor, "batch patch dim"]) -> PatchStatistics:
    """Statistics of a target whose predictions are in the unit of the patches."""
    mean = torch.zeros_like(patches[..., :1])
    return PatchStatistics(mean, torch.ones_like(mean))


def mean_patch(
    target: Float[Tensor, "batch patch dim"], visible: Bool[Tensor, "batch patch"]
) -> Float[Tensor, "batch patch dim"]:
    """Everywhere the mean of the sample's visible patches."""
    shown = torch.where(visible[..., None], target, 0.0)
    mean = reduce(shown, "batch patch dim -> batch 1 dim", "sum") / visible.sum(1).clamp(min=1)[:, None, None]
    return mean.expand_as(target)
