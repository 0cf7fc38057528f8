"""Convolutional encoders: one token a patch, independence of removed and invalid patches, and all commands with them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.build.open_run import open_run
from maekit.build.prepare import random_task
from maekit.core import CNN, TCN, GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig, mask_patches
from maekit.core.encoders.cnn import prime_factors, spread_factors
from maekit.errors import UserError
from maekit.interop.weight_export import export_weights
from maekit.runs.embed import embeddings
from maekit.runs.reconstruct import reconstruct
from maekit.runs.train import finetune, pretrain
from maekit.tasks.regression import Regression
from maekit.training import checkpoint
from maekit.training.distributed import Process

LINE = GridPatchifier((2, 60), (10,), ("time",))
PLANE = GridPatchifier((1, 12, 8), (6, 4), ("range", "doppler"))
KINDS = [CNN, TCN]
CNN_MODEL = "model.backbone={name: cnn, width: 8, depth: 2, kernel: 3}"
TCN_MODEL = "model.backbone={name: tcn, width: 8, depth: 2, kernel: 3}"


def autoencoder(kind: Any, patchifier: GridPatchifier, **options: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    encoder = kind(patchifier, width=8, depth=3, kernel=3)
    decoder = TransformerConfig(8, 1, 2)
    masking = RandomMasking(patchifier)
    return MaskedAutoencoder(
        patchifier, encoder=encoder, decoder=decoder, masking=masking, mask_ratio=0.5, **options
    ).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patchifier", [LINE, PLANE])
def test_one_token_a_patch_and_one_for_the_sample(kind: Any, patchifier: GridPatchifier) -> None:
    encoder = kind(patchifier, width=8, depth=3, kernel=3)
    x = torch.randn(2, *patchifier.sample_shape)
    assert encoder(x).shape == (2, 1 + prod(patchifier.grid_size), 8)
    strides = [block.stride for block in encoder.blocks]
    assert tuple(prod(line) for line in zip(*strides, strict=True)) == patchifier.patch_size


@settings(max_examples=50, deadline=None)
@given(number=st.integers(1, 400), depth=st.integers(1, 12))
def test_strides_make_the_patch(number: int, depth: int) -> None:
    factors = prime_factors(number)
    assert prod(factors) == number
    steps = spread_factors(factors, depth)
    assert (len(steps), prod(steps)) == (depth, number)
    if depth >= len(factors):
        assert sorted(step for step in steps if step > 1) == factors


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patchifier", [LINE, PLANE])
@pytest.mark.parametrize("gaps", [False, True])
def test_removed_and_invalid_patches_are_not_read(
    kind: Any, patchifier: GridPatchifier, gaps: bool, cross: bool
) -> None:
    """Other values in removed patches, or NaN in invalid ones, change neither tokens nor predictions."""
    model = autoencoder(kind, patchifier, decoder_attention="cross" if cross else "self")
    patches = prod(patchifier.grid_size)
    x, noise = torch.randn(3, *patchifier.sample_shape), torch.rand(3, patches)
    valid = torch.ones(3, patches, dtype=torch.bool)
    valid[0, 1] = valid[1, :2] = False
    measured = valid if gaps else None
    mask = mask_patches(noise, 0.5, measured)
    other = patchifier.patchify(x).clone()
    other[mask.mask] = 1e3 * torch.randn_like(other[mask.mask])
    kept = [model.encoder.encode(cut, measured, mask) for cut in (patchifier.patchify(x), other)]
    assert torch.equal(*kept)
    assert kept[0].isfinite().all()
    seen = other.clone()
    if gaps:
        other[~valid] = torch.nan
    pred = [model(signal, valid=measured, noise=noise).pred for signal in (x, patchifier.unpatchify(other))]
    assert torch.equal(*pred)
    seen[~mask.mask & valid] += 1
    assert not torch.equal(kept[0], model.encoder.encode(seen, measured, mask))


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_over_one_position(kind: Any) -> None:
    """Tokens far from invalid patches do not change: norms have no statistics over positions."""
    patchifier = GridPatchifier((1, 400), (10,), ("time",))
    encoder = kind(patchifier, width=8, depth=2, kernel=3).eval()
    x = torch.randn(1, 1, 400)
    valid = torch.ones(1, 40, dtype=torch.bool)
    valid[0, 30:] = False
    torch.testing.assert_close(encoder(x)[:, 1:21], encoder(x, valid)[:, 1:21])


def test_a_sample_may_be_longer_than_in_pretraining() -> None:
    short, long = (CNN(GridPatchifier((1, n), (10,)), width=8, depth=2) for n in (100, 300))
    long.load_state_dict(short.state_dict())
    assert long(torch.randn(1, 1, 300)).shape == (1, 31, 8)


@pytest.mark.parametrize(
    ("patchifier", "options", "message"),
    [
        (LINE, {"kernel": 4}, "kernel=4.*an odd kernel"),
        (LINE, {"depth": 0}, "depth=0"),
        (GridPatchifier((1, 4, 4, 4, 4), (2, 2, 2, 2)), {}, "one to three axes"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_sizes_are_refused(kind: Any, patchifier: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(patchifier, **options)


def test_a_mask_token_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"encoder_mask_tokens: CNN has no mask token"):
        random_task(tiny, overrides=[CNN_MODEL, "model.encoder_mask_tokens=true"])


def test_layers_decay_and_tune_by_block() -> None:
    task = Regression(
        torch.nn.Identity(), CNN(LINE, width=8, depth=3), mean=0.0, std=1.0, tune="partial", tuned_blocks=1
    )
    depths = {task.depth_of(name) for name, p in task.named_parameters() if p.requires_grad}
    assert depths == {3, None}
    assert task.depth_of("encoder.stem.weight") == 0
    with pytest.raises(ValueError, match="halves are of a transformer's blocks"):
        Regression(
            torch.nn.Identity(), CNN(LINE, width=8, depth=3), mean=0.0, std=1.0, tune="partial", tuned_blocks=1.5
        )


LABELLED = ["task.name=regression", "name=tuned"]


@pytest.mark.parametrize("model", [CNN_MODEL, TCN_MODEL])
def test_every_command(tiny: Path, tmp_path: Path, model: str) -> None:
    """Pretrain, resume, fine-tune, probe, embed, reconstruct and export."""
    whole = pretrain(tiny, runs=tmp_path / "whole", overrides=[model])

    def stop(progress: Any) -> None:
        if progress.step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pretrain(tiny, runs=tmp_path, overrides=[model], watch=stop)
    run = pretrain(tiny, runs=tmp_path, overrides=[model]).folder
    a, b = (checkpoint.load_newest(folder / "checkpoints")[0] for folder in (whole.folder, run))
    assert a is not None
    assert b is not None
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    tuned = finetune(tiny, run, runs=tmp_path, overrides=[model, *LABELLED]).folder
    probed = [model, "task.name=regression", "name=probed", "task.tune=frozen"]
    finetune(tiny, run, runs=tmp_path, overrides=[*probed, "training.activation_checkpointing=true"])
    experiment, task = open_run(tuned)
    features, _ = embeddings(experiment, task, "test", Process(0, 1, torch.device("cpu")))
    assert features.shape == (len(experiment.split["test"]), 8)
    assert reconstruct(run, tmp_path / "drawn", count=1)
    assert export_weights(tuned, tmp_path / "all.safetensors", "safetensors")
    for form in ("timm", "official", "huggingface"):
        with pytest.raises(UserError, match="an encoder of the kind"):
            export_weights(run, tmp_path / form, form)
    with pytest.raises(UserError, match=r"weights of another kind of encoder.*transformer"):
        finetune(tiny, run, runs=tmp_path, overrides=["task.name=regression", "name=other"])
