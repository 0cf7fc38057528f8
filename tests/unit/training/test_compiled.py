"""A compiled training step is one graph: nothing in it breaks out to Python, whatever the batch and the augmentations."""

from __future__ import annotations

from functools import partial
from typing import Any

import jaxtyping
import pytest
import torch

from maekit.adapter import BatchAugmentation, Front
from maekit.config.load import load_recipe
from maekit.core import GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig
from maekit.core.autoencoder import Encoder
from maekit.tasks.classification import Classification
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.task import Batch, Task
from maekit.training.distributed import Process
from maekit.training.step import TrainStep

PATCHIFIER = GridPatchifier((1, 6, 16), (2, 4))
SIZE = TransformerConfig(8, 1, 2, drop_path=0.1)


class Dropout(BatchAugmentation):
    def __call__(self, x: Any, rng: Any) -> Any:
        return x * torch.from_numpy(rng.random(x.shape) < 0.5).to(x)


def pretraining(attention: Any) -> Task:
    model = MaskedAutoencoder(
        PATCHIFIER,
        encoder=SIZE,
        decoder=SIZE,
        masking=RandomMasking(PATCHIFIER),
        decoder_attention=attention,
        cross_mask_ratio=0.5 if attention == "cross" else 1.0,
    )
    return Pretraining(varying(), model, mix=0.5)


def classification() -> Task:
    return Classification(varying(), Encoder(PATCHIFIER, SIZE), classes=["a", "b"], mixup=0.8, cutmix=1.0)


def labelled(**options: Any) -> Batch:
    return batch(**options) | {"label": torch.arange(4) % 2}


def varying() -> Front:
    front = Front(PATCHIFIER)
    front.set_augmentations([Dropout()])
    return front


def batch(*, gaps: bool) -> Batch:
    torch.manual_seed(1)
    found = {"signal": torch.randn(4, 1, 6, 16), "noise": torch.rand(4, 12), "index": torch.arange(4)}
    if gaps:
        found["valid"] = torch.ones(4, 6, 16, dtype=torch.bool)
        found["valid"][:, :, 12:] = False
        found["valid"][1, :, :6] = False
    return found


@pytest.mark.parametrize(
    ("make", "read", "gaps"),
    [
        (partial(pretraining, "self"), batch, False),
        (partial(pretraining, "self"), batch, True),
        (partial(pretraining, "cross"), batch, True),
        (classification, labelled, False),
    ],
    ids=["self", "self-gaps", "cross-gaps", "classes"],
)
def test_a_step_is_one_graph_and_gives_the_same(
    make: Any, read: Any, gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    # Traced as ever, and run as it was traced: without a C++ compiler, and in seconds.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, fullgraph=True, backend="eager"))
    monkeypatch.setattr("maekit.training.device.shutil.which", lambda name: name)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # its checks of shapes cannot be traced
    for compiled in (True, False):
        recipe = load_recipe("heart_rate/radar_phase_pretrain", [f"training.compile={str(compiled).lower()}"]).recipe
        torch.manual_seed(0)
        step = TrainStep(make(), recipe, Process(0, 1, torch.device("cpu")))
        assert (step.compiled is not step.module) == compiled
        torch.manual_seed(2)
        losses[compiled] = step.forward_backward(read(gaps=gaps)).loss
        assert all(p.grad is not None for p in step.task.parameters() if p.requires_grad)
    torch.testing.assert_close(losses[True], losses[False])
