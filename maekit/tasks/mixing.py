"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019): samples of a batch and their labels, mixed in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maekit.core.random_seed import draw_seed
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mixing:
    """timm's Mixup over a whole batch, drawn by torch's generator so that a resumed run draws the same.

    A mixture is measured where both of its samples are.

    Args:
        sample_shape: (channels, *axes); CutMix cuts a box out of the last two axes and needs exactly two.
        classes: how many.
        mixup, cutmix, prob, switch_prob, smoothing: as in `maekit.tasks.classification.Classification`.

    Raises:
        ValueError: parameters out of range, or CutMix on other than two axes.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        classes: int,
        *,
        mixup: float,
        cutmix: float,
        prob: float,
        switch_prob: float,
        smoothing: float,
    ) -> None:
        from timm.data import Mixup

        for name, value in {"mixup": mixup, "cutmix": cutmix}.items():
            if value < 0:
                raise ValueError(f"{name}={value}, expected 0 (never) or the positive parameter of a beta distribution")
        for name, value in {"mixup_prob": prob, "switch_prob": switch_prob}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}, expected a share from 0 to 1")
        if cutmix and len(sample_shape) != 3:
            raise ValueError(
                f"cutmix={cutmix} cuts boxes out of two axes, but samples are {tuple(sample_shape)}: use mixup"
            )
        self._mixup = Mixup(mixup, cutmix, None, prob, switch_prob, "batch", True, smoothing, classes)

    def __call__(
        self,
        x: Float[Tensor, "batch *sample"],
        measured: Bool[Tensor, "batch patch"] | None,
        label: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch patch"] | None, Float[Tensor, "batch classes"]]:
        """Mixed samples, where they are measured, and soft labels. An odd batch goes without its last sample."""
        even = len(x) - len(x) % 2
        if even < 2:
            raise UserError(
                "a batch of one cannot be mixed",
                location="task.mixup, task.cutmix",
                expected="at least two samples",
                hint="Take larger batches, or more at once (training.gradient_accumulation_steps, training.micro_batch).",
            )
        before = np.random.get_state()
        np.random.seed(draw_seed())
        try:
            x, target = self._mixup(x[:even].clone(), label[:even])
        finally:
            np.random.set_state(before)
        if measured is not None:
            measured = measured[:even] & measured[:even].flip(0)
        return x, measured, target
