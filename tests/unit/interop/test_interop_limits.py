"""What exchanging weights must refuse or ask about, and heads that are fed in other ways; found by review."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_interop import encoder_of, fine_tuned, recipes, vitmae  # noqa: F401  (a fixture)

from maekit.build.open_run import open_run
from maekit.build.weight_fit import resample_positions
from maekit.build.weights import read_weights
from maekit.errors import UserError
from maekit.interop import graph, official
from maekit.interop.foreign import read_tensors
from maekit.interop.weight_export import export_weights
from maekit.interop.weight_import import import_weights
from maekit.runs.embed import embed
from maekit.runs.evaluate import evaluate
from maekit.runs.reconstruct import reconstruct
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain
from maekit.tasks.transfer import Transfer

SOME = {"cls_token": torch.zeros(1, 1, 4), "blocks.0.norm1.weight": torch.ones(4)}


def header_of(length: int, file: Path) -> Path:
    """A sound safetensors file whose header has this many bytes."""
    save_file(SOME, file, metadata={"note": ""})
    missing = length - int.from_bytes(file.read_bytes()[:8], "little")
    save_file(SOME, file, metadata={"note": "x" * missing})
    assert int.from_bytes(file.read_bytes()[:8], "little") == length
    return file


@pytest.mark.parametrize("length", [640, 1152, 0x180])
def test_safetensors_that_begin_like_a_pickle(tmp_path: Path, length: int) -> None:
    """The length of the header stands first: 640 reads as protocol 2 of pickle, 1152 as protocol 4."""
    file = header_of(length, tmp_path / "w.safetensors")
    assert file.read_bytes()[0] == 0x80
    assert read_tensors(file).keys() == SOME.keys()
    assert read_weights(file).keys() == SOME.keys()


def test_damage_of_any_kind_is_said_and_not_traced(tmp_path: Path) -> None:
    whole = {"model": SOME, "args": argparse.Namespace(lr=1.0), "epoch": 3}
    torch.save(whole, tmp_path / "new.pth")
    torch.save(whole, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(SOME, tmp_path / "w.safetensors")
    draw = random.Random(0)
    refused = 0
    for source in ("new.pth", "old.pth", "w.safetensors"):
        content = (tmp_path / source).read_bytes()
        assert read_tensors(tmp_path / source).keys() == SOME.keys()
        damaged = [content[:length] for length in (1, 2, 3, 8, 9, len(content) // 3, len(content) - 1)]
        for _ in range(60):
            flipped = bytearray(content)
            for _ in range(draw.choice([1, 3, 10])):
                flipped[draw.randrange(len(flipped))] = draw.randrange(256)
            damaged.append(bytes(flipped))
        for data in damaged:
            (tmp_path / "damaged").write_bytes(data)
            try:
                read_tensors(tmp_path / "damaged")
            except UserError:
                refused += 1
    assert refused > 60


def test_a_pickle_that_was_refused_names_what_it_asked_for(tmp_path: Path) -> None:
    torch.save({"model": SOME, "args": argparse.Namespace(output=Path("x"))}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"asks for more than tensors.*pathlib"):
        read_tensors(tmp_path / "w.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(UserError, match="a TorchScript program, not weights"):
        read_tensors(tmp_path / "program.pt")


def test_between_several_sets_of_weights_the_person_chooses(tmp_path: Path) -> None:
    for names in (("model", "model_ema"), ("state_dict", "state_dict_ema"), ("student", "teacher")):
        torch.save(dict.fromkeys(names, SOME), tmp_path / "w.pth")
        with pytest.raises(UserError, match=f"several sets of weights; got '{names[0]}, {names[1]}'.*--key {names[0]}"):
            read_tensors(tmp_path / "w.pth")
        assert read_tensors(tmp_path / "w.pth", names[1]).keys() == SOME.keys()
    # A tensor beside the one set of weights is no second set.
    torch.save(
        {"epoch": torch.tensor(3), "optimizer": {"state": {0: {"step": torch.tensor(1)}}}, "model": SOME},
        tmp_path / "w.pth",
    )
    assert read_tensors(tmp_path / "w.pth").keys() == SOME.keys()


def test_an_encoder_alone_is_never_asked_to_predict(recipes: Path) -> None:  # noqa: F811
    save_file(official.write(encoder_of(vitmae()), 3, (8, 8)), recipes / "encoder.safetensors")
    run = recipes / "run"
    import_weights(recipes / "encoder.safetensors", recipes / "pretrain.yaml", run, partial=True)
    for ask in (lambda: reconstruct(run, recipes / "pictures"), lambda: evaluate(run)):
        with pytest.raises(UserError, match="imported from weights without a decoder"):
            ask()
    assert "lack a decoder" in report(run).read_text()
    assert embed(run, recipes / "features.h5").is_file()


def test_a_normalisation_is_never_made_up(recipes: Path) -> None:  # noqa: F811
    save_file(vitmae().state_dict(), recipes / "w.safetensors")
    with pytest.raises(UserError, match=r"estimated from data.*means and deviations"):
        import_weights(
            recipes / "w.safetensors",
            recipes / "pretrain.yaml",
            recipes / "run",
            overrides=["adapter.normalisation=fit"],
        )
    stated = ["adapter.normalisation=[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]"]
    import_weights(recipes / "w.safetensors", recipes / "pretrain.yaml", recipes / "run", overrides=stated)
    assert read_weights(recipes / "run")["front.std"].tolist() == pytest.approx([0.4, 0.5, 0.6])


def on_the_class_token() -> torch.nn.Module:
    """timm's usual classifier, which is also the authors' with `--cls_token`."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class Probe(torch.nn.Module):
    """The authors' linear probe: BatchNorm without affine parameters and a linear layer on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = on_the_class_token()
        norm = torch.nn.BatchNorm1d(48, affine=False, eps=1e-6)
        self.vit.head = torch.nn.Sequential(norm, torch.nn.Linear(48, 3))
        for buffer in norm.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.vit(x)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        return self.vit.state_dict(*args, **options)


@pytest.mark.parametrize(
    ("make", "settings", "form"),
    [
        (fine_tuned, ["task.pooling=mean", "task.tune=full"], "timm"),
        (on_the_class_token, ["task.pooling=class", "task.tune=full"], "timm"),
        (on_the_class_token, ["task.pooling=class", "task.tune=full"], "official"),
        (Probe, ["task.pooling=class", "task.tune=frozen"], "official"),
    ],
)
def test_each_kind_of_head_there_and_back(recipes: Path, make: Any, settings: list[str], form: str) -> None:  # noqa: F811
    theirs = make()
    save_file(theirs.state_dict(), recipes / "w.safetensors")
    # With the settings of any other kind it stops, and says the right ones.
    for wrong in ({"mean", "full"}, {"class", "full"}, {"class", "frozen"}, {"mean", "frozen"}):
        pooling, tune = next(iter(wrong & {"mean", "class"})), next(iter(wrong & {"full", "frozen"}))
        other = [f"task.pooling={pooling}", f"task.tune={tune}"]
        if other != settings:
            with pytest.raises(UserError, match="a classifier of another kind") as said:
                import_weights(
                    recipes / "w.safetensors", recipes / "classify.yaml", recipes / "run", overrides=other, partial=True
                )
            assert all(f"--set {setting}" in str(said.value) for setting in settings)
    import_weights(recipes / "w.safetensors", recipes / "classify.yaml", recipes / "run", overrides=settings)
    _, task = open_run(recipes / "run")
    assert isinstance(task, Transfer)
    x = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = theirs(task.front(x)[0])
        torch.testing.assert_close(task.eval().output({"signal": x}), expected, atol=1e-5, rtol=1e-5)
    export_weights(recipes / "run", recipes / "back.pth", form)
    back = load_file(recipes / "back.pth") if form == "timm" else read_tensors(recipes / "back.pth")
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "forms", "reason"),
    [
        (["model.encoder_mask_tokens=true"], ["official", "huggingface"], "a mask token of its own"),
        (["model.target={name: pca, factors: 8}"], ["official", "huggingface"], "PCATarget, not patches"),
        (["model.decoder_attention=cross"], ["official", "huggingface"], "cross-attention to visible patches"),
    ],
)
def test_what_a_layout_cannot_say_is_not_written(
    recipes: Path,  # noqa: F811
    settings: list[str],
    forms: list[str],
    reason: str,
) -> None:
    run = pretrain(recipes / "pretrain.yaml", runs=recipes / "runs", overrides=settings).folder
    for form in forms:
        with pytest.raises(UserError, match=f"the layout {form} cannot represent.*{reason}"):
            export_weights(run, recipes / "out", form)
        assert not (recipes / "out").exists()
    # Its encoder is a vision transformer like any other.
    export_weights(run, recipes / "encoder.safetensors", "timm")
    assert load_file(recipes / "encoder.safetensors").keys() == {
        name for name in on_the_class_token().state_dict() if not name.startswith("head")
    }


@pytest.mark.parametrize(("pooling", "form"), [("mean", "official"), ("class", "timm"), ("class", "huggingface")])
def test_probes_that_others_would_read_wrongly_are_not_written(recipes: Path, pooling: str, form: str) -> None:  # noqa: F811
    settings = ["task.tune=frozen", f"task.pooling={pooling}"]
    run = finetune(recipes / "classify.yaml", "random", runs=recipes / "runs", overrides=settings).folder
    with pytest.raises(UserError, match=f"the layout {form} cannot represent"):
        export_weights(run, recipes / "out", form)


def test_a_regressors_graph_answers_in_the_unit_of_the_label(tiny: Path, tmp_path: Path) -> None:
    run = finetune(tiny, "random", runs=tmp_path, overrides=["task=regression"]).folder
    notes = export_weights(run, tmp_path / "m.pt2", "torch_export")
    assert "out: output (batch) float32" in notes[0]
    experiment, task = open_run(run)
    signals = torch.stack([torch.from_numpy(experiment.adapter.prepare(experiment.source[i])[0]) for i in range(3)])
    found = torch.export.load(tmp_path / "m.pt2").module()(signals)
    torch.testing.assert_close(found, task.eval().serve(signals))
    assert 30 < found.mean() < 150, "beats a minute"
    with pytest.raises(UserError, match="cannot represent a Regression"):
        export_weights(run, tmp_path / "out", "timm")


def test_graphs_that_cannot_be_written_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsayable(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(UserError, match="cannot be written as torch_export"):
        graph.write_graph(Unsayable(), torch.ones(2, 3), tmp_path / "a.pt2", "torch_export")
    # Weights of more than 2 GiB stand beside the graph.
    monkeypatch.setattr(graph, "MAX_ONNX_BYTES", 1000)
    notes = graph.write_graph(torch.nn.Linear(64, 64).eval(), torch.ones(2, 64), tmp_path / "b.onnx", "onnx")
    assert "b.onnx.data" in notes[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.onnx", "b.onnx.data"]
    monkeypatch.setattr(graph, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="computes something else"):
        graph.write_graph(torch.nn.Linear(64, 64).eval(), torch.ones(2, 64), tmp_path / "c.onnx", "onnx")
    assert len(list(tmp_path.iterdir())) == 2


def test_mistakes_are_named(recipes: Path) -> None:  # noqa: F811
    save_file(vitmae().state_dict(), recipes / "theirs.safetensors")
    pretraining, labelled, run = recipes / "pretrain.yaml", recipes / "classify.yaml", recipes / "run"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"layout": "official"}, "names of the layout huggingface.*expected those of official"),
        ({"layout": "hugginface"}, "Did you mean 'huggingface'"),
        ({"recipe": labelled}, "weights without a head.*pretraining recipe"),
        ({"overrides": ["adapter.patch=16"]}, "patches of another size.*192 numbers a patch.*expected 768"),
        ({"overrides": ["adapter.patch=16"], "partial": True}, "patches of another size"),
        ({"overrides": ["model.encoder={width: 24, depth: 2, heads: 2}"], "partial": True}, "of another shape"),
        (
            {"overrides": ["adapter.size=[32, 48]"]},
            r"of another shape: model.encoder.pos_embed \(1, 17, 48\) for \(1, 25",
        ),
        ({"file": recipes / "none.pth"}, "no such file"),
        ({"file": recipes}, "got 'a folder'.*Name the one in it.*theirs.safetensors"),
        ({"key": "model"}, "no weights under that name|leave --key out"),
        ({"recipe": recipes / "pretain.yaml"}, "no such recipe"),
    ]
    for options, expected in cases:
        arguments = {"file": recipes / "theirs.safetensors", "recipe": pretraining, "run": run} | options
        with pytest.raises(UserError, match=expected):
            import_weights(**arguments)
        assert not run.exists()
    import_weights(recipes / "theirs.safetensors", pretraining, run)
    export_weights(run, recipes / "own.safetensors", "safetensors")
    with pytest.raises(UserError, match="finetune --from FILE"):
        import_weights(recipes / "own.safetensors", pretraining, recipes / "again")
    with pytest.raises(UserError, match="would overwrite"):
        import_weights(recipes / "theirs.safetensors", pretraining, run)
    with pytest.raises(UserError, match="Did you mean 'onnx'"):
        export_weights(run, recipes / "x.onnx", "onx")
    torch.save(SOME, recipes / "w.pth")
    with pytest.raises(UserError, match="`maekit import` makes a run"):
        read_weights(recipes / "w.pth")


@pytest.mark.parametrize(
    ("rows", "grid", "old"),
    [
        (1 + 14 * 14, (28, 28), (14, 14)),
        (1 + 16 * 16, (32, 32), (16, 16)),
        (1 + 50, (75,), (50,)),
        (1 + 2 * 3, (4, 6), (2, 3)),
        (1 + 18, (4, 9), None),
        (1 + 15, (28, 28), None),
    ],
)
def test_positions_go_to_grids_of_the_same_proportions_alone(
    rows: int, grid: tuple[int, ...], old: tuple[int, ...] | None
) -> None:
    from maekit.core.positions import interpolate_positions

    table = torch.randn(1, rows, 8)
    expected = table if old is None else interpolate_positions(table, old, grid)
    assert torch.equal(resample_positions(table, grid), expected)


def test_tensors_without_plain_values_and_tables_of_odd_shapes_are_refused(tmp_path: Path) -> None:
    for name, tensor in (
        ("sparse", torch.ones(3, 3).to_sparse()),
        ("quantised", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        ("meta", torch.empty(3, device="meta")),
    ):
        torch.save(SOME | {"x": tensor}, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=rf"{name}.pth(:x: a tensor without plain values|.*damaged)"):
            read_tensors(tmp_path / f"{name}.pth")
    for table in (
        torch.zeros(0),
        torch.zeros(4, 5),
        torch.zeros(1, 0, 4),
        torch.zeros(2, 0, 5, 4),
        torch.zeros(1, 1, 4),
    ):
        assert resample_positions(table, (2, 2)) is table
