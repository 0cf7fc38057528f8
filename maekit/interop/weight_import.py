"""Import of weights that other code trained: they become a run folder, as if maekit had trained them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from maekit.build.experiment import build_experiment_without_data, task_class
from maekit.build.identity import recipe_identity, spec_identity
from maekit.build.prepare import save_run_metadata
from maekit.build.tasks import make_task
from maekit.build.weight_fit import Mismatch, check_patch_size, compare_weights, resample_positions, summarise_names
from maekit.build.weights import IMPORTED, INITIALISED
from maekit.config.load import LoadedRecipe, load_recipe
from maekit.core.autoencoder import Encoder
from maekit.errors import UserError, nearest
from maekit.files import replacing
from maekit.interop import huggingface, official
from maekit.interop.foreign import read_tensors
from maekit.interop.prefix import select_network
from maekit.training import checkpoint
from maekit.training.distributed import Process
from maekit.training.run import Run

if TYPE_CHECKING:
    from maekit.build.weights import Weights
    from maekit.interop.prefix import Network
    from maekit.tasks.task import Task

Layout = Literal["auto", "official", "timm", "huggingface"]
_OWN_PROJECTIONS = ("encoder.patch_embed.proj.weight", "model.encoder.patch_embed.proj.weight")
"""Embedding of patches in maekit's own weights: a linear layer, where others have a convolution of four axes."""
_ENCODER = re.compile(r"^(model\.)?(encoder\.(patch_embed|blocks)\.|norm_pre\.)")
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
    """Make a run folder from weights that other code trained. The data set need not exist yet.

    Args:
        file: `.pth`, `.pt`, `.bin` or `.safetensors`.
        recipe: a pretraining or classification recipe, whose model and adapter the weights are for.
        run: the folder to create; `finetune --from RUN`, `evaluate RUN` and others use it like any other run.
        layout: whose names the weights have; a prefix that they share is removed.
        key: name of the weights in a checkpoint that has several sets, or the prefix of one of several networks.
        partial: initialise missing weights and leave unknown ones out. Shapes must fit all the same.
        overrides: as on the command line.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the folder exists, the file cannot be read, or the weights do not fit.
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
    tensors = read_tensors(file, key)
    network = select_network(tensors, file)
    layout = _resolve_layout(network.weights, file, layout)
    _check_outside(network, file, partial)
    weights = READERS[layout].read(network.weights)
    loaded = load_recipe(recipe, overrides)
    classes = len(weights["head.weight"]) if "head.weight" in weights else 0
    _check_task(loaded, file, classes)
    experiment = build_experiment_without_data(loaded, classes, fit=True)
    torch.manual_seed(loaded.recipe.seed)
    task = make_task(experiment)
    if not isinstance(task.encoder, Encoder):
        raise UserError(
            "only the weights of transformers can be imported",
            value=loaded.recipe.model.backbone.name,
            location=loaded.locate("model", "backbone", "name"),
            expected="a recipe with the backbone transformer",
        )
    if task.autoencoder is not None:
        weights = {f"model.{name}": value for name, value in weights.items()}
    if task.needs_labels:
        _check_head(loaded, weights, file)
    notes = [f"{len(network.weights)} tensors, layout {layout}"]
    if network.prefix:
        notes[0] += f", under the prefix {network.prefix!r}"
    if network.outside:
        notes.append(f"left out, without this prefix: {summarise_names(network.outside)}")
    notes += _resample(task, weights, experiment.adapter.patchifier.grid_size, file)
    own = task.state_dict()
    weights |= {name: value for name, value in own.items() if name.startswith("front.")}
    mismatch = _complete(own, weights, file, partial)
    if any(mismatch):
        notes.append(f"initialised where missing, left out where unexpected; {mismatch.describe(own)}")
    source = {"file": file.name, "sha256": _sha256(file), "layout": layout, "key": key}
    facts = {**source, "notes": notes, INITIALISED: mismatch.missing, "left out": mismatch.unexpected + network.outside}
    # Without an entry of the data's files, so that training in this folder is refused.
    trained = recipe_identity(loaded.recipe) | spec_identity(experiment.spec)
    content = checkpoint.Checkpoint(
        0, {"model": {name: weights[name] for name in own}}, {"bad_steps": 0, "identity": trained}
    )
    with replacing(run) as unfinished:
        folder = Run(unfinished)
        with folder.owned():
            process = Process(0, 1, torch.device("cpu"))
            save_run_metadata(folder, experiment, process, f"{file.name}, SHA-256 {source['sha256']}")
            folder.write_text(IMPORTED, json.dumps(facts, indent=1))
            checkpoint.save(folder.checkpoints, content, keep=2)
    return notes


def _resolve_layout(tensors: Weights, file: Path, layout: str) -> str:
    """Recognise the layout by the names, and check that it is the one that was asked for."""
    recognised = next((name for name in ("huggingface", "official") if READERS[name].recognise(tensors)), None)
    if recognised is None or (layout != "auto" and READERS[layout] is not READERS[recognised]):
        raise UserError(
            "names of an unknown layout" if recognised is None else f"names of the layout {recognised}",
            location=str(file),
            value=", ".join(list(tensors)[:4]),
            expected="those of the MAE authors, timm or Hugging Face's ViTMAE"
            if layout == "auto"
            else f"those of {layout}",
            hint=_explain_names(tensors) if recognised is None else "Leave --layout out.",
        )
    return recognised if layout == "auto" else layout


def _explain_names(tensors: Weights) -> str:
    """What weights of no known layout are, where their names tell."""
    if any(name in tensors and tensors[name].ndim == 2 for name in _OWN_PROJECTIONS):
        return "These names are maekit's own: `maekit finetune --from FILE` takes a safetensors file of them as it is."
    if any(name.endswith("attn.q_bias") for name in tensors):
        return (
            "Queries and values have biases of their own (`q_bias`, `v_bias`), as in BEiT, VideoMAE and MAE-pytorch, whose "
            "encoders differ from maekit's: they have no class token or other positions. Such weights are not read."
        )
    if any(name.endswith("patch_embed.proj.weight") for name in tensors):
        return "There is no `cls_token`, and maekit's transformers have one: choose a checkpoint with a class token."
    return ""


def _check_outside(network: Network, file: Path, partial: bool) -> None:
    """Refuse weights beside those of the network, unless it was said that some may be left out.

    Raises:
        UserError: there are such weights.
    """
    if network.outside and not partial:
        raise UserError(
            f"weights beside those under the prefix {network.prefix!r}",
            location=str(file),
            value=summarise_names(network.outside),
            expected="all of them under one prefix",
            hint="--partial leaves them out.",
        )


def _check_task(loaded: LoadedRecipe, file: Path, classes: int) -> None:
    """Check that weights with a head go to a classification recipe, and all others to a pretraining recipe."""
    location, name, task = loaded.locate("task", "name"), loaded.recipe.task.name, task_class(loaded)
    if not (task.has_autoencoder or task.is_linear_classifier):
        raise UserError(
            "only the weights of autoencoders and classifiers can be imported",
            location=location,
            value=name,
            expected="a recipe of such a task, like pretraining or classification",
        )
    if classes and task.has_autoencoder:
        raise UserError(
            "weights of a classifier",
            location=str(file),
            value=f"a head of {classes} classes",
            expected="a recipe of a classifier",
            hint="Name the fine-tuning recipe.",
        )
    if not classes and task.is_linear_classifier:
        raise UserError(
            "weights without a head",
            location=str(file),
            expected="a head, for a recipe of a classifier",
            hint="Name the pretraining recipe (with --partial where there is no decoder), then `maekit finetune --from` the run.",
        )


def _check_head(loaded: LoadedRecipe, weights: Weights, file: Path) -> None:
    """Check pooling and the norm before the head, in which heads of the same shape may differ."""
    if "norm.running_mean" in weights:
        imported = "pooling: class, tune: frozen"
    else:
        imported = f"pooling: {'mean' if 'norm.weight' in weights else 'class'}, tune: full"
    options = loaded.recipe.task.options
    tune = "frozen" if options.get("tune") == "frozen" else "full"
    own = f"pooling: {options.get('pooling', 'mean')}, tune: {tune}"
    if imported != own:
        settings = " ".join(f"--set task.{part.replace(': ', '=')}" for part in imported.split(", "))
        raise UserError(
            "a classifier of another kind",
            location=str(file),
            value=imported,
            expected=f"{own}, as in the recipe",
            hint=f"Add {settings}, or name another recipe.",
        )


def _resample(task: Task, weights: Weights, grid: tuple[int, ...], file: Path) -> list[str]:
    """Resample position tables in `weights` to the grid of the task's samples.

    Returns:
        A note on each that was resampled.

    Raises:
        UserError: patches of another size.
    """
    own, notes = task.state_dict(), []
    check_patch_size(own, weights, file)
    for name in own:
        if name.endswith("pos_embed") and name in weights and weights[name].shape != own[name].shape:
            before, after = weights[name], resample_positions(weights[name], grid)
            if after is not before:
                weights[name] = after
                notes.append(f"{name} resampled from {before.shape[1]} to {after.shape[1]} positions")
    return notes


def _complete(own: Weights, weights: Weights, file: Path, partial: bool) -> Mismatch:
    """With `partial`, remove unexpected weights and add missing ones from `own`, in place.

    Returns:
        What was missing and what was removed.

    Raises:
        UserError: shapes differ, or weights are missing or unexpected without `partial`.
    """
    mismatch = compare_weights(own, weights)
    if partial:
        _check_encoder(own, mismatch, file)
    _check_finite(weights, file)
    if mismatch.of_another_shape or (any(mismatch) and not partial):
        raise UserError(
            f"weights that do not fit; {mismatch.describe(own)}",
            location=str(file),
            expected="all weights of this recipe's model",
            hint="Check the sizes of the recipe's model; --partial leaves unknown weights out, and initialises missing ones.",
        )
    for name in mismatch.unexpected:
        del weights[name]
    weights |= {name: own[name] for name in mismatch.missing}
    return mismatch


def _check_encoder(own: Weights, mismatch: Mismatch, file: Path) -> None:
    """Refuse an encoder that would compute something else without the weights that do not fit, whatever may be left out.

    Raises:
        UserError: patches or blocks have more weights than the recipe's, or fewer.
    """
    missing = [name for name in mismatch.missing if _ENCODER.search(name)]
    unexpected = [name for name in mismatch.unexpected if _ENCODER.search(name)]
    if not (missing or unexpected) or mismatch.of_another_shape:
        return
    raise UserError(
        "an encoder of another architecture; " + Mismatch(missing, unexpected, []).describe(own),
        location=str(file),
        expected="the encoder of this recipe, whole",
        hint="Set `model.encoder.depth` to its number of blocks if only that differs. Blocks with further parts (LayerScale, norms "
        "of queries and keys, gated MLPs) are not read; --partial leaves out what is beside the encoder only.",
    )


def _check_finite(weights: Weights, file: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        UserError: there are such.
    """
    wrong = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise UserError(
            "weights that are not finite",
            location=str(file),
            value=summarise_names(wrong),
            expected="numbers",
            hint="The training that wrote it had diverged: take an earlier checkpoint.",
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
