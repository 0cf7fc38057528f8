"""Export of a run's weights: for timm, Hugging Face and the MAE authors' code, as safetensors, or as a graph."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from maekit.build.experiment import Absent, Experiment
from maekit.build.open_run import open_run
from maekit.core.autoencoder import Encoder
from maekit.core.decoder import SelfDecoder
from maekit.core.patchify import GridPatchifier
from maekit.core.targets.pixels import PatchNormTarget, RawTarget
from maekit.data.sample import Sample
from maekit.errors import UserError, nearest
from maekit.files import replacing, write_text
from maekit.interop import huggingface, official
from maekit.training.tensor_file import write_tensors

if TYPE_CHECKING:
    from maekit.build.weights import Weights
    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.tasks.task import Task

Format = Literal["official", "timm", "huggingface", "safetensors", "onnx", "torch_export"]


def export_weights(run: Path, target: Path, form: str, *, overrides: Sequence[str] = ()) -> list[str]:
    """Write a run's weights for use by other code.

    Graphs (ONNX, torch.export) take prepared samples (batch, *prepared), all values of which are valid. They return a
    classifier's logits, a regressor's values in the unit of the label, or, for a pretraining run, the tokens of the
    encoder without masking, class token first. Each graph is run and compared with the model.

    Args:
        run: the folder of a run.
        target: the file to write; a folder for `huggingface`.
        form: one of `Format`.
        overrides: as on the command line.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: `target` exists, or the format cannot represent the model.
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
    experiment, task = open_run(run, overrides=overrides, data=False)
    if form in ("onnx", "torch_export"):
        from maekit.interop.graph import write_graph

        return write_graph(Served(task).eval(), _example(experiment), target, form)
    weights = task.state_dict() if form == "safetensors" else _translate(task, experiment, run, form)
    with replacing(target) as unfinished:
        if form == "official":
            content = io.BytesIO()  # torch's writer of zip files crashes the process where the disk is full
            torch.save({"model": weights}, content)
            unfinished.write_bytes(content.getbuffer())
        elif form == "huggingface":
            unfinished.mkdir()
            write_text(unfinished / "config.json", json.dumps(_huggingface_config(task, experiment, run), indent=1))
            write_tensors(unfinished / "model.safetensors", weights, {"format": "pt"})
        else:
            write_tensors(unfinished, weights, {"format": "pt"})
    return [f"{len(weights)} tensors"]


class Served(nn.Module):
    """A task as a function of prepared samples: the encoder's tokens, logits, or values in the unit of the label.

    Raises:
        UserError: a task without an encoder of samples.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        if task.encoder is None:
            raise UserError(
                "no encoder of samples in this run",
                value=type(task).__name__,
                expected="a run of a task with an encoder",
            )
        self.task = task

    def forward(self, signal: Tensor) -> Tensor:
        """Map prepared samples (batch, *prepared) to tokens, logits or values."""
        return self.task.serve(signal)


def _translate(task: Task, experiment: Experiment, run: Path, form: str) -> Weights:
    """Weights under the names of another layout.

    Raises:
        UserError: a model that the layout cannot represent.
    """
    weights, patchifier = _exported_weights(task, experiment, run, form), experiment.adapter.patchifier
    if not isinstance(patchifier, GridPatchifier) or len(patchifier.patch_size) != 2:
        raise UserError(
            "this layout is for samples of two axes",
            location=str(run),
            value=patchifier.grid_size,
            expected="height and width",
            hint="Use --format safetensors.",
        )
    channels, (height, width) = patchifier.sample_shape[0], patchifier.patch_size
    layout = huggingface if form == "huggingface" else official
    return layout.write(weights, channels, (height, width))


def _huggingface_config(task: Task, experiment: Experiment, run: Path) -> dict[str, object]:
    patchifier = experiment.adapter.patchifier
    model = task.autoencoder
    assert model is not None
    assert isinstance(patchifier, GridPatchifier)
    try:
        return huggingface.config(model, patchifier, isinstance(model.target, PatchNormTarget))
    except ValueError as error:
        raise UserError(str(error), location=str(run), hint="Use --format timm or safetensors.") from error


def _exported_weights(task: Task, experiment: Experiment, run: Path, form: str) -> Weights:
    """Select the weights that a layout has names for: `encoder.*`, `decoder.*`, `norm.*`, `head.*`.

    Raises:
        UserError: a model that the layout has no names for, or that its readers would compute differently.
    """
    obstacle = _obstacle(task, experiment, form)
    if obstacle:
        raise UserError(
            f"the layout {form} cannot represent {obstacle}",
            location=str(run),
            hint="`--format safetensors` keeps everything, under maekit's own names.",
        )
    prefixes = ["encoder.", "norm.", "head."] if task.is_linear_classifier else ["encoder."]
    if form != "timm":
        prefixes.append("decoder.")
    weights = {name.removeprefix("model."): value for name, value in task.state_dict().items()}
    return {n: v for n, v in weights.items() if n.startswith(tuple(prefixes)) and n != "encoder.mask_token"}


def _obstacle(task: Task, experiment: Experiment, form: str) -> str:
    """Name the part of a model that a layout cannot represent; empty where there is none."""
    encoder, options = task.encoder, experiment.recipe.task.options
    is_probe, pooling = options.get("tune") == "frozen", options.get("pooling", "mean")
    if encoder is not None and not isinstance(encoder, Encoder):
        return f"an encoder of the kind {type(encoder).__name__}, which is no transformer"
    if task.autoencoder is not None:
        return "" if form == "timm" else _autoencoder_obstacle(task.autoencoder)
    if not task.is_linear_classifier:
        return f"a {type(task).__name__}"
    if form == "huggingface":
        return "a classifier; ViTMAE is an autoencoder"
    if is_probe and form == "timm":
        return "a linear probe; timm has no BatchNorm before its head"
    if is_probe and pooling == "mean":
        return "a linear probe on pooled patches; the authors' is on the class token"
    return ""


def _autoencoder_obstacle(model: MaskedAutoencoder) -> str:
    if model.encoder.mask_token is not None:
        return "an encoder with a mask token of its own"
    if not isinstance(model.decoder, SelfDecoder):
        return "a decoder with cross-attention to visible patches"
    if not isinstance(model.target, RawTarget | PatchNormTarget):
        return f"a decoder that predicts {type(model.target).__name__}, not patches"
    return ""


def _example(experiment: Experiment) -> Tensor:
    """Two prepared samples without missing values; noise where the run is opened without its data.

    Raises:
        UserError: every sample has missing values.
    """
    if isinstance(experiment.source, Absent):
        shape = (2, len(experiment.source.info.channels), 256, 256)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        prepared = [experiment.adapter.prepare(Sample(signal, None, None, "", "noise"))[0] for signal in noise]
        return torch.from_numpy(np.stack(prepared))
    complete = (
        signal
        for indices in (experiment.split[side] for side in ("test", "validation", "train"))
        for signal, valid in (experiment.adapter.prepare(experiment.source[int(i)]) for i in indices)
        if valid is None or valid.all()
    )
    signals = list(islice(complete, 2))
    if not signals:
        raise UserError(
            "there is no sample without missing values to check the graph with", location=experiment.recipe.data.root
        )
    return torch.from_numpy(np.stack(signals * (2 // len(signals))))
