"""Is the encoder still telling samples apart? Two numbers over a batch of embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def embedding_std(embeddings: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """Mean over dimensions of the standard deviation across samples: near zero when all embeddings are alike."""
    return embeddings.float().std(dim=0).mean()


def effective_rank(embeddings: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """exp(entropy) of the normalised singular values of the centred embeddings (Roy & Vetterli, 2007).

    Between 1 (a line) and min(batch - 1, width). NaN where the embeddings are not finite, as after divergence.
    """
    centred = embeddings.float() - embeddings.float().mean(dim=0)
    if not centred.isfinite().all():
        return centred.new_tensor(torch.nan)
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=1e-12)
    return (-(share * share.clamp(min=1e-12).log()).sum()).exp()
