"""Optimizer steps, parameter groups and moving average against their formulas and against independent code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from vitmae_pair import find, pair

from maekit.build.open_run import open_run
from maekit.config.schema import Optimizer, Training
from maekit.core import Encoder, GridPatchifier, PatchNormTarget, TransformerConfig
from maekit.runs.evaluate import evaluate
from maekit.runs.train import finetune, pretrain
from maekit.tasks.classification import Classification
from maekit.tasks.mixing import Mixing
from maekit.tasks.pretraining import Pretraining
from maekit.training import checkpoint
from maekit.training.loop import TrainProgress
from maekit.training.optimizer import make_optimizer, parameter_groups, set_learning_rate
from maekit.training.run import Run


class StopError(Exception):
    """Stands for the end of the process."""


def stop_at(step: int) -> Callable[[TrainProgress], None]:
    def stop(progress: TrainProgress) -> None:
        if progress.step == step:
            raise StopError

    return stop


class Same(torch.nn.Module):
    def forward(self, x: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return x, valid


def classifier(**options: object) -> Classification:
    torch.manual_seed(0)
    encoder = Encoder(GridPatchifier((3, 16, 16), (8, 8)), TransformerConfig(24, 3, 3))
    task = Classification(Same(), encoder, classes=[str(i) for i in range(7)], **options)  # type: ignore[arg-type]
    with torch.no_grad():
        task.head.weight.normal_(std=0.1)
    return task


def labelled() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"signal": torch.randn(8, 3, 16, 16), "label": torch.arange(8) % 7, "index": torch.arange(8)}


def test_five_steps_of_pretraining_equal_transformers() -> None:
    """Weights, losses and AdamW with the published groups, step by step."""
    ours, theirs = pair((3, 32, 32), 8, PatchNormTarget)
    task = Pretraining(Same(), ours)
    mine = make_optimizer(task, Optimizer(weight_decay=0.05))
    named = [(n, p) for n, p in theirs.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step in range(5):
        x, noise = torch.randn(4, 3, 32, 32), torch.rand(4, 16)
        rate = 1e-3 * (step + 1)
        set_learning_rate(mine, rate)
        for group in reference.param_groups:
            group["lr"] = rate
        loss, expected = task({"signal": x, "noise": noise}).loss, theirs(x, noise=noise).loss
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for value, optimizer in ((loss, mine), (expected, reference)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    own: dict[str, torch.Tensor] = dict(ours.named_parameters())
    for name, parameter in named:
        # Adam divides by the gradient's magnitude; that of the keys' bias is rounding error alone, so it is not compared.
        if not name.endswith(("key.bias", "k_proj.bias")):
            torch.testing.assert_close(find(name, own, 8, 3), parameter, rtol=2e-3, atol=2e-4, msg=name)


def test_layer_decay_equals_timms() -> None:
    """Scales and decays of each parameter as timm's `param_groups_layer_decay` has them, with the published exemptions."""
    from timm.models.vision_transformer import VisionTransformer
    from timm.optim import param_groups_layer_decay

    theirs = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=7, global_pool="avg", fc_norm=True
    )
    expected = {}
    for group in param_groups_layer_decay(
        theirs, 0.05, no_weight_decay_list=["cls_token", "pos_embed"], layer_decay=0.75
    ):
        for parameter in group["params"]:
            name = next(n for n, p in theirs.named_parameters() if p is parameter)
            expected[name.replace("fc_norm", "norm")] = (group["weight_decay"], group["lr_scale"])
    task = classifier()
    names = {id(p): n.removeprefix("encoder.") for n, p in task.named_parameters()}
    found = {
        names[id(p)]: (g["weight_decay"], g["lr_scale"])
        for g in parameter_groups(task, weight_decay=0.05, layer_decay=0.75)
        for p in g["params"]
    }
    assert found.keys() == expected.keys()
    for name, (decay, scale) in expected.items():
        assert found[name] == (decay, pytest.approx(scale)), name


def test_five_lars_steps_equal_the_formula() -> None:
    """You et al. (2017) as the linear probe takes it: weights adapt, biases do not, momentum on the scaled gradient."""
    task = classifier(tune="frozen", pooling="class")
    optimizer = make_optimizer(task, Optimizer(name="lars", weight_decay=0.0, momentum=0.9, trust_coefficient=0.001))
    weight, bias = task.head.weight.detach().clone(), task.head.bias.detach().clone()
    speed_w, speed_b = torch.zeros_like(weight), torch.zeros_like(bias)
    batch = labelled()
    for step in range(5):
        rate = 3.0 * step
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad()
        task(batch).loss.backward()
        g, h = task.head.weight.grad, task.head.bias.grad
        assert g is not None
        assert h is not None
        speed_w = 0.9 * speed_w + g * 0.001 * weight.norm() / g.norm()
        speed_b = 0.9 * speed_b + h
        weight, bias = weight - rate * speed_w, bias - rate * speed_b
        optimizer.step()
        torch.testing.assert_close(task.head.weight.detach(), weight)
        torch.testing.assert_close(task.head.bias.detach(), bias)
    assert not torch.equal(task.head.weight, classifier(tune="frozen").head.weight)


def test_lars_trains_and_resumes(tiny: Path, tmp_path: Path) -> None:
    base = pretrain(tiny, runs=tmp_path / "base").folder
    options = ["task={name: regression, tune: frozen}", "optimizer={name: lars, weight_decay: 0, base_lr: 10}"]
    whole = finetune(tiny, base, runs=tmp_path / "whole", overrides=options).folder

    with pytest.raises(StopError):
        finetune(tiny, base, runs=tmp_path / "part", overrides=options, watch=stop_at(5))
    part = finetune(tiny, base, runs=tmp_path / "part", overrides=options).folder
    rows = [[(row["step"], row["loss"]) for row in Run(folder).rows()] for folder in (whole, part)]
    assert rows[0] == rows[1]


def test_moving_average(tiny: Path, tmp_path: Path) -> None:
    """It equals the formula over the weights of every step; it is saved, resumed, evaluated and exported."""
    keep = ["training.ema=0.7", "training.save_every_steps=1", "training.keep_checkpoints=20"]
    folder = pretrain(tiny, runs=tmp_path / "a", overrides=keep).folder
    saved = [checkpoint.load(folder / "checkpoints" / f"step-{step:09d}") for step in range(1, 11)]
    name = "model.encoder.blocks.0.mlp.fc1.weight"
    expected = saved[0].tensors["model"][name]
    for later in saved[1:]:
        expected = 0.7 * expected + 0.3 * later.tensors["model"][name]
    torch.testing.assert_close(saved[-1].tensors["average"][name], expected)
    _, task = open_run(folder)
    assert torch.equal(dict(task.named_parameters())[name], saved[-1].tensors["average"][name])
    last = [row for row in Run(folder).rows() if row["kind"] == "validation"][-1]
    assert evaluate(folder, side="validation")["loss"] == pytest.approx(last["loss"], rel=1e-5)

    with pytest.raises(StopError):
        pretrain(tiny, runs=tmp_path / "b", overrides=keep, watch=stop_at(7))
    again = pretrain(tiny, runs=tmp_path / "b", overrides=keep).folder
    resumed = checkpoint.load(again / "checkpoints" / "step-000000010")
    assert all(torch.equal(a, saved[-1].tensors["average"][n]) for n, a in resumed.tensors["average"].items())


def count_saved_for_backward(task: Classification) -> int:
    """Run a step, and count the numbers that its forward pass saves for the backward pass."""
    sizes = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = task(labelled()).loss
    count = sum(sizes)
    loss.backward()
    return count


def test_recomputed_activations_change_nothing() -> None:
    gradients = []
    for recomputed in (False, True):
        task = classifier()
        if recomputed:
            task.set_grad_checkpointing()
        gradients.append(
            (count_saved_for_backward(task), {n: p.grad for n, p in task.named_parameters() if p.grad is not None})
        )
    (all_activations, expected), (few_activations, recomputed_gradients) = gradients
    assert few_activations < 0.5 * all_activations
    assert len(expected) == len(recomputed_gradients) > 40
    assert all(torch.equal(expected[name], recomputed_gradients[name]) for name in expected)


@pytest.mark.parametrize(
    ("options", "processes", "expected"),
    [
        ({"batch_size": 4096, "micro_batch": 64}, 8, 8),
        ({"batch_size": 4096, "micro_batch": 64}, 64, 1),
        ({"batch_size": 4096, "micro_batch": 100}, 8, 8),
        ({"batch_size": 12, "micro_batch": 5}, 1, 3),
        ({"batch_size": 12, "gradient_accumulation_steps": 2}, 3, 2),
        ({"batch_size": 12}, 2, 1),
        ({"batch_size": 7, "micro_batch": 2}, 1, 7),
    ],
)
def test_micro_batches_keep_the_effective_batch(options: dict[str, Any], processes: int, expected: int) -> None:
    assert Training(**options).micro_batches(processes) == expected


def test_accumulation_changes_no_loss(tiny: Path, tmp_path: Path) -> None:
    still = ["model.encoder.drop_path=0"]
    whole = Run(pretrain(tiny, runs=tmp_path / "a", overrides=still).folder).rows()
    parts = Run(pretrain(tiny, runs=tmp_path / "b", overrides=[*still, "training.micro_batch=1"]).folder).rows()
    assert [r["loss"] for r in parts] == pytest.approx([r["loss"] for r in whole], rel=1e-4)


def test_partial_tuning_in_halves() -> None:
    def trained(blocks: float) -> set[str]:
        task = classifier(tune="partial", tuned_blocks=blocks, pooling="class")
        return {n.rpartition(".")[0] for n, p in task.named_parameters() if p.requires_grad}

    end = {"encoder.norm", "head"}
    half = {f"encoder.blocks.2.{part}" for part in ("norm2", "mlp.fc1", "mlp.fc2")}
    assert trained(0) == end
    assert trained(0.5) == end | half
    assert trained(1) == end | half | {f"encoder.blocks.2.{part}" for part in ("norm1", "attn.qkv", "attn.proj")}
    assert trained(1.5) > trained(1)
    for wrong in (3.5, -1, 0.3):
        with pytest.raises(ValueError, match="in halves"):
            trained(wrong)


def test_mixing_is_timms_and_repeatable() -> None:
    import numpy as np

    mixing = Mixing((3, 16, 16), 7, mixup=0.8, cutmix=1.0, prob=1.0, switch_prob=0.5, smoothing=0.1)
    batch = labelled()
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    torch.manual_seed(5)
    results = [mixing(batch["signal"], None, batch["label"]) for _ in range(400)]
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all(), "numpy's own generator is left alone"
    torch.manual_seed(5)
    assert torch.equal(mixing(batch["signal"], None, batch["label"])[0], results[0][0])
    boxes = 0
    shares = []
    for x, _, target in results:
        torch.testing.assert_close(target.sum(1), torch.ones(8))
        # The share of the first sample is what its label weighs, smoothing taken off.
        share = ((target[0, 0] - 0.1 / 7) / 0.9).item()
        own = (x[0] == batch["signal"][0]).all(0)
        other = (x[0] == batch["signal"][7]).all(0)
        if (own | other).all():
            boxes += 1
            # Sample 7 has the label 0 too, sample 1 and 6 do not.
            kept = (x[1] == batch["signal"][1]).all(0).float().mean().item()
            assert (target[1, 1] - 0.1 / 7).item() / 0.9 == pytest.approx(kept, abs=1e-5)
        else:
            weight = (target[1, 1] - 0.1 / 7).item() / 0.9
            torch.testing.assert_close(
                x[1], weight * batch["signal"][1] + (1 - weight) * batch["signal"][6], atol=1e-4, rtol=0
            )
        shares.append(share)
    assert 0.4 < boxes / 400 < 0.6
    with pytest.raises(ValueError, match="two axes"):
        Mixing((1, 100), 7, mixup=0.0, cutmix=1.0, prob=1.0, switch_prob=0.5, smoothing=0.0)


def test_mixed_training_never_reaches_evaluation() -> None:
    task = classifier(mixup=0.8, cutmix=1.0, smoothing=0.1)
    batch = labelled()
    torch.manual_seed(0)
    mixed = task(batch).loss
    assert not torch.equal(mixed, task.eval()(batch).loss)
    plain = classifier(smoothing=0.1).eval()(batch).loss
    assert torch.equal(task(batch).loss, plain)
    found = task.compute_metrics(task.eval_step(batch))
    assert 0 <= found["accuracy"] <= found["top5"] <= 1
