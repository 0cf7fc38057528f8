"""Weights from elsewhere into a run, and a run's weights to elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from maekit.build.experiment import Absent, Experiment, build_experiment_without_data
from maekit.build.models import encoder_of, make_task
from maekit.build.open_run import open_run
from maekit.build.prepare import save_run_metadata
from maekit.build.weights import IMPORTED, INITIALISED, Differences, Weights, check_patches, differences, resampled
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.core.autoencoder import Encoder
from maekit.core.decoder import SelfDecoder
from maekit.core.patchify import GridPatchifier
from maekit.core.targets.pixels import PatchNormTarget, RawTarget
from maekit.data.sample import Sample
from maekit.errors import UserError, nearest
from maekit.interop import huggingface, official
from maekit.interop.foreign import read_tensors
from maekit.tasks.classification import Classification
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.regression import Regression
from maekit.tasks.transfer import Transfer
from maekit.training import checkpoint
from maekit.training.distributed import Process
from maekit.training.run import Run

if TYPE_CHECKING:
    from maekit.tasks.task import Task

Layout = Literal["auto", "official", "timm", "huggingface"]
Format = Literal["official", "timm", "huggingface", "safetensors", "onnx", "torch_export"]
READERS = {"official": official, "timm": official, "huggingface": huggingface}


def import_weights(
    file: Path,
    recipe: str | Path,
    run: Path,
    *,
    layout: str = "auto",
    key: str | None = None,
    partial: bool = False,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Make a run folder of weights that somebody else trained; the data set need not be there yet.

    Args:
        file: `.pth`, `.pt`, `.bin` or `.safetensors`.
        recipe: whose model and adapter the weights are for: a pretraining recipe, or that of a classifier.
        run: the folder to make; then `finetune --from RUN`, `evaluate RUN` and the rest take it as a run of their own.
        layout: whose names the weights have.
        key: where in a checkpoint the weights are, if that is not clear.
        partial: initialise what is missing, and leave out what is not known; shapes must fit all the same.

    Returns:
        What a person should know, one line each.

    Raises:
        UserError: a folder that is taken, a file that cannot be read, weights that do not fit.
    """
    if run.exists():
        raise UserError("would overwrite what is there", location=str(run), hint="Choose another folder with --to.")
    if layout not in get_args(Layout):
        raise UserError(
            "no such layout",
            location="--layout",
            value=layout,
            expected=" or ".join(get_args(Layout)),
            hint=nearest(layout, get_args(Layout)),
        )
    weights = read_tensors(file, key)
    layout = _recognised(weights, file, layout)
    found = READERS[layout].read(weights)
    loaded = load_recipe(recipe, overrides)
    classes = len(found["head.weight"]) if "head.weight" in found else 0
    _same_purpose(loaded, file, classes)
    experiment = build_experiment_without_data(loaded, classes, fit=True)
    torch.manual_seed(loaded.recipe.seed)
    task = make_task(experiment)
    if not isinstance(encoder_of(task), Encoder):
        raise UserError(
            "weights of other people's code are those of transformers",
            value=loaded.recipe.model.backbone.name,
            location=loaded.locate("model", "backbone", "name"),
            expected="a recipe with the backbone transformer",
        )
    own = task.state_dict()
    if isinstance(task, Pretraining):
        found = {f"model.{name}": value for name, value in found.items()}
    if isinstance(task, Transfer):
        _same_head(task, found, file)
    check_patches(own, found, file)
    notes = [f"{len(weights)} tensors, layout {layout}"]
    for name in [n for n in own if n.endswith("pos_embed") and n in found and found[n].shape[1] != own[n].shape[1]]:
        before, found[name] = found[name], resampled(found[name], experiment.adapter.patchifier.grid_size)
        if found[name] is not before:
            notes.append(f"{name} resampled from {before.shape[1]} to {found[name].shape[1]} positions")
    found |= {name: value for name, value in own.items() if name.startswith("front.")}
    wrong = _fitted(own, found, file, partial)
    if any(wrong):
        notes.append(f"left as initialised where missing, left out where unexpected; {wrong.told(own)}")
    source = {"file": file.name, "sha256": _sha256(file), "layout": layout, "key": key}
    folder = Run(run)
    with folder.owned():
        save_run_metadata(
            folder, experiment, Process(0, 1, torch.device("cpu")), f"{file.name}, SHA-256 {source['sha256']}"
        )
        stated = {**source, "notes": notes, INITIALISED: wrong.missing, "left out": wrong.unexpected}
        folder.write_text(IMPORTED, json.dumps(stated, indent=1))
        checkpoint.save(
            folder.checkpoints,
            checkpoint.Checkpoint(0, {"model": {name: found[name] for name in own}}, {"bad": 0, "identity": {}}),
            keep=2,
        )
    return notes


def export_weights(run: Path, target: Path, form: str, *, overrides: Sequence[str] = ()) -> list[str]:
    """Write a run's weights for other people's code; graphs (ONNX, torch.export) are run once more and compared.

    A graph takes prepared samples (batch, *prepared) as the adapter's front does, measured throughout, and gives a
    classifier's logits, a regressor's values in the unit of the label, or of a pretraining run the tokens of the encoder (class
    token first), nothing masked.

    Returns:
        What a person should know, one line each.

    Raises:
        UserError: a file that is there already, a model that the format cannot say.
    """
    if form not in get_args(Format):
        raise UserError(
            "no such format",
            location="--format",
            value=form,
            expected=" or ".join(get_args(Format)),
            hint=nearest(form, get_args(Format)),
        )
    if target.exists():
        raise UserError("would overwrite what is there", location=str(target), hint="Choose another name with --to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if form in ("onnx", "torch_export"):
        from maekit.interop import graph

        experiment, task = open_run(run, overrides=overrides, data=False)
        return graph.write(Served(task).eval(), _example(experiment), target, form)
    experiment, task = open_run(run, overrides=overrides, data=False)
    if form == "safetensors":
        return _saved(task.state_dict(), target)
    weights, patchifier = _plain(task, run, form), experiment.adapter.patchifier
    if not isinstance(patchifier, GridPatchifier) or len(patchifier.patch_size) != 2:
        raise UserError(
            "only samples of two axes have this layout",
            location=str(run),
            value=patchifier.grid_size,
            expected="height and width",
            hint="Use --format safetensors.",
        )
    channels, (p1, p2) = patchifier.sample_shape[0], patchifier.patch_size
    if form == "official":
        torch.save({"model": official.write(weights, channels, (p1, p2))}, target)
        return [f"{len(weights)} tensors"]
    if form == "timm":
        return _saved(official.write(weights, channels, (p1, p2)), target)
    assert isinstance(task, Pretraining), "any other has no place in this layout"
    try:
        config = huggingface.config(task.model, patchifier, isinstance(task.model.target, PatchNormTarget))
    except ValueError as error:
        raise UserError(str(error), location=str(run), hint="Use --format timm or safetensors.") from error
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config, indent=1))
    return _saved(huggingface.write(weights, channels, (p1, p2)), target / "model.safetensors")


def _recognised(weights: Weights, file: Path, wanted: str) -> str:
    found = next((name for name in ("huggingface", "official") if READERS[name].recognise(weights)), None)
    if found is None or (wanted != "auto" and READERS[wanted] is not READERS[found]):
        own = any(name.startswith(("encoder.", "model.encoder.")) for name in weights)
        raise UserError(
            "names of no layout that is known" if found is None else f"names of the layout {found}",
            location=str(file),
            value=", ".join(list(weights)[:4]),
            expected="those of the MAE authors, timm or Hugging Face's ViTMAE"
            if wanted == "auto"
            else f"those of {wanted}",
            hint="These are maekit's own: `maekit finetune --from FILE` takes them as they are." if own else "",
        )
    return found if wanted == "auto" else wanted


def _same_purpose(loaded: LoadedRecipe, file: Path, classes: int) -> None:
    """A head goes with a recipe for one, and an autoencoder (or an encoder alone) with a pretraining recipe."""
    location, task = loaded.locate("task", "name"), loaded.recipe.task.name
    if task not in ("pretraining", "classification"):
        raise UserError(
            "weights of other people's code are those of an autoencoder or a classifier",
            location=location,
            value=task,
            expected="a recipe of the task pretraining or classification",
        )
    if classes and task == "pretraining":
        raise UserError(
            "weights of a classifier",
            location=str(file),
            value=f"a head of {classes} classes",
            expected="a recipe of the task classification",
            hint="Name the fine-tuning recipe.",
        )
    if not classes and task == "classification":
        raise UserError(
            "weights without a head",
            location=str(file),
            expected="a head, for a recipe of the task classification",
            hint="Name the pretraining recipe (with --partial where there is no decoder), then `maekit finetune --from` the run.",
        )


def _same_head(task: Transfer, found: Weights, file: Path) -> None:
    """Heads of one shape may be fed differently: what is pooled, and what norm comes before them."""
    token, probe = "pooling: class", "tune: frozen"
    if "norm.running_mean" in found:
        theirs = f"{token}, {probe}"
    else:
        theirs = f"pooling: {'mean' if 'norm.weight' in found else 'class'}, tune: full"
    mine = f"pooling: {task.pooling}, tune: {'frozen' if task.tune == 'frozen' else 'full'}"
    if theirs != mine:
        settings = " ".join(f"--set task.{part.replace(': ', '=')}" for part in theirs.split(", "))
        raise UserError(
            "a classifier of another kind",
            location=str(file),
            value=theirs,
            expected=f"{mine}, as in the recipe",
            hint=f"Add {settings}, or name another recipe.",
        )


def _fitted(own: Weights, found: Weights, file: Path, partial: bool) -> Differences:
    """Make `found` complete, in place, where that was asked for.

    Returns:
        What was missing and is as initialised, and what was left out.

    Raises:
        UserError: something is missing or not known and nobody asked for a part, or shapes differ.
    """
    wrong = differences(own, found)
    if wrong.of_another_shape or (any(wrong) and not partial):
        raise UserError(
            f"weights that do not fit; {wrong.told(own)}",
            location=str(file),
            expected="all weights of this recipe's model",
            hint="Check the sizes of the recipe's model; --partial leaves out what is not known, and initialises what is missing.",
        )
    for name in wrong.unexpected:
        del found[name]
    found |= {name: own[name] for name in wrong.missing}
    return wrong


def _plain(task: Task, run: Path, form: str) -> Weights:
    """`encoder.*`, `decoder.*`, `norm.*`, `head.*` without front and target.

    Raises:
        UserError: what the layout has no names for, or what its readers would compute differently.
    """
    reason = ""
    encoder = encoder_of(task)
    if encoder is not None and not isinstance(encoder, Encoder):
        reason = f"an encoder that is a {type(encoder).__name__} and no transformer"
    elif isinstance(task, Pretraining):
        if form != "timm":
            if task.model.encoder.mask_token is not None:
                reason = "an encoder with a mask token of its own"
            elif not isinstance(task.model.decoder, SelfDecoder):
                reason = "a decoder that attends to visible patches alone"
            elif not isinstance(task.model.target, RawTarget | PatchNormTarget):
                reason = f"a decoder that predicts {type(task.model.target).__name__}, not patches"
    elif not isinstance(task, Classification):
        reason = f"a {type(task).__name__}"
    elif form == "huggingface":
        reason = "a classifier, where ViTMAE is an autoencoder"
    elif task.tune == "frozen" and form == "timm":
        reason = "a linear probe, whose BatchNorm timm does not have"
    elif task.tune == "frozen" and task.pooling == "mean":
        reason = "a linear probe on pooled patches, where those of the authors are on the class token"
    if reason:
        raise UserError(
            f"the layout {form} cannot say {reason}",
            location=str(run),
            hint="`--format safetensors` keeps everything, under maekit's own names.",
        )
    wanted = ["encoder.", "norm.", "head."] if isinstance(task, Classification) else ["encoder."]
    if form != "timm":
        wanted.append("decoder.")
    found = {name.removeprefix("model."): value for name, value in task.state_dict().items()}
    return {n: v for n, v in found.items() if n.startswith(tuple(wanted)) and n != "encoder.mask_token"}


def _saved(weights: Weights, target: Path) -> list[str]:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in weights.items()}, target, metadata={"format": "pt"})
    return [f"{len(weights)} tensors"]


class Served(nn.Module):
    """From prepared samples to what a task is used for: the encoder's tokens, logits, or values in the unit of the label.

    Raises:
        UserError: a task without an encoder of samples.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        if not isinstance(task, Pretraining | Transfer):
            raise UserError(
                "no encoder of samples in this run",
                value=type(task).__name__,
                expected="a run of pretraining, classification or regression",
            )
        self.task = task

    def forward(self, signal: Tensor) -> Tensor:
        if isinstance(self.task, Regression):
            return self.task.predict({"signal": signal})
        if isinstance(self.task, Transfer):
            return self.task.output({"signal": signal})
        return self.task.model.encoder(self.task.front(signal, None)[0])


def _example(experiment: Experiment) -> Tensor:
    """Two prepared samples: real ones, measured throughout; noise where nothing but their kind is known of the data.

    Raises:
        UserError: there are none.
    """
    if isinstance(experiment.source, Absent):
        noise = np.random.default_rng(0).integers(
            0, 256, (2, len(experiment.source.info.channels), 256, 256), dtype=np.uint8
        )
        prepared = [experiment.adapter.prepare(Sample(signal, None, None, "", "noise"))[0] for signal in noise]
        return torch.from_numpy(np.stack(prepared))
    whole = (
        signal
        for indices in (experiment.split[name] for name in ("test", "validation", "train"))
        for signal, valid in (experiment.adapter.prepare(experiment.source[int(i)]) for i in indices)
        if valid is None or valid.all()
    )
    signals = list(islice(whole, 2))
    if not signals:
        raise UserError(
            "no sample that was measured throughout, to try the graph on", location=experiment.recipe.data.root
        )
    return torch.from_numpy(np.stack(signals * (2 // len(signals))))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
