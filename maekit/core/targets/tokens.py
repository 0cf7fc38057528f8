"""Discrete tokens as the target, predicted by cross entropy (as in BEiT, Bao et al., 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maekit.core.targets.base import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maekit.core.patchify import Patchifier
    from maekit.core.tokenizer import Tokenizer


class TokenTarget(Target):
    """The token that a tokenizer assigns to the patch.

    The tokenizer is frozen, and part of the target's state. A prediction is a distribution and is not turned back.

    Args:
        patchifier: reassembles the sample, which the tokenizer reads as a whole.
        tokenizer: gives one code for each patch.
    """

    average_of = "the frequencies of the visible codes"

    def __init__(self, patchifier: Patchifier, *, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.patchifier, self.tokenizer, self.dim = patchifier, tokenizer, tokenizer.vocabulary
        if isinstance(tokenizer, nn.Module):
            tokenizer.requires_grad_(False)

    def train(self, mode: bool = True) -> TokenTarget:
        """Set the training mode, except of the tokenizer, which always evaluates."""
        super().train(mode)
        if isinstance(self.tokenizer, nn.Module):
            self.tokenizer.eval()
        return self

    @torch.no_grad()
    def forward(
        self, patches: Float[Tensor, "batch patch dim"], valid: Bool[Tensor, "batch patch"] | None = None
    ) -> Int[Tensor, "batch patch 1"]:
        """The code of each patch.

        Raises:
            ValueError: a tokenizer that does not give one code for each patch.
        """
        del valid
        # Outside autocast: a code must not depend on the precision that the model trains in.
        with torch.autocast(patches.device.type, enabled=False):
            codes = self.tokenizer.codes(self.patchifier.unpatchify(patches.float()))
        if tuple(codes.shape) != tuple(patches.shape[:2]):
            raise ValueError(
                f"the tokenizer gives codes of shape {tuple(codes.shape)}, expected one a patch: {tuple(patches.shape[:2])}"
            )
        return rearrange(codes.long(), "batch patch -> batch patch 1")

    def loss(
        self, pred: Float[Tensor, "batch patch code"], target: Int[Tensor, "batch patch 1"]
    ) -> Float[Tensor, "batch patch"]:
        """Cross entropy of each patch."""
        logits = rearrange(pred.float(), "batch patch code -> batch code patch")
        return nn.functional.cross_entropy(logits, target[..., 0], reduction="none")

    def average(
        self, target: Int[Tensor, "batch patch 1"], visible: Bool[Tensor, "batch patch"]
    ) -> Float[Tensor, "batch patch code"]:
        """Log frequencies of the codes of visible patches, smoothed by one count spread over the vocabulary."""
        counts = torch.zeros(len(target), self.dim, device=target.device)
        counts.scatter_add_(1, target[..., 0], visible.float())
        frequencies = (counts + 1 / self.dim) / (counts.sum(1, keepdim=True) + 1)
        return frequencies.log()[:, None].expand(-1, target.shape[1], -1)

    def fit(self, patches: Iterable[Float[Tensor, "patch dim"]]) -> None:
        """Nothing is learned here.

        Raises:
            ValueError: a tokenizer that was never trained.
        """
        del patches
        if not getattr(self.tokenizer, "trained", True):
            raise ValueError("the tokenizer was never trained; name the run of one: `tokenizer: runs/...`")
