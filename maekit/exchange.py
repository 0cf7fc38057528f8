"""Weights from elsewhere into a run, and a run's weights to elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from maekit import verbs
from maekit.build import Setup, make_task, set_up_without_data
from maekit.core.patchify import GridPatchifier
from maekit.core.targets import PatchNormTarget
from maekit.errors import UserError, nearest
from maekit.interop import huggingface, official
from maekit.interop.foreign import read_tensors
from maekit.recipe.load import load_recipe
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.transfer import Transfer
from maekit.training import checkpoint
from maekit.training.distributed import Process
from maekit.training.run import Run
from maekit.weights import Weights, differences, resampled

if TYPE_CHECKING:
    from maekit.tasks.task import Task

Layout = Literal["auto", "official", "timm", "huggingface"]
Format = Literal["official", "timm", "huggingface", "safetensors", "onnx", "torch_export"]
READERS = {"official": official, "timm": official, "huggingface": huggingface}
MOST_SHOWN = 40


def import_weights(
    file: Path, recipe: str | Path, run: Path, *, layout: str = "auto", key: str | None = None, partial: bool = False,
    overrides: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Make a run folder of weights that somebody else trained; the data set need not be there yet.

    Args:
        file: `.pth`, `.pt`, `.bin` or `.safetensors`.
        recipe: whose model and adapter the weights are for: a pretraining recipe, or that of a classifier.
        run: the folder to make; then `finetune --from RUN`, `evaluate RUN` and the rest take it as a run of their own.
        layout: whose names the weights have.
        key: where in a checkpoint the weights are, if that is not clear.
        partial: leave what is missing as it is initialised, and drop what is not known.

    Returns:
        What a person should know, one line each.

    Raises:
        UserError: a folder that is taken, a file that cannot be read, weights that do not fit.
    """
    if run.exists():
        raise UserError("would overwrite what is there", place=str(run), mend="Choose another folder with --to.")
    if layout not in get_args(Layout):
        raise UserError("no such layout", place="--layout", value=layout, expected=" or ".join(get_args(Layout)),
                        mend=nearest(layout, get_args(Layout)))  # fmt: skip
    weights = read_tensors(file, key)
    layout = _recognised(weights, file) if layout == "auto" else layout
    found = READERS[layout].read(weights)
    loaded = load_recipe(recipe, [*overrides, f"name={run.name}"])
    classes = len(found["head.weight"]) if "head.weight" in found else None
    if loaded.recipe.task.name == "pretraining" and classes is not None:
        raise UserError("weights of a classifier", place=str(file), value=f"a head of {classes} classes",
                        expected="a recipe of the task classification", mend="Name the fine-tuning recipe.")  # fmt: skip
    setup = set_up_without_data(loaded, classes or 0)
    torch.manual_seed(loaded.recipe.seed)
    task = make_task(setup)
    notes = [f"{len(found)} tensors, layout {layout}"]
    own = task.state_dict()
    prefix = "model." if isinstance(task, Pretraining) else ""
    found = {f"{prefix}{name}": value for name, value in found.items()}
    _pool_as(task, found, file)
    for name in [n for n in own if n.endswith("pos_embed") and n in found and found[n].shape[1] != own[n].shape[1]]:
        found[name] = resampled(found[name], setup.adapter.patchifier.grid_size)
        notes.append(f"{name} resampled to {found[name].shape[1]} positions")
    found |= {name: value for name, value in own.items() if name.startswith("front.")}
    notes += _fitted(own, found, file, partial)
    folder = Run(run)
    with folder.owned():
        verbs.describe(folder, setup, Process(0, 1, torch.device("cpu")))
        state = {
            "bad": 0, "identity": {},
            "imported": {"file": file.name, "sha256": _sha256(file), "layout": layout, "notes": notes},
        }  # fmt: skip
        checkpoint.save(
            folder.checkpoints, checkpoint.Checkpoint(0, {"model": {n: found[n] for n in own}}, state), keep=2
        )
    return notes


def export_weights(run: Path, target: Path, form: str, *, overrides: Sequence[str] = ()) -> list[str]:
    """Write a run's weights for other people's code; graphs (ONNX, torch.export) are run once more and compared.

    A graph takes prepared samples (batch, *prepared) as the adapter's front does, and gives a classifier's or
    regressor's output, or of a pretraining run the tokens of the encoder (class token first), nothing masked.

    Returns:
        What a person should know, one line each.

    Raises:
        UserError: a file that is there already, a model that the format cannot say.
    """
    if form not in get_args(Format):
        raise UserError("no such format", place="--format", value=form, expected=" or ".join(get_args(Format)),
                        mend=nearest(form, get_args(Format)))  # fmt: skip
    if target.exists():
        raise UserError("would overwrite what is there", place=str(target), mend="Choose another name with --to.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if form in ("onnx", "torch_export"):
        from maekit.interop import graph

        setup, task = verbs.open_run(run, overrides=overrides)
        return graph.write(_served(task).eval(), _example(setup), target, form)
    setup, task = verbs.open_run(run, overrides=overrides, data=False)
    if form == "safetensors":
        return _saved(task.state_dict(), target)
    weights, patchifier = _plain(task), setup.adapter.patchifier
    if not isinstance(patchifier, GridPatchifier) or len(patchifier.patch_size) != 2:
        raise UserError("only samples of two axes have this layout", place=str(run), value=patchifier.grid_size,
                        expected="height and width", mend="Use --format safetensors.")  # fmt: skip
    channels, (p1, p2) = patchifier.sample_shape[0], patchifier.patch_size
    if form == "official":
        torch.save({"model": official.write(weights, channels, (p1, p2))}, target)
        return [f"{len(weights)} tensors"]
    if form == "timm":
        encoder = {name: value for name, value in weights.items() if not name.startswith("decoder.")}
        return _saved(official.write(encoder, channels, (p1, p2)), target)
    if not isinstance(task, Pretraining):
        raise UserError("ViTMAE has no head", place=str(run), value=setup.recipe.task.name, expected="a pretraining run",
                        mend="Use --format timm.")  # fmt: skip
    try:
        config = huggingface.config(task.model, patchifier, isinstance(task.model.target, PatchNormTarget))
    except ValueError as error:
        raise UserError(str(error), place=str(run), mend="Use --format timm or safetensors.") from error
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config, indent=1))
    return _saved(huggingface.write(weights, channels, (p1, p2)), target / "model.safetensors")


def _recognised(weights: Weights, file: Path) -> str:
    for name, reader in (("huggingface", huggingface), ("official", official)):
        if reader.recognise(weights):
            return name
    raise UserError(
        "names of no layout that is known", place=str(file), value=", ".join(list(weights)[:4]),
        expected="those of the MAE authors, timm or Hugging Face's ViTMAE",
    )  # fmt: skip


def _pool_as(task: Task, found: Weights, file: Path) -> None:
    """Where a classifier of ours has no last norm in its encoder, theirs must have pooled patches too."""
    if (
        isinstance(task, Transfer)
        and task.pooling == "mean"
        and task.tune != "frozen"
        and "encoder.norm.weight" in found
    ):
        if "norm.weight" in found:
            raise UserError("weights with a norm before and after pooling", place=str(file))
        if "head.weight" in found:
            raise UserError(
                "a classifier on the class token", place=str(file), value="norm, no fc_norm", expected="`fc_norm`: pooled patches",
                mend="Set `task.pooling: class`.",
            )  # fmt: skip
        for part in ("weight", "bias"):  # an encoder alone, to be fine-tuned: its last norm goes
            found.pop(f"encoder.norm.{part}")


def _fitted(own: Weights, found: Weights, file: Path, partial: bool) -> list[str]:
    """Make `found` complete, in place.

    Returns:
        What was left as initialised and what was dropped, where that was asked for.
    """
    wrong = differences(own, found)
    if not any(wrong.values()):
        return []
    lists = [f"{what}: {', '.join(names[:MOST_SHOWN])}{', ...' if len(names) > MOST_SHOWN else ''}"
             for what, names in wrong.items() if names]  # fmt: skip
    if not partial:
        raise UserError(
            "weights that do not fit; " + "; ".join(lists), place=str(file), expected="all weights of this recipe's model",
            mend="Check model, patch and size of the recipe; --partial takes what fits and initialises the rest.",
        )  # fmt: skip
    for name in wrong["unexpected"]:
        del found[name]
    for name in own:
        if name not in found or found[name].shape != own[name].shape:
            found[name] = own[name]
    return [f"left out or left as initialised: {line}" for line in lists]


def _plain(task: Task) -> Weights:
    """`encoder.*`, `decoder.*`, `norm.*`, `head.*` without front and target."""
    if isinstance(task, Transfer):
        return {name: value for name, value in task.state_dict().items() if not name.startswith("front.")}
    assert isinstance(task, Pretraining)
    parts = ("model.encoder.", "model.decoder.")
    return {n.removeprefix("model."): v for n, v in task.state_dict().items() if n.startswith(parts)}


def _saved(weights: Weights, target: Path) -> list[str]:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in weights.items()}, target, metadata={"format": "pt"})
    return [f"{len(weights)} tensors"]


def _served(task: Task) -> nn.Module:
    if isinstance(task, Transfer):
        return Served(task.front, nn.Identity(), task)
    assert isinstance(task, Pretraining)
    return Served(task.front, task.model.encoder, None)


class Served(nn.Module):
    """From a prepared sample to features or to what a head says of it."""

    def __init__(self, front: nn.Module, encoder: nn.Module, head: Transfer | None) -> None:
        super().__init__()
        self.front, self.encoder, self.head = front, encoder, head

    def forward(self, signal: Tensor) -> Tensor:
        if self.head is not None:
            return self.head.output({"signal": signal})
        return self.encoder(self.front(signal, None)[0])


def _example(setup: Setup) -> Tensor:
    """Two prepared samples: real ones."""
    side = next(name for name in ("test", "validation", "train") if len(setup.split[name]))
    signals = [setup.adapter.prepare(setup.source[int(i)])[0] for i in setup.split[side][:2]]
    return torch.from_numpy(np.stack(signals * (2 // len(signals))))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
