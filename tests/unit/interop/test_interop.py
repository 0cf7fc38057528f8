"""Weights of the MAE authors, timm and Hugging Face, both ways: names, numbers, and files that must not be trusted."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from maekit.build.open_run import open_run
from maekit.interop import huggingface, official
from maekit.interop.weight_export import export_weights
from maekit.interop.weight_import import import_weights
from maekit.runs.evaluate import evaluate, predictions
from maekit.runs.train import finetune, pretrain
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.transfer import Transfer

PRETRAIN = """\
name: mine
adapter: {name: image, size: 32, patch: 8, crop_ratio: 1.0}
data: {spec: spec.yaml, root: ROOT}
model:
  encoder: {width: 48, depth: 2, heads: 4}
  decoder: {width: 32, depth: 1, heads: 4}
schedule: {epochs: 1}
training: {batch_size: 6}
"""
CLASSIFY = "extends: pretrain.yaml\ntask: {name: classification}\n"
SPEC = "name: folder\ntitle: pictures\nkind: image_folder\nsplit: {train: [train], test: [test]}\n"


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with recipes and a data set of three classes."""
    rng = np.random.default_rng(0)
    for side, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog", "emu"):
            folder = tmp_path / "data" / side / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "pretrain.yaml").write_text(PRETRAIN.replace("ROOT", str(tmp_path / "data")))
    (tmp_path / "classify.yaml").write_text(CLASSIFY)
    return tmp_path


def vitmae(**options: Any) -> Any:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        **{
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 192,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 4,
            "decoder_intermediate_size": 128,
            "norm_pix_loss": True,
            "layer_norm_eps": 1e-6,
        }
        | options
    )
    model: Any = ViTMAEForPreTraining(config)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def autoencoder(run: Path) -> Pretraining:
    _, task = open_run(run)
    assert isinstance(task, Pretraining)
    return task.eval()


@pytest.mark.parametrize("saved", ["memory", "hub"])
def test_hugging_faces_weights_give_hugging_faces_numbers(recipes: Path, saved: str) -> None:
    theirs = vitmae()
    file = recipes / "model.safetensors"
    if saved == "hub":  # with the names of transformers 4
        theirs.save_pretrained(recipes / "hub")
        file = recipes / "hub" / "model.safetensors"
    else:
        save_file(theirs.state_dict(), file)
    import_weights(file, recipes / "pretrain.yaml", recipes / "run")
    ours = autoencoder(recipes / "run").model
    x, noise = torch.randn(3, 3, 32, 32), torch.rand(3, 16)
    mine, reference = ours(x, noise=noise), theirs(x, noise=noise)
    torch.testing.assert_close(mine.loss, reference.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.pred, reference.logits, atol=1e-5, rtol=1e-4)


def test_an_export_loads_in_transformers_with_no_word(recipes: Path) -> None:
    from transformers import ViTMAEForPreTraining

    run = pretrain(recipes / "pretrain.yaml", runs=recipes / "runs").folder
    export_weights(run, recipes / "vitmae", "huggingface")
    from_pretrained: Any = ViTMAEForPreTraining.from_pretrained
    theirs, loading_info = from_pretrained(recipes / "vitmae", output_loading_info=True)
    assert not any(loading_info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours = autoencoder(run).model
    x, noise = torch.randn(3, 3, 32, 32), torch.rand(3, 16)
    torch.testing.assert_close(ours(x, noise=noise).loss, theirs.eval()(x, noise=noise).loss, atol=1e-5, rtol=1e-5)
    assert "decoder.decoder_layers.0.attention.attention.query.weight" in load_file(
        recipes / "vitmae/model.safetensors"
    )


@pytest.mark.parametrize("form", ["official", "huggingface", "timm", "safetensors"])
def test_there_and_back_is_bit_exact(recipes: Path, form: str) -> None:
    run = pretrain(recipes / "pretrain.yaml", runs=recipes / "runs").folder
    target = recipes / {"official": "w.pth", "huggingface": "folder"}.get(form, "w.safetensors")
    export_weights(run, target, form)
    before = autoencoder(run).state_dict()
    if form == "safetensors":
        after = load_file(target)
    else:
        file = target / "model.safetensors" if target.is_dir() else target
        notes = import_weights(file, recipes / "pretrain.yaml", recipes / "again", partial=form == "timm")
        assert (form == "timm") == any("missing: model.decoder.* (" in note for note in notes)
        after = autoencoder(recipes / "again").state_dict()
    for name, value in before.items():
        if form != "timm" or "decoder" not in name:
            assert torch.equal(value, after[name]), name
    with pytest.raises(Exception, match="would overwrite"):
        export_weights(run, target, form)


@pytest.mark.parametrize(("size", "patch"), [("base", 16), ("large", 16), ("huge", 14)])
def test_names_and_shapes_are_timms_at_full_size(size: str, patch: int) -> None:
    import timm

    from maekit.core import PRESETS, Encoder, GridPatchifier

    with torch.device("meta"):
        theirs = timm.create_model(f"vit_{size}_patch{patch}_224.mae", pretrained=False).state_dict()
        patchifier = GridPatchifier((3, 224, 224), (patch, patch))
        ours = Encoder(patchifier, PRESETS[f"vit_{size}"]).state_dict()
        written = official.write({f"encoder.{name}": value for name, value in ours.items()}, 3, (patch, patch))
    assert {name: value.shape for name, value in written.items()} == {name: v.shape for name, v in theirs.items()}


def fine_tuned(classes: int = 3, pool: str = "avg") -> torch.nn.Module:
    """timm's classifier on pooled patches, as the MAE authors fine-tune, or on the class `token`."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=2,
        num_heads=4,
        num_classes=classes,
        global_pool=pool,
        fc_norm=pool == "avg",
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_the_published_evaluation_of_an_imported_classifier(recipes: Path) -> None:
    """Logits of timm fed by torchvision's transforms, from the authors' file, whose data came later."""
    from torchvision.transforms import v2

    theirs = fine_tuned()
    arguments = argparse.Namespace(lr=1e-3, model="vit_base_patch16")
    torch.save({"model": theirs.state_dict(), "args": arguments, "epoch": 99}, recipes / "tuned.pth")
    adapter = ["adapter.crop_ratio=0.875"]
    import_weights(
        recipes / "tuned.pth",
        recipes / "classify.yaml",
        recipes / "run",
        overrides=[*adapter, "data.root=not/there/yet"],
    )
    here = [f"data.root={recipes / 'data'}"]
    metrics, rows = predictions(recipes / "run", overrides=here)
    # From tensors (the same arithmetic) and, as published, from Pillow's pictures, whose kernel differs by a level of 256.
    size, mean, std = int(32 / 0.875), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    cut = [v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)]
    exact = v2.Compose([v2.PILToTensor(), *cut, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    published = v2.Compose([*cut, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    files = [p for name in ("cat", "dog", "emu") for p in sorted((recipes / "data/test" / name).iterdir())]
    pictures = [Image.open(file) for file in files]
    with torch.inference_mode():
        logits, same = (theirs(torch.stack([t(picture) for picture in pictures])) for t in (published, exact))
    torch.testing.assert_close(torch.from_numpy(rows["output"]), same, atol=1e-5, rtol=1e-5)
    assert np.abs(rows["output"] - logits.numpy()).max() < 0.02 * logits.std().item()
    assert metrics["accuracy"] == pytest.approx((logits.argmax(1).numpy() == rows["label"]).mean())
    written = export_weights(recipes / "run", recipes / "back.safetensors", "timm", overrides=["data.root=not/there"])
    assert written
    theirs.load_state_dict(load_file(recipes / "back.safetensors"))


@pytest.mark.parametrize(("pool", "pooling"), [("avg", "mean"), ("token", "class")])
def test_five_steps_of_fine_tuning_equal_timms(recipes: Path, pool: str, pooling: str) -> None:
    """From the same weights, in double precision: losses, gradients and weights, with layer decay, each by its own groups."""
    from timm.optim import param_groups_layer_decay

    from maekit.config.schema import Optimizer
    from maekit.training.optimizer import make_optimizer, set_learning_rate

    theirs = fine_tuned(pool=pool).train()
    torch.save(theirs.state_dict(), recipes / "bare.pth")
    import_weights(
        recipes / "bare.pth", recipes / "classify.yaml", recipes / "run", overrides=[f"task.pooling={pooling}"]
    )
    _, task = open_run(recipes / "run")
    assert isinstance(task, Transfer)
    task.train().double()
    theirs.double()
    mine = make_optimizer(task, Optimizer(betas=(0.9, 0.999), layer_decay=0.75))
    groups = param_groups_layer_decay(theirs, 0.05, no_weight_decay_list=["cls_token", "pos_embed"], layer_decay=0.75)
    # timm counts the last norm as part of the last block, the MAE authors (and we) as part of the head.
    norm = list(theirs.get_submodule("norm").parameters())
    for group in groups:
        group["params"] = [p for p in group["params"] if not any(p is other for other in norm)]
    groups.append({"params": norm, "weight_decay": 0.0, "lr_scale": 1.0})
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.999))

    def equal(own: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
        translated = official.write({n: v for n, v in own.items() if not n.startswith("front.")}, 3, (8, 8))
        assert translated.keys() == other.keys()
        for name, value in other.items():
            torch.testing.assert_close(translated[name], value, rtol=1e-5, atol=1e-7, msg=name)

    for step in range(5):
        x, label = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), torch.arange(6) % 3
        set_learning_rate(mine, 1e-3 * (step + 1))
        for group in reference.param_groups:
            group["lr"] = 1e-3 * (step + 1) * group["lr_scale"]
        loss = task({"signal": x, "label": label}).loss
        expected = torch.nn.functional.cross_entropy(theirs(task.front(x)[0]).float(), label)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        for value, optimizer in ((loss, mine), (expected, reference)):
            optimizer.zero_grad()
            value.backward()
        gradients = [{n: p.grad for n, p in model.named_parameters() if p.grad is not None} for model in (task, theirs)]
        equal(*gradients)
        for optimizer in (mine, reference):
            optimizer.step()
        equal(task.state_dict(), theirs.state_dict())


def test_an_encoder_alone_is_enough_to_fine_tune_at_another_size(recipes: Path) -> None:
    save_file(official.write(encoder_of(vitmae()), 3, (8, 8)), recipes / "encoder.safetensors")
    with pytest.raises(Exception, match=r"missing: model\.decoder\.\*") as said:
        import_weights(recipes / "encoder.safetensors", recipes / "pretrain.yaml", recipes / "run")
    assert "--partial" in str(said.value)
    assert not (recipes / "run").exists()
    import_weights(recipes / "encoder.safetensors", recipes / "pretrain.yaml", recipes / "run", partial=True)
    larger = ["adapter.size=64", "data.label_fraction=1.0"]
    tuned = finetune(recipes / "classify.yaml", recipes / "run", runs=recipes / "runs", overrides=larger).folder
    assert evaluate(tuned)["accuracy"] >= 0
    with pytest.raises(Exception, match=r"patch_embed.proj.weight \(48, 192\) for \(48, 48\)"):
        finetune(recipes / "classify.yaml", recipes / "run", runs=recipes / "r2", overrides=["adapter.patch=4"])


def encoder_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: v for n, v in huggingface.read(model.state_dict()).items() if n.startswith("encoder.")}


def test_positions_of_another_size_are_resampled_on_import(recipes: Path) -> None:
    save_file(vitmae(image_size=64).state_dict(), recipes / "larger.safetensors")
    notes = import_weights(recipes / "larger.safetensors", recipes / "pretrain.yaml", recipes / "run")
    assert any("encoder.pos_embed resampled from 65 to 17" in note for note in notes)


class Payload:
    def __init__(self, location: Path) -> None:
        self.location = str(location)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.location,)


def test_files_that_must_not_be_trusted(recipes: Path) -> None:
    good = recipes / "good.pth"
    torch.save({"model": vitmae().state_dict()}, good)
    content = good.read_bytes()
    sealed = recipes / "executed"
    files = {
        "poisoned.pth": lambda p: torch.save({"model": Payload(sealed)}, p),
        "old_poison.pth": lambda p: p.write_bytes(pickle.dumps({"model": Payload(sealed)})),
        "bare_poison.bin": lambda p: p.write_bytes(pickle.dumps(Payload(sealed), protocol=0)),
        "cut.pth": lambda p: p.write_bytes(content[: len(content) // 2]),
        "empty.pth": lambda p: p.write_bytes(b""),
        "page.pth": lambda p: p.write_text("<!doctype html><title>404</title>"),
        "cut.safetensors": lambda p: p.write_bytes((1000).to_bytes(8, "little") + b'{"a'),
        "text.pth": lambda p: torch.save({"epoch": 3}, p),
        "list.pth": lambda p: torch.save([1, 2], p),
    }
    expected = {
        "poisoned.pth": "asks for more than tensors",
        "old_poison.pth": "asks for more than tensors",
        "bare_poison.bin": "neither safetensors nor",
        "cut.pth": "damaged",
        "empty.pth": "an empty file",
        "page.pth": "neither safetensors nor",
        "cut.safetensors": "damaged",
        "text.pth": "no weights",
        "list.pth": "no weights",
    }
    from maekit.errors import UserError

    for name, write in files.items():
        write(recipes / name)
        with pytest.raises(UserError, match=expected[name]):
            import_weights(recipes / name, recipes / "pretrain.yaml", recipes / "run")
        assert not (recipes / "run").exists()
    assert not sealed.exists()
    two = {"model": vitmae().state_dict(), "model_ema": vitmae().state_dict()}
    two["model_ema"]["vit.layernorm.bias"].fill_(7)
    torch.save(two, recipes / "two.pth")
    import_weights(recipes / "two.pth", recipes / "pretrain.yaml", recipes / "averaged", key="model_ema")
    averaged = autoencoder(recipes / "averaged").model.encoder
    assert averaged.get_parameter("norm.bias").mean() == 7
    with pytest.raises(UserError, match="Did you mean 'model_ema'"):
        import_weights(recipes / "two.pth", recipes / "pretrain.yaml", recipes / "run", key="modelema")


def test_what_does_not_fit_is_listed(recipes: Path) -> None:
    from maekit.errors import UserError

    save_file(vitmae(patch_size=16).state_dict(), recipes / "coarse.safetensors")
    with pytest.raises(UserError, match=r"patch_embed.proj.weight \(48, 768\) for \(48, 192\)"):
        import_weights(recipes / "coarse.safetensors", recipes / "pretrain.yaml", recipes / "run")
    save_file(vitmae(num_hidden_layers=3).state_dict(), recipes / "deep.safetensors")
    with pytest.raises(UserError, match=r"unexpected: model\.encoder\.blocks\.2"):
        import_weights(recipes / "deep.safetensors", recipes / "pretrain.yaml", recipes / "run")
    save_file({"a": torch.zeros(2)}, recipes / "other.safetensors")
    with pytest.raises(UserError, match="names of an unknown layout"):
        import_weights(recipes / "other.safetensors", recipes / "pretrain.yaml", recipes / "run")
    torch.save(fine_tuned().state_dict(), recipes / "tuned.pth")
    with pytest.raises(UserError, match="a head of 3 classes"):
        import_weights(recipes / "tuned.pth", recipes / "pretrain.yaml", recipes / "run")
    torch.save(fine_tuned(5).state_dict(), recipes / "five.pth")
    import_weights(recipes / "five.pth", recipes / "classify.yaml", recipes / "five")
    with pytest.raises(UserError, match=r"head.weight \(5, 48\) for \(3, 48\)"):
        evaluate(recipes / "five")


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize("labelled", [False, True])
def test_graphs_compute_the_same(recipes: Path, form: str, labelled: bool) -> None:
    run = pretrain(recipes / "pretrain.yaml", runs=recipes / "runs").folder
    if labelled:
        run = finetune(recipes / "classify.yaml", run, runs=recipes / "tuned").folder
    target = recipes / {"onnx": "m.onnx", "torch_export": "m.pt2"}[form]
    notes = export_weights(run, target, form)
    assert "signal (batch, 3, 32, 32) uint8" in notes[0]
    experiment, task = open_run(run)
    x = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    task.eval()
    with torch.inference_mode():
        expected = task.output({"signal": x}) if isinstance(task, Transfer) else task.model.encoder(task.front(x)[0])  # type: ignore[union-attr, operator]
    if form == "onnx":
        import onnxruntime

        found = torch.from_numpy(onnxruntime.InferenceSession(target).run(None, {"signal": x.numpy()})[0])
    else:
        found = torch.export.load(target).module()(x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    del experiment


def test_the_run_says_where_it_came_from(recipes: Path) -> None:
    save_file(vitmae().state_dict(), recipes / "theirs.safetensors")
    import_weights(recipes / "theirs.safetensors", recipes / "pretrain.yaml", recipes / "run")
    stated = json.loads((recipes / "run/imported.json").read_text())
    assert stated["sha256"] == hashlib.sha256((recipes / "theirs.safetensors").read_bytes()).hexdigest()
    assert (stated["file"], stated["layout"], stated["initialised"]) == ("theirs.safetensors", "huggingface", [])
    environment = json.loads((recipes / "run/environment.json").read_text())
    assert stated["sha256"] in environment["started from"]
